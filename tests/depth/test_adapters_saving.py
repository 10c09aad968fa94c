"""Adapters and merged models on disk: what is written is what is read, at every depth."""

import json
from functools import partial

import peft
import pytest
import torch
import transformers
from safetensors import safe_open

from acn_hf import depth_logits, truncate
from acn_hf.support.wrappers import unwrap
from tests.support.adapted import (
    WAYS,
    any_peft,
    each_way,
    loaded_by_transformers,
    output,
    quiet,
    same_whatever_is_frozen,
    with_adapter,
    with_peft,
)
from tests.support.families import HEADED, NUM_LAYERS, by_name, each_head, heads_in_turn

__all__ = ["any_peft"]
pytestmark = [quiet, pytest.mark.usefixtures("any_peft")]
BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
DEPTHS = range(NUM_LAYERS + 1)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stored(folder) -> set[str]:
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return set(file.keys())


@each_head(HEADED)
def test_a_cut_peft_model_is_saved_and_read(build, head, tmp_path):
    model = with_peft(build(head))
    expected = depth_logits(model, **head.inputs())
    for depth in DEPTHS:
        folder = tmp_path / str(depth)
        truncate(model, depth).save_pretrained(folder)
        again = peft.PeftModel.from_pretrained(truncate(build(head), depth), folder)
        assert same_whatever_is_frozen(head, depth_logits(again, **head.inputs())[-1], expected[depth])


@each_head(HEADED)
def test_save_with_depth_writes_the_adapter_of_the_layers_that_stay(build, head, tmp_path):
    model = with_adapter(build(head))
    expected = depth_logits(model, **head.inputs())
    for depth in DEPTHS[1:]:
        folder = tmp_path / str(depth)
        model.save_pretrained(folder, depth=depth)
        assert names(folder) >= {"adapter_config.json", "adapter_model.safetensors"}
        again = truncate(build(head), depth)
        has_head = model.peft_config["default"].modules_to_save is not None
        if loaded_by_transformers(partial(again.load_adapter, str(folder)), has_head):
            assert same_whatever_is_frozen(head, depth_logits(again, **head.inputs())[-1], expected[depth])
        by_peft = peft.PeftModel.from_pretrained(truncate(build(head), depth), folder)
        assert same_whatever_is_frozen(head, depth_logits(by_peft, **head.inputs())[-1], expected[depth])
    assert torch.equal(depth_logits(model, **head.inputs()), expected)


@heads_in_turn(HEADED, adapt=WAYS, depth=[None, *DEPTHS])
def test_merged_checkpoints_are_ordinary_ones(build, head, adapt, depth, tmp_path):
    model = adapt(build(head))
    inner = unwrap(model)
    inner.save_pretrained(tmp_path, depth=depth, merge_adapter=True)
    assert not any("adapter" in name for name in names(tmp_path))
    again, info = getattr(transformers, head.auto).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    merged = truncate(model, NUM_LAYERS if depth is None else depth, merge_adapter=True)
    assert torch.equal(output(again, head), output(merged, head))
    assert hasattr(inner, "peft_config")


def test_merge_adapter_changes_nothing_where_there_is_none(build, tmp_path, files):
    model = build(VIT)
    model.save_pretrained(tmp_path / "one", merge_adapter=True, depth=2)
    model.save_pretrained(tmp_path / "other", depth=2)
    assert files(tmp_path / "one") == files(tmp_path / "other")


@heads_in_turn(HEADED, adapt=WAYS)
def test_auto_classes_read_an_adapter_with_its_base(build, head, adapt, tmp_path):
    build(head).save_pretrained(tmp_path / "base", depth=2)
    base = head.acn.from_pretrained(tmp_path / "base")
    model = adapt(base)
    model.save_pretrained(tmp_path / "adapter")
    load = getattr(transformers, head.auto).from_pretrained
    has_head = model.peft_config["default"].modules_to_save is not None
    again = loaded_by_transformers(lambda: load(tmp_path / "adapter"), has_head)
    assert again is None or same_whatever_is_frozen(head, output(again, head), output(model, head))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")


def test_an_adapter_beside_its_base_leaves_the_base(build, tmp_path, files):
    build(BERT).save_pretrained(tmp_path)
    before = files(tmp_path)
    model = with_adapter(BERT.acn.from_pretrained(tmp_path), modules_to_save=None)
    model.save_pretrained(tmp_path)
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(output(again, BERT), output(model, BERT))


def test_merged_weights_do_not_go_beside_an_adapter(build, tmp_path, files):
    model = with_adapter(build(BERT))
    model.save_pretrained(tmp_path)
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match=r"merged weights need a folder without an adapter.*adapter_config\.json"):
        model.save_pretrained(tmp_path, merge_adapter=True)
    assert files(tmp_path) == before


@each_way
def test_merged_weights_are_those_of_the_model(build, adapt, tmp_path):
    model = unwrap(adapt(build(BERT)))
    with pytest.raises(ValueError, match="merge_adapter=True writes the weights of the model; state_dict must be None"):
        model.save_pretrained(tmp_path / "model", merge_adapter=True, state_dict=model.state_dict())
    assert not list(tmp_path.iterdir())


def test_the_model_inside_a_peft_model_is_not_saved_as_it_is(build, tmp_path):
    """Upstream would write weights under the names that peft gave them, which no model has."""
    inner = with_peft(build(BERT)).get_base_model()
    text = r"peft put adapters \(default\) into this model: save the PeftModel, .* or pass merge_adapter=True"
    for options in ({}, {"depth": 1}):
        with pytest.raises(ValueError, match=text):
            inner.save_pretrained(tmp_path / "model", **options)
        with pytest.raises(ValueError, match=text):
            inner.push_to_hub("name", **options)
    assert not list(tmp_path.iterdir())


def test_peft_itself_saves_every_layer_whatever_depth_is_asked_for(build, tmp_path):
    """peft ignores arguments that it does not know; what it writes is refused by a model of that depth."""
    model = with_peft(build(BERT))
    model.save_pretrained(tmp_path / "asked", depth=1)
    truncate(model, NUM_LAYERS).save_pretrained(tmp_path / "whole")
    truncate(model, 1).save_pretrained(tmp_path / "cut")
    assert stored(tmp_path / "asked") == stored(tmp_path / "whole") > stored(tmp_path / "cut")
    with pytest.raises(ValueError, match=f"those of {NUM_LAYERS} layers and this model has 1"):
        peft.PeftModel.from_pretrained(truncate(build(BERT), 1), tmp_path / "asked")


@pytest.mark.parametrize("way", WAYS)
def test_uploads_are_what_saves_are(build, way, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(transformers.PreTrainedModel, "push_to_hub", lambda self, *args, **kwargs: seen.append(self))
    model = WAYS[way](build(BERT))
    unwrap(model).push_to_hub("name", depth=2, merge_adapter=True)
    assert torch.equal(output(seen[0], BERT), output(truncate(model, 2, merge_adapter=True), BERT))
    assert type(seen[0]) is BERT.acn
    assert not hasattr(seen[0], "peft_config")
