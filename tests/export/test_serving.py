"""The page on export runs, and what it exports is served where neither torch nor acn_hf can be imported."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer

import acn_hf
from acn_hf.demo import processor
from acn_hf.export.inputs import input_shapes, random_inputs
from tests.support.any_models import any_model
from tests.support.exporting import outputs, run_onnx

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
BLOCK = {
    name: next(block for block in BLOCKS if block.startswith(f"# serve {name}"))
    for name in ("images", "texts", "a program")
}
TEXTS = ["a very good film", "bad", "a good bad film a very bad film", "unknown words"]
PICTURES = ["0.png", "1.png", "2.png"]
WITHOUT = """
import sys
for name in {names}:
    sys.modules[name] = None
"""
CHECK_NOTHING_CAME = """
assert not [name for name in sys.modules if sys.modules[name] and name.split(".")[0] in {names}]
"""
SAVE_MODELS = """
vision.save_pretrained("vision-model", depth=2)
text.save_pretrained("text-model")
"""


def run(program, folder):
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A folder in which the first block of the page ran, with checkpoints of the models and some images."""
    folder = tmp_path_factory.mktemp("page")
    numbers = np.random.default_rng(0)
    for name in PICTURES:
        Image.fromarray(numbers.integers(0, 256, (13, 11, 3), dtype=np.uint8)).save(folder / name)
    # With larger random weights than usual, so that the labels of different examples differ; and fewer layers.
    sizes = "hidden_size=48, num_hidden_layers="
    assert BLOCKS[0].count(f"{sizes}4") == 2
    varied = BLOCKS[0].replace(f"{sizes}4", f"initializer_range=0.3, {sizes}2")
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(varied + SAVE_MODELS, str(PAGE), "exec"), {"__name__": "__main__"})
    assert printed.getvalue().splitlines()[-1].startswith("images/model.onnx 2 ")
    return folder


def served(block, forbidden, end, folder):
    """Run a block of the page in a process in which the forbidden packages cannot be imported."""
    names = repr(forbidden)
    program = WITHOUT.format(names=names) + block + end + CHECK_NOTHING_CAME.format(names=names)
    return run(program, folder).splitlines()


def labels_of(logits, folder):
    names = AutoConfig.from_pretrained(folder).id2label
    return [names[int(label)] for label in logits.argmax(-1)]


def test_another_model_is_exported_in_the_same_way(tmp_path):
    (block,) = (block for block in BLOCKS if "LlamaForCausalLM" in block)
    printed = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(printed), torch.random.fork_rng():
        exec(compile(block, str(PAGE), "exec"), {"__name__": "__main__"})
    assert "language/model.pt2" in printed.getvalue()
    assert AutoConfig.from_pretrained(tmp_path / "language").num_hidden_layers == 2


LOAD_AND_RUN = """
import torch
for name, (inputs, expected) in torch.load("expected.pt").items():
    with torch.no_grad():
        found = torch.export.load(f"{name}/model.pt2").module()(**inputs)
    print(max(float((found[key] - value).abs().max()) for key, value in expected.items()))
"""


@pytest.mark.slow
def test_programs_of_other_models_need_torch_alone(tmp_path):
    expected = {}
    for name in (
        "ModernBertForMaskedLM",
        "LlamaForCausalLM",
        "MixtralForCausalLM",
        "Wav2Vec2ForSequenceClassification",
    ):
        model = any_model(name).build()
        acn_hf.export_program(model, tmp_path / name, depth=1)
        short = acn_hf.truncate(model, 1)
        inputs = random_inputs(short, input_shapes(short), 3, 6)
        expected[name] = inputs, {key: torch.as_tensor(value) for key, value in outputs(short, inputs).items()}
    torch.save(expected, tmp_path / "expected.pt")
    printed = served(LOAD_AND_RUN, ["acn_hf", "transformers"], "", tmp_path)
    assert len(printed) == len(expected)
    assert max(map(float, printed)) < 1e-5


@pytest.mark.slow
def test_images_are_served_without_torch(page):
    from acn_hf import AcnViTForImageClassification

    model = AcnViTForImageClassification.from_pretrained(page / "vision-model")
    images = [Image.open(page / name) for name in PICTURES]
    with torch.no_grad():
        expected = labels_of(model(**processor()(images, return_tensors="pt")).logits, page / "images")
    forbidden = ["torch", "acn_hf", "transformers"]
    found = served(BLOCK["images"], forbidden, f"print(*predict({PICTURES}), sep='\\n')\n", page)
    assert found == expected
    assert len(set(found)) > 1


@pytest.mark.slow
def test_texts_are_served_without_torch(page):
    from acn_hf import AcnBertForSequenceClassification

    model = AcnBertForSequenceClassification.from_pretrained(page / "text-model")
    tokenizer = AutoTokenizer.from_pretrained(page / "texts")
    with torch.no_grad():
        logits = model(**tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")).logits
    found = served(
        BLOCK["texts"], ["torch", "acn_hf", "transformers"], f"print(*predict({TEXTS!r}), sep='\\n')\n", page
    )
    assert found == labels_of(logits, page / "texts")
    assert set(found) == {"bad", "good"}


@pytest.mark.slow
def test_int8_is_served_as_the_rest_is(page):
    block = BLOCK["texts"].replace('Path("texts")', 'Path("texts-int8")').replace("model.onnx", "model_int8.onnx")
    inputs = AutoTokenizer.from_pretrained(page / "texts-int8")(TEXTS, padding=True, return_tensors="pt")
    logits = run_onnx(page / "texts-int8" / "model_int8.onnx")(inputs)["logits"]
    found = served(block, ["torch", "acn_hf", "transformers"], f"print(*predict({TEXTS!r}), sep='\\n')\n", page)
    assert found == labels_of(logits, page / "texts-int8")


@pytest.mark.slow
def test_a_program_is_served_without_this_package_and_transformers(page):
    from acn_hf import AcnBertForSequenceClassification

    model = AcnBertForSequenceClassification.from_pretrained(page / "text-model").eval()
    printed = served(BLOCK["a program"], ["acn_hf", "transformers"], "print(logits.tolist())\n", page)
    ids = torch.tensor([[2, 9, 7, 6, 3], [2, 8, 6, 3, 0]])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=(ids > 0).long()).logits
    assert torch.allclose(torch.tensor(eval(printed[-1])), expected, atol=1e-5)


@pytest.mark.slow
def test_exported_folders_hold_what_the_page_says(page, files):
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert set(files(page / "images")) == {"config.json", "model.onnx", "preprocessor_config.json"}
    assert set(files(page / "texts")) == {"config.json", "model.onnx"} | tokenizer
    assert set(files(page / "texts-int8")) == {"config.json", "model_int8.onnx"} | tokenizer
    assert set(files(page / "texts-torch")) == {"config.json", "model.pt2"} | tokenizer
