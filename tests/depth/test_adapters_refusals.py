"""An adapter of another depth is refused, whoever loads it, and the model is left as it was where it can be."""

import peft
import pytest
import torch
import transformers
from peft.tuners.tuners_utils import BaseTunerLayer

from acn_hf import DepthError, lora_config, truncate
from acn_hf.modeling import injected
from tests.support.adapted import (
    any_peft,
    is_as_it_was,
    output,
    quiet,
    same_whatever_is_frozen,
    snapshot,
    with_adapter,
    with_peft,
)
from tests.support.families import HEADED, NUM_LAYERS, by_name, each_head, heads_in_turn

__all__ = ["any_peft"]
pytestmark = [quiet, pytest.mark.usefixtures("any_peft")]
BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
LONG = 4


@pytest.fixture
def adapter(build, tmp_path):
    """Return a function that writes an adapter of a depth, made by one cut, and returns its folder."""

    def write(head, depth, **options):
        folder = tmp_path / f"adapter-{depth}"
        truncate(with_peft(build(head, num_hidden_layers=LONG), **options), depth).save_pretrained(folder)
        return folder

    return write


def built(build, head, depth):
    return build(head, num_hidden_layers=depth)


def cut(build, head, depth):
    return truncate(build(head, num_hidden_layers=LONG + 1), depth)


each_refusal = heads_in_turn(
    HEADED,
    depths={"longer": (LONG, NUM_LAYERS), "shorter": (NUM_LAYERS, LONG)},
    base={"built": built, "cut": cut},
)
"""Parametrise a test over heads; the depths of adapter and model, and how the model is made, take turns."""


@each_refusal
def test_peft_does_not_load_an_adapter_of_another_depth(base, build, adapter, head, depths):
    held, wanted = depths
    model = base(build, head, wanted)
    before = output(model, head)
    text = f"^the weights are those of {held} layers and this model has {wanted}; build the model at their depth"
    with pytest.raises(DepthError, match=text):
        peft.PeftModel.from_pretrained(model, adapter(head, held))
    # peft says what it loads after it has put an empty adapter in, which changes no output and can be taken out.
    assert same_whatever_is_frozen(head, output(model, head), before)
    clean = truncate(model, wanted, merge_adapter=True)
    assert not any(isinstance(module, BaseTunerLayer) for module in clean.modules())
    assert torch.equal(output(clean, head), before)


@each_refusal
def test_load_adapter_refuses_another_depth_and_leaves_the_model_as_it_was(base, build, adapter, head, depths):
    held, wanted = depths
    model = base(build, head, wanted).train()
    before = snapshot(model)
    text = f"^the adapter is one for {held} layers and this model has {wanted}; load it into a model of its own depth"
    with pytest.raises(DepthError, match=text):
        model.load_adapter(str(adapter(head, held)))
    assert is_as_it_was(model, before)
    folder = adapter(head, wanted, modules_to_save=None)
    model.load_adapter(str(folder))
    assert not is_as_it_was(model, before)


@each_refusal
def test_auto_classes_refuse_another_depth(base, build, adapter, head, depths, tmp_path):
    held, wanted = depths
    base(build, head, wanted).save_pretrained(tmp_path / "base")
    folder = adapter(head, held)
    path = folder / "adapter_config.json"
    path.write_text(
        path.read_text().replace('"base_model_name_or_path": null', f'"base_model_name_or_path": "{tmp_path}/base"')
    )
    for load in (head.acn.from_pretrained, getattr(transformers, head.auto).from_pretrained):
        with pytest.raises(DepthError, match=f"^the adapter is one for {held} layers and this model has {wanted};"):
            load(folder)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")  # peft says it of any second
@pytest.mark.parametrize(("held", "wanted"), [(LONG, NUM_LAYERS), (NUM_LAYERS, LONG)], ids=["longer", "shorter"])
def test_a_second_adapter_of_another_depth_is_refused(adapter, build, held, wanted):
    by_peft, by_transformers = (adapt(build(BERT, num_hidden_layers=wanted)) for adapt in (with_peft, with_adapter))
    expected = output(by_peft, BERT)
    with pytest.raises(DepthError, match=f"those of {held} layers and this model has {wanted}"):
        by_peft.load_adapter(adapter(BERT, held), "second")
    assert torch.equal(output(by_peft, BERT), expected)
    before = snapshot(by_transformers)
    with pytest.raises(DepthError, match=f"one for {held} layers and this model has {wanted}"):
        by_transformers.load_adapter(str(adapter(BERT, held)), adapter_name="second")
    assert is_as_it_was(by_transformers, before)
    assert by_transformers.active_adapters() == ["default"]
    assert by_transformers.peft_config.keys() == {"default"}
    assert torch.equal(output(by_transformers, BERT), expected)


def test_an_adapter_of_some_layers_fits_every_model_that_has_them(adapter, build, tmp_path):
    folder = adapter(BERT, LONG, layers_to_transform=[0, 2], modules_to_save=None)
    for depth in (NUM_LAYERS, LONG):
        assert peft.PeftModel.from_pretrained(build(BERT, num_hidden_layers=depth), folder).peft_config
        build(BERT, num_hidden_layers=depth).load_adapter(str(folder))
    with pytest.raises(DepthError, match="2 layers have indices below 2; got 2"):
        peft.PeftModel.from_pretrained(build(BERT, num_hidden_layers=2), folder)


@pytest.mark.parametrize("depth", [0, 2], ids=["depth 0", "below its layers"])
def test_an_adapter_that_has_nothing_for_the_layers_is_for_depth_0(build, depth, tmp_path):
    truncate(with_peft(build(BERT), layers_to_transform=[2], modules_to_save=["classifier"]), depth).save_pretrained(
        tmp_path
    )
    for load in (
        lambda model: peft.PeftModel.from_pretrained(model, tmp_path),
        lambda model: model.load_adapter(str(tmp_path)),
    ):
        model = build(BERT)
        before = snapshot(model)
        text = f"one for 0 layers and this model has {NUM_LAYERS}: .* cut the adapted model again, with merge_adapter"
        with pytest.raises(DepthError, match=text):
            load(model)
        assert is_as_it_was(model, before)


ADD = {
    "get_peft_model": peft.get_peft_model,
    "inject": lambda model, config: peft.inject_adapter_in_model(config, model),
    "add_adapter": lambda model, config: model.add_adapter(config),
}


@each_head([BERT, VIT], indices=[[0, 3], [1, 7], [-1, 0]], add=ADD)
def test_layers_to_transform_must_exist(build, head, add, indices):
    model = build(head)
    before = snapshot(model)
    wrong = next(index for index in indices if not 0 <= index < NUM_LAYERS)
    text = f"^layers_to_transform must name layers .* {NUM_LAYERS} layers have indices below {NUM_LAYERS}; got {wrong}$"
    for function in (
        lambda: add(model, peft.LoraConfig(layers_to_transform=indices)),
        lambda: lora_config(model, layers_to_transform=indices),
    ):
        with pytest.raises(DepthError, match=text):
            function()
        assert is_as_it_was(model, before)


@pytest.mark.parametrize("add", ADD.values(), ids=ADD)
def test_an_adapter_of_no_layer_that_exists_is_refused(build, add):
    """peft itself finds nothing to adapt, before a model can see the config; `add_adapter` and ours say it by depth."""
    model = build(BERT)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"layers_to_transform.* \[?7"):
        add(model, peft.LoraConfig(layers_to_transform=[7]))
    assert is_as_it_was(model, before)
    with pytest.raises(DepthError, match="3 layers have indices below 3; got 7"):
        model.add_adapter(peft.LoraConfig(layers_to_transform=7))


def test_a_model_without_adapters_says_so(build):
    model = build(BERT)
    with pytest.raises(AttributeError, match="peft_config"):
        _ = model.peft_config
    assert injected.adapter_configs(model) == {}


@each_head(HEADED)
def test_a_whole_state_dict_of_another_depth_is_refused(build, head):
    model = with_peft(build(head))
    expected = output(model, head)
    with pytest.raises(DepthError, match=f"those of {LONG} layers and this model has {NUM_LAYERS}"):
        model.load_state_dict(with_peft(build(head, num_hidden_layers=LONG)).state_dict(), strict=False)
    assert torch.equal(output(model, head), expected)
