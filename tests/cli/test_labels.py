"""Commands and scripts with a checkpoint whose config names its classes in `id2label` alone, as upstream allows."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from acn_hf import AcnBertConfig, AcnBertForSequenceClassification
from tests.support.command_line import run, tokenizer
from tests.support.processes import ROOT
from tests.support.programs import run_program

__all__ = ["run"]

KINDS = {
    "acn": (AcnBertConfig, AcnBertForSequenceClassification),
    "bert": (BertConfig, BertForSequenceClassification),
}
WRITTEN = {
    "names": ("good", "bad"),
    "numbers": (1, 0),
    "truth values": (True, False),
    "numbers as text": ("1", "0"),
}


@pytest.fixture(params=KINDS)
def named(request, tmp_path):
    """A checkpoint that knows the names of its classes by their ids alone."""
    config_class, model_class = KINDS[request.param]
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}
    words = tokenizer()
    config = config_class(vocab_size=len(words), id2label={0: "bad", 1: "good"}, **sizes)
    assert config.label2id is None
    model_class(config).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def written(folder, way):
    good, bad = WRITTEN[way]
    rows = [{"text": text, "label": label} for text, label in (("good film", good), ("bad", bad), ("film", good))]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "data.jsonl"


@pytest.mark.parametrize("way", WRITTEN)
def test_profile_and_compress(run, named, tmp_path, way):
    data = written(tmp_path, way)
    result = run("profile", named, data)
    assert result.exit_code == 0, result.output
    assert "3 examples" in result.output
    result = run("compress", named, data, tmp_path / "short", "--tolerance", 1)
    assert result.exit_code == 0, result.output
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "short").config
    assert config.id2label == {0: "bad", 1: "good"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WRITTEN)
def test_a_script_goes_on_with_it(named, tmp_path, way):
    data = written(tmp_path, way)
    options = {"model_name_or_path": named, "train_file": data, "validation_file": data, "output_dir": tmp_path / "out"}
    argv = [word for name, value in options.items() for word in (f"--{name}", value)]
    quick = ("--do_train", "--do_eval", "--max_steps", 1, "--use_cpu", "True", "--disable_tqdm", "True")
    done = run_program(ROOT / "examples" / "run_text_classification.py", *argv, *quick)
    assert done.returncode == 0, done.stderr
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config
    assert config.num_labels == 2
    if way == "names":
        assert config.id2label == {0: "bad", 1: "good"}
