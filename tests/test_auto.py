"""Every Auto class and pipeline of transformers serves the models as it serves its own."""

import inspect
import logging

import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, BertTokenizer, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import acn_hf
from tests.support.families import BASES, by_name, each_head

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "paris", "is", "a", "city"]
TEXT = "the cat sat on the mat"

TEXT_PIPELINES = {
    "text-classification": ("bert-ForSequenceClassification", TEXT),
    "token-classification": ("bert-ForTokenClassification", TEXT),
    "fill-mask": ("bert-ForMaskedLM", "the [MASK] sat"),
    "feature-extraction": ("bert-Model", TEXT),
    "question-answering": ("bert-ForQuestionAnswering", {"question": "is paris a city", "context": TEXT}),
}
SUPPORTED = {task: case for task, case in TEXT_PIPELINES.items() if task in PIPELINE_REGISTRY.get_supported_tasks()}


@pytest.fixture
def tokenizer():
    return BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=16)


@pytest.fixture
def transformers_log(caplog):
    """Return the messages that transformers logs, errors and warnings."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    logger.removeHandler(caplog.handler)


@each_head()
def test_auto_model_loads_the_head(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path)
    auto = getattr(transformers, head.auto)
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is head.acn
    inputs = head.inputs()
    with torch.no_grad():
        assert torch.equal(model(**inputs)[0], loaded(**inputs)[0])


@each_head()
def test_auto_model_builds_the_head_from_a_config(head):
    config = head.config(architectures=[head.acn.__name__])  # by it an Auto class chooses that serves two
    assert type(getattr(transformers, head.auto).from_config(config)) is head.acn


@each_head()
def test_auto_model_loads_the_body_of_every_head(build, head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path)
    body = transformers.AutoModel.from_pretrained(tmp_path).state_dict()
    expected = model.base_model.state_dict()
    shared = expected.keys() & body.keys()
    assert any(model.layers_name in name for name in shared)
    assert all(torch.equal(expected[name], body[name]) for name in shared)


@each_head(BASES)
def test_auto_config(head):
    config = AutoConfig.for_model(head.acn.config_class.model_type)
    assert type(config) is head.acn.config_class


def test_every_model_class_is_served_by_an_auto_class():
    classes = {
        value.__name__
        for name, value in vars(acn_hf).items()
        if inspect.isclass(value) and issubclass(value, transformers.PreTrainedModel)
    }
    configs = [value for name, value in vars(acn_hf).items() if name.endswith("Config") and name.startswith("Acn")]
    tables = [table for config in configs for table in (config.auto_classes, config.second_classes)]
    served = {reference.rpartition(".")[2] for table in tables for reference in table.values()}
    assert classes
    assert classes == {name for name in served if not name.endswith("Config")}


@each_head()
def test_auto_map_of_a_checkpoint_names_every_auto_class(build, head, tmp_path):
    build(head).save_pretrained(tmp_path)
    auto_map = transformers.PreTrainedConfig.get_config_dict(tmp_path)[0]["auto_map"]
    saved = f"{head.acn.__module__.rpartition('.')[2]}.{head.acn.__name__}"
    assert auto_map == {**head.acn.config_class.auto_classes, head.auto: saved}
    files = {path.stem for path in tmp_path.glob("*.py")}
    assert {reference.partition(".")[0] for reference in auto_map.values()} <= files


@pytest.mark.parametrize(("task", "case"), SUPPORTED.items(), ids=SUPPORTED.keys())
def test_text_pipelines(build, tokenizer, transformers_log, task, case, tmp_path):
    head, text = by_name(case[0]), case[1]
    model = build(head, vocab_size=len(WORDS))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    from_folder = pipeline(task, model=str(tmp_path), device="cpu")
    assert type(from_folder.model) is head.acn
    assert from_folder(text) == pipeline(task, model=model, tokenizer=tokenizer, device="cpu")(text)
    assert transformers_log() == []


def test_the_text_pipeline_returns_the_model_s_probabilities(build, tokenizer):
    model = build(by_name("bert-ForSequenceClassification"), vocab_size=len(WORDS))
    scores = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None)([TEXT])[0]
    with torch.no_grad():
        expected = model(**tokenizer(TEXT, return_tensors="pt")).logits.softmax(-1)[0]
    for entry in scores:
        assert entry["score"] == pytest.approx(expected[model.config.label2id[entry["label"]]].item(), rel=1e-6)


def test_the_cut_model_in_a_pipeline(build, tokenizer, tmp_path):
    model = build(by_name("bert-ForSequenceClassification"), vocab_size=len(WORDS))
    model.save_pretrained(tmp_path, depth=1)
    tokenizer.save_pretrained(tmp_path)
    short = pipeline("text-classification", model=acn_hf.truncate(model, 1), tokenizer=tokenizer, device="cpu")
    assert pipeline("text-classification", model=str(tmp_path), device="cpu")(TEXT) == short(TEXT)


def test_auto_tokenizer(build, tokenizer, tmp_path):
    build(by_name("bert-Model")).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT) == tokenizer(TEXT)


def image_processor():
    """Return a processor for images of 8 by 8 pixels that needs Pillow only."""
    return transformers.ViTImageProcessorPil(size={"height": 8, "width": 8})


def auto_image_processor_needs_torchvision() -> bool:
    try:
        transformers.AutoImageProcessor.register  # noqa: B018
    except ImportError:
        return True
    return False


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_image_pipeline(build, transformers_log, pooling):
    model = build(by_name("vit-ForImageClassification"), pooling=pooling, num_channels=3)
    classify = pipeline("image-classification", model=model, image_processor=image_processor(), device="cpu", top_k=3)
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    with torch.no_grad():
        expected = model(**image_processor()(image, return_tensors="pt")).logits.softmax(-1)[0]
    scores = classify(image)
    assert len(scores) == 3
    for entry in scores:
        assert entry["score"] == pytest.approx(expected[model.config.label2id[entry["label"]]].item(), rel=1e-6)
    assert transformers_log() == []


@pytest.mark.skipif(
    auto_image_processor_needs_torchvision(), reason="AutoImageProcessor of this transformers needs torchvision"
)
def test_image_pipeline_from_a_folder(build, tmp_path):
    model = build(by_name("vit-ForImageClassification"), num_channels=3)
    model.save_pretrained(tmp_path)
    image_processor().save_pretrained(tmp_path)
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    from_folder = pipeline("image-classification", model=str(tmp_path), device="cpu")
    in_memory = pipeline("image-classification", model=model, image_processor=image_processor(), device="cpu")
    assert from_folder(image) == in_memory(image)


DECODERS_ONLY = {"AutoModelForCausalLM"}


@pytest.mark.parametrize(
    ("upstream", "ours"),
    [
        (transformers.BertConfig, acn_hf.AcnBertConfig),
        (transformers.ViTConfig, acn_hf.AcnViTConfig),
        (transformers.DeiTConfig, acn_hf.AcnDeiTConfig),
    ],
    ids=["bert", "vit", "deit"],
)
def test_every_auto_class_that_serves_upstream_serves_us(upstream, ours):
    autos = [getattr(transformers, name) for name in dir(transformers) if name.startswith("AutoModel")]
    mappings = {
        auto.__name__: auto._model_mapping for auto in autos if getattr(auto, "_model_mapping", None) is not None
    }
    serving = {name for name, mapping in mappings.items() if upstream in mapping}
    assert {name for name in serving if ours not in mappings[name]} <= DECODERS_ONLY
    assert serving - DECODERS_ONLY == {name for name, mapping in mappings.items() if ours in mapping}
