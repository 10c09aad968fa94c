"""Upstream's classes read an ACN if they compute the same, and refuse it with its own words if they do not."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import PreTrainedConfig

from acn_hf.modeling.configuration_acn import NOT_UPSTREAM
from tests.support.families import BASES, HEADS, by_name, each_head

CLASSIFIER = by_name("bert-ForSequenceClassification")
READER = Path(__file__).parents[1] / "support" / "upstream_reader.py"
NAMED = [head for head in HEADS if hasattr(transformers, f"{head.acn.__name__.removeprefix('Acn')}")]
OTHER = {
    "acn": {"residual_scale": 0.0},
    "hybrid": {"residual_scale": [1.0, 1.0, 0.5]},
    "learned": {"residual_scale": 1.0, "learn_residual_scale": True},
    "sum": {"residual_scale": 1.0, "readout": "sum"},
}
SAME = {
    "residual": {"residual_scale": 1.0},
    "residual list": {"residual_scale": [1.0, 1.0, 1.0]},
    "gradients": {"residual_scale": 1.0, "direct_gradient_only": True},
}


def words(head):
    kind = head.acn.config_class.model_type
    return (
        f"an Auto-Compressing Network ({kind}), whose layers other classes connect in another way; load it with an "
        "Auto class of transformers, after `import acn_hf` (0.2 or newer) or with trust_remote_code=True"
    )


def stored(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.slow
def test_where_acn_hf_cannot_be_imported(tmp_path):
    jobs, expected = [], {}
    for head in NAMED:
        for kind, options in (OTHER | SAME).items():
            model, name = head.build(**options), f"{head.name} {kind}"
            model.save_pretrained(tmp_path / name)
            reader, inputs = head.acn.__name__.removeprefix("Acn"), head.inputs()
            jobs.append({"name": name, "folder": str(tmp_path / name), "reader": reader, "inputs": inputs})
            if kind in OTHER or head.own_fields:
                expected[name] = words(head)
            else:
                with torch.no_grad():
                    expected[name] = model(**inputs)[0]
    torch.save(jobs, tmp_path / "jobs.pt")
    command = [sys.executable, str(READER), str(tmp_path / "jobs.pt"), str(tmp_path / "answers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    errors, outputs = json.loads((tmp_path / "answers.json").read_text()), load_file(tmp_path / "answers.safetensors")
    assert errors.keys() | outputs.keys() == expected.keys()
    assert errors
    assert outputs
    for name, what in expected.items():
        if isinstance(what, str):
            assert what in errors[name], name
        elif name.endswith("gradients"):  # the sum is held in another way then
            torch.testing.assert_close(outputs[name], what, msg=name)
        else:
            assert torch.equal(outputs[name], what), name


@pytest.mark.parametrize("reader", ["BertModel", "BertForMaskedLM", "RobertaForSequenceClassification"])
@pytest.mark.parametrize("options", [{}, {"attn_implementation": "eager"}, {"num_labels": 5}, {"dtype": "bfloat16"}])
def test_whatever_class_and_options_it_is_read_with(build, reader, options, tmp_path):
    build(CLASSIFIER).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=re.escape(words(CLASSIFIER))):
        getattr(transformers, reader).from_pretrained(tmp_path, **options)


@pytest.mark.parametrize("options", (OTHER | SAME).values(), ids=OTHER | SAME)
@each_head(BASES)
def test_the_config_is_the_same_when_it_is_read(head, options, tmp_path):
    config = head.config(**options)
    config.save_pretrained(tmp_path)
    assert (NOT_UPSTREAM in stored(tmp_path)) is (options in OTHER.values())
    kind = type(config)
    for read in (
        transformers.AutoConfig.from_pretrained(tmp_path),
        kind.from_pretrained(tmp_path),
        kind.from_json_file(tmp_path / "config.json"),
        kind(**stored(tmp_path)),
    ):
        assert type(read) is kind
        assert read.to_diff_dict() == kind(**config.to_dict()).to_diff_dict()
        assert read._experts_implementation is None
    assert NOT_UPSTREAM not in config.to_dict()


@each_head(BASES)
def test_what_reads_no_more_than_a_config_can(head, tmp_path):
    """Trainers that resume, and tokenizers, read a config as one of no family."""
    head.config().save_pretrained(tmp_path)
    assert PreTrainedConfig.from_pretrained(tmp_path).num_hidden_layers == 3
    assert PreTrainedConfig.from_json_file(tmp_path / "config.json").residual_scale == 0.0


def test_an_entry_of_somebody_else_stays():
    config = CLASSIFIER.config(experts_implementation="eager")
    assert config._experts_implementation == "eager"
    assert CLASSIFIER.acn(config).config.num_hidden_layers == 3


def test_it_says_what_the_model_is_when_it_is_saved(build, tmp_path):
    model = build(CLASSIFIER, residual_scale=1.0)
    model.save_pretrained(tmp_path)
    assert NOT_UPSTREAM not in stored(tmp_path)
    model.config.residual_scale = 0.5
    model.save_pretrained(tmp_path)
    assert stored(tmp_path)[NOT_UPSTREAM] == words(CLASSIFIER)
    model.config.residual_scale = 1.0
    model.save_pretrained(tmp_path)
    assert NOT_UPSTREAM not in stored(tmp_path)


def test_the_mean_of_the_tokens_is_not_what_upstream_reads(build, tmp_path):
    for head in HEADS:
        if head.name.endswith("-mean"):
            build(head, residual_scale=1.0).save_pretrained(tmp_path / head.name)
            assert stored(tmp_path / head.name)[NOT_UPSTREAM] == words(head)
