"""Running the command `acn-hf`, and small checkpoints and data for it."""

import contextlib
import json

import datasets
import pytest
import transformers
from PIL import Image
from transformers import BertTokenizerFast, GPT2Config, GPT2LMHeadModel, ViTImageProcessorPil
from typer.testing import CliRunner

from acn_hf import cli
from tests.support.families import NUM_LAYERS, by_name

CLASSIFIER, IMAGES = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
GREY = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
not_ours = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""By huggingface_hub's own call to httpx."""

DAMAGES = {
    "cut off": "model must be whole",
    "no weights": "model.safetensors",
    "no config": "must be a checkpoint",
    "missing layer": f"it holds {NUM_LAYERS} complete layers",
}
"""Ways to make a checkpoint incomplete, and what is said of it."""


@contextlib.contextmanager
def quiet_command():
    """Give a function that runs the command, which is the only one to be quiet: what it silences is put back."""
    loggers = (transformers.utils.logging, datasets.utils.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    wide = {"COLUMNS": "500"}  # a long path that is broken in two is none
    yield lambda *arguments: CliRunner(env=wide).invoke(cli.app, [str(argument) for argument in arguments])
    for logger, level in zip(loggers, levels, strict=True):
        logger.set_verbosity(level)


@pytest.fixture
def run():
    with quiet_command() as command:
        yield command


@pytest.fixture
def checkpoint(build, tmp_path):
    """An AC-ViT with its image processor."""
    build(IMAGES).save_pretrained(tmp_path / "model")
    GREY.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def residual(build, tmp_path):
    """A BERT of transformers that classifies texts, with its tokenizer."""
    CLASSIFIER.build_upstream(build(CLASSIFIER)).save_pretrained(tmp_path / "bert")
    tokenizer().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def pictures(tmp_path):
    return draw_pictures(tmp_path / "images", 6)


@pytest.fixture
def reviews(tmp_path):
    """A table of texts to measure on."""
    (tmp_path / "reviews.csv").write_text("text,label\ngood film,2\nbad,0\ngood good good film,1\n")
    return tmp_path / "reviews.csv"


@pytest.fixture
def gpt2(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=1)).save_pretrained(
        tmp_path / "gpt2"
    )
    return tmp_path / "gpt2"


def draw_pictures(folder, number, shade=0):
    """Draw pictures of three classes into a folder; those of another shade are others."""
    for index in range(number):
        (folder / str(index % 3)).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 240 * index // number + shade).save(folder / str(index % 3) / f"{index}.png")
    return folder


def damage(folder, kind):
    """Make a checkpoint incomplete."""
    weights = folder / "model.safetensors"
    if kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "no config":
        (folder / "config.json").unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": NUM_LAYERS + 1}))


def tokenizer():
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})


def one_line(result):
    """Return the line of a run that failed: exit code 1, and nothing else on stderr."""
    assert result.exit_code == 1, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def wrong_usage(result):
    """Return what is said of wrong usage, exit code 2, without the frame around it."""
    assert result.exit_code == 2, result.output
    return " ".join(result.output.replace("│", "").split())


def names_in(folder):
    return {path.name for path in folder.iterdir()}
