"""`acn-hf compress --finetune`: cut, train, measure again, write."""

import json
import re
import shutil

import pytest
import torch
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

from acn_hf import CardFacts, truncate
from tests.support.command_line import (
    IMAGES,
    checkpoint,
    draw_pictures,
    names_in,
    one_line,
    pictures,
    residual,
    reviews,
    run,
    wrong_usage,
)
from tests.support.families import NUM_LAYERS

__all__ = ["checkpoint", "pictures", "residual", "reviews", "run"]


@pytest.fixture
def train(tmp_path):
    return draw_pictures(tmp_path / "train", 12, shade=7)


def test_the_cut_model_is_trained_and_measured_again(run, build, checkpoint, pictures, train, tmp_path):
    out = tmp_path / "short"
    how = ("--finetune-epochs", 5, "--learning-rate", 1e-2, "--finetune-batch-size", 4, "--seed", 7)
    result = run(
        "compress", checkpoint, pictures, out, "--metric", "loss", "--depth", 2, "--finetune", train, *how
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Fine-tuning 2 layers: 15 steps" in result.output
    written = json.loads((out / "result.json").read_text())
    cut = dict(zip(written["profile"]["depths"], written["profile"]["values"], strict=True))[2]
    assert (written["depth"], written["finetuned"] < cut) == (2, True)
    assert f"{written['finetuned']:.4f}" in result.output
    assert "loss, fine-tuned" in result.output
    assert "warning" not in result.output
    short = AutoModelForImageClassification.from_pretrained(out)
    assert short.config.num_hidden_layers == 2
    start = truncate(build(IMAGES), 2).state_dict()
    assert not torch.equal(short.classifier.weight, start["classifier.weight"])
    facts = CardFacts.load(out / "model_card.json")
    assert facts.finetuned == written["finetuned"]
    assert facts.training["num_train_epochs"] == 5
    assert (facts.training["learning_rate"], facts.training["seed"]) == (1e-2, 7)
    text = (out / "README.md").read_text()
    assert "Fine-tuned on train (train)." in text
    assert "changes nothing" not in text
    assert str(tmp_path) not in text
    assert f"value: {written['finetuned']}" in text


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_the_precision_is_the_one_that_was_asked_for(run, checkpoint, pictures, train, tmp_path, precision):
    how = ("--depth", 2, "--finetune", train, "--finetune-epochs", 1, "--precision", precision)
    result = run("compress", checkpoint, pictures, tmp_path / "short", *how)
    assert result.exit_code == 0, result.output
    assert CardFacts.load(tmp_path / "short" / "model_card.json").training["bf16"] is (precision == "bf16")


def test_a_training_that_does_harm_is_said(run, checkpoint, pictures, tmp_path):
    train = tmp_path / "wrong"
    for old, new in (("0", "1"), ("1", "2"), ("2", "0")):  # called as no measured one is
        shutil.copytree(pictures / old, train / new)
    how = ("--finetune-epochs", 20, "--learning-rate", 1e-2, "--finetune-batch-size", 2)
    command = ("compress", checkpoint, pictures, tmp_path / "short", "--metric", "loss", "--depth", 2)
    result = run(*command, "--finetune", train, *how)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("warning: 6 of 6 rows of DATA are in the training data too")
    values = re.fullmatch(r"warning: fine-tuning made it worse: loss (\S+) as cut, (\S+) fine-tuned", lines[1])
    assert float(values[1]) < float(values[2])


def test_a_text_classifier_of_transformers_is_converted_cut_and_trained(run, residual, reviews, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "good film,2\nbad film,0\nfilm,1\n" * 4)
    options = ("--convert", "--depth", 1, "--finetune", tmp_path / "train.csv", "--finetune-epochs", 1)
    result = run("compress", residual, reviews, tmp_path / "short", *options)
    assert result.exit_code == 0, result.output
    assert "accuracy, fine-tuned" in result.output
    short = AutoModelForSequenceClassification.from_pretrained(tmp_path / "short")
    assert (short.config.num_hidden_layers, short.config.residual_scale) == (1, 1.0)
    assert "vocab.txt" in names_in(tmp_path / "short") or "tokenizer.json" in names_in(tmp_path / "short")


def test_the_same_seed_gives_the_same_model(run, checkpoint, pictures, train, tmp_path):
    values = []
    for name in ("one", "two"):
        options = ("--metric", "loss", "--depth", 1, "--finetune", train, "--finetune-epochs", 1)
        assert run("compress", checkpoint, pictures, tmp_path / name, *options).exit_code == 0
        values.append(json.loads((tmp_path / name / "result.json").read_text())["finetuned"])
    assert values[0] == values[1]


@pytest.mark.parametrize("depth", [0, NUM_LAYERS])
def test_a_depth_that_is_given_is_cut_at(run, checkpoint, pictures, tmp_path, depth):
    result = run("compress", checkpoint, pictures, tmp_path / "short", "--depth", depth)
    assert result.exit_code == 0, result.output
    assert re.search(rf"Compressed to {depth} of {NUM_LAYERS} layers", result.output)


# --- refused, before anything is measured or written


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--depth", 1, "--tolerance", 0.1), "--depth 1 leaves nothing to choose; --tolerance must not be given"),
        (("--depth", 1, "--relative"), "--relative must not be given"),
        (("--depth", 1, "--confidence", 0.9), "--confidence must not be given"),
        (("--learning-rate", 0.1), "--learning-rate is for --teach or --finetune, one of which must be"),
        (("--seed", 1), "--seed is for --teach or --finetune"),
        (("--precision", "bf16"), "--precision is for --teach or --finetune"),
        (("--finetune-split", "train"), "--finetune-split is for --finetune"),
        (("--depth", -1), "depth"),
    ],
    ids=str,
)
def test_options_that_would_do_nothing_are_wrong_usage(run, checkpoint, pictures, tmp_path, options, text):
    assert text in wrong_usage(run("compress", checkpoint, pictures, tmp_path / "short", *options))
    assert not (tmp_path / "short").exists()


def test_what_is_measured_on_is_not_trained_on(run, residual, reviews, pictures, checkpoint, tmp_path):
    command = ("compress", residual, reviews, tmp_path / "short", "--convert", "--finetune")
    assert "must train on other data than those it is measured on" in wrong_usage(run(*command, reviews))
    (tmp_path / "link.csv").symlink_to(reviews)
    assert "must train on other data" in wrong_usage(run(*command, tmp_path / "link.csv"))
    assert "must train on other data" in wrong_usage(run(*command, pictures / ".." / reviews.name))
    same = ("compress", checkpoint, pictures, tmp_path / "short", "--split", "train", "--finetune", pictures)
    assert "must train on other data" in wrong_usage(run(*same))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--finetune-epochs", 0), "num_epochs and learning_rate must be > 0; got 0.0 and 5e-05"),
        (("--learning-rate", 0), "got 3.0 and 0.0"),
        (("--finetune-split", "exam"), "split must be one of train; got 'exam'"),
        (("--depth", NUM_LAYERS + 1), f"depth must lie in [0, {NUM_LAYERS}] for this model; got {NUM_LAYERS + 1}"),
        (("--learning-rate", 1e38, "--finetune-epochs", 2), "the trained weights must be finite numbers"),
    ],
    ids=str,
)
def test_a_training_that_cannot_be_is_one_line(run, checkpoint, pictures, train, tmp_path, options, text):
    result = run("compress", checkpoint, pictures, tmp_path / "short", "--finetune", train, *options)
    *progress, line = result.stderr.strip().splitlines()
    assert (result.exit_code, line.startswith("error: "), text in line) == (1, True, True), result.stderr
    assert all(said.startswith(("warning: ", "Fine-tuning 0 layers: ")) for said in progress)
    assert not (tmp_path / "short").exists()


def test_training_data_that_do_not_fit_are_one_line(run, checkpoint, residual, reviews, pictures, tmp_path):
    (tmp_path / "train.csv").write_text("text,label\ngood,7\n")
    command = ("compress", residual, reviews, tmp_path / "short", "--convert", "--finetune")
    assert "a label must be one of" in one_line(run(*command, tmp_path / "train.csv"))
    assert "there must be a file" in one_line(run(*command, tmp_path / "missing.csv"))
    assert not (tmp_path / "short").exists()
