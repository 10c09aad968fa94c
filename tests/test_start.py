"""What is imported when: help and wrong usage answer at once, and `import acn_hf` waits for transformers.

Each case is a process of its own, which prints what it has imported.
"""

import json
import subprocess
import sys

import pytest

HEAVY = {"accelerate", "datasets", "evaluate", "matplotlib", "numpy", "pandas", "peft", "scipy", "sklearn", "torch"}
HEAVY |= {"huggingface_hub", "tokenizers", "transformers"}
NOT_FOR_REGISTRATION = {
    "datasets",
    "evaluate",
    "matplotlib",
    "pandas",
    "peft",
    "sentence_transformers",
    "sklearn",
    "onnx",
}
NOT_FOR_REGISTRATION |= {"IPython", "altair", "gradio", "tensorboard", "typer", "vl_convert"}
"""What nothing of transformers imports either, where a model is loaded."""

REPORT = """
import atexit, json, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules))))
"""


def imported_by(program, code=0):
    """Return the names of all modules that a process has imported at its end."""
    done = subprocess.run([sys.executable, "-c", REPORT + program], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*words):
    """Return a program that runs a command of the command line."""
    return f"sys.argv = ['acn-hf', *{words!r}]\nfrom acn_hf.cli import main\nmain()"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("profile", "--help"), 0),
        (("compress", "--help"), 0),
        (("app",), 2),
        (("compress", "model"), 2),
        (("nonsense",), 2),
        (("profile", "model", "data", "--metric", "nonsense"), 2),
        (("profile", "model", "data", "--batch-size", "0"), 2),
        (("compress", "model", "data", __file__), 2),
        (("convert", "model", "out", "--residual-scale", "much"), 2),
        (("export", "model", "out", "--format", "program", "--int8"), 2),
        (("convert", "model", "out", "--to-residual", "--readout", "sum"), 2),
        (("card", "no-such-folder"), 2),
        (("push", "no-such-folder", "someone/acn"), 2),
    ],
    ids=lambda value: "-".join(value).replace("/", "_")[-40:] if isinstance(value, tuple) else None,
)
def test_help_and_wrong_usage_import_nothing_heavy(words, code):
    assert not HEAVY & imported_by(command(*words), code)


def test_importing_the_package_imports_nothing_heavy():
    assert not HEAVY & imported_by("import acn_hf; acn_hf.__version__")


@pytest.mark.parametrize(
    "order", ["import acn_hf, transformers", pytest.param("import transformers, acn_hf", marks=pytest.mark.slow)]
)
def test_registration_imports_what_it_needs_and_no_more(order):
    imported = imported_by(order)
    assert "acn_hf.modeling.modeling_acn_bert" in imported
    assert not NOT_FOR_REGISTRATION & imported
    assert {name.split(".")[1] for name in imported if name.startswith("acn_hf.")} == {"auto", "modeling"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import acn_hf",
        "from acn_hf.modeling.modeling_acn_vit import AcnViTModel",
        "import acn_hf.auto",
        "import acn_hf.modeling.connectivity",
        "from acn_hf import truncate",
        "import acn_hf.depth.cost",
        "import transformers, acn_hf",
        "from transformers import BertModel; import acn_hf",
    ],
)
def test_the_models_are_registered_whatever_is_imported_first(first):
    program = f"""
{first}
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("acn_vit", num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=8)
model = AutoModel.from_config(config)
assert type(model).__name__ == "AcnViTModel" and model._auto_class == "AutoModel", type(model)
"""
    assert "acn_hf.modeling.modeling_acn_vit" in imported_by(program)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import acn_hf, peft", "import peft, acn_hf", "import acn_hf, transformers, peft"])
def test_peft_knows_the_models_whatever_is_imported_first(first):
    program = f"""
{first}
from peft.utils import constants
assert "acn_bert" in constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
"""
    assert "peft" in imported_by(program)
