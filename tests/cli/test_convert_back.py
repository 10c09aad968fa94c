"""The command convert with --to-residual: an ACN of scale 1 becomes a checkpoint of transformers."""

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from acn_hf import CardFacts, convert_checkpoint
from tests.conversion.test_layouts import original
from tests.support.command_line import CLASSIFIER, one_line, residual, run, wrong_usage
from tests.support.families import HEADS, each_head

__all__ = ["residual", "run"]


@each_head([head for head in HEADS if hasattr(transformers, head.upstream.__name__)])
def test_convert_back(run, build, head, tmp_path):
    acn = build(head, residual_scale=1.0)
    acn.save_pretrained(tmp_path / "acn")
    result = run("convert", tmp_path / "acn", tmp_path / "residual", "--to-residual")
    assert result.exit_code == 0, result.output
    model = head.upstream.from_pretrained(tmp_path / "residual")
    with torch.no_grad():
        for one, other in zip(model(**head.inputs()).to_tuple(), acn(**head.inputs()).to_tuple(), strict=True):
            assert torch.equal(one, other)
    assert f"Converted from an `{head.acn.__name__}` of residual scale 1" in result.output
    assert "from_pretrained" in result.output
    assert not list((tmp_path / "residual").glob("*.py"))
    facts = CardFacts.load(tmp_path / "residual" / "model_card.json")
    assert (facts.architecture, facts.is_acn) == (head.upstream.__name__, False)


def test_convert_back_brings_the_tokenizer(run, residual, tmp_path):
    assert run("convert", residual, tmp_path / "acn", "--residual-scale", 1).exit_code == 0
    assert run("convert", tmp_path / "acn", tmp_path / "back", "--to-residual").exit_code == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "back").get_vocab()["good"] == 5
    before, after = (AutoModelForSequenceClassification.from_pretrained(path) for path in (residual, tmp_path / "back"))
    assert type(after) is type(before)
    assert after.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in after.state_dict().items())


def test_convert_back_to_the_family_or_to_a_class(run, tmp_path):
    original("RobertaForMaskedLM").save_pretrained(tmp_path / "roberta")
    assert run("convert", tmp_path / "roberta", tmp_path / "acn", "--residual-scale", 1).exit_code == 0
    for options, name in ((), "RobertaForMaskedLM"), (("--architecture", "BertForMaskedLM"), "BertForMaskedLM"):
        result = run("convert", tmp_path / "acn", tmp_path / name, "--to-residual", *options)
        assert result.exit_code == 0, result.output
        assert type(transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / name)).__name__ == name


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("residual-scale", (1,)),
        ("residual-scale", (0,)),
        ("no-attention-residual", ()),
        ("readout", ("auto",)),
        ("learn-residual-scale", ()),
        ("pooling", ("cls",)),
    ],
)
def test_convert_back_makes_no_acn(run, option, values, tmp_path):
    text = wrong_usage(run("convert", tmp_path, tmp_path / "out", "--to-residual", f"--{option}", *values))
    assert f"--to-residual makes no ACN; --{option.removeprefix('no-')} must not be given" in text
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted_back(run, residual, build, tmp_path):
    build(CLASSIFIER).save_pretrained(tmp_path / "acn")
    text = one_line(run("convert", tmp_path / "acn", tmp_path / "out", "--to-residual"))
    assert "ConversionError: the residual scale must be 1 in every layer" in text
    text = one_line(run("convert", residual, tmp_path / "out", "--to-residual"))
    assert "TypeError: a model of acn_hf must be given; got BertForSequenceClassification" in text
    assert not (tmp_path / "out").exists()
    with pytest.raises(TypeError, match="to_residual=True makes no ACN, so readout must not be given; got 'sum'"):
        convert_checkpoint(tmp_path / "acn", tmp_path / "out", to_residual=True, readout="sum")
