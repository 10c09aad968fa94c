"""What a model is refused for that has no depths, and the parts of a view of its first layers."""

import copy
import re

import pytest
import torch
from transformers.utils import ModelOutput

from acn_hf import DepthError, truncate
from acn_hf.depth.layers import shed_layers
from acn_hf.modeling.depth import (
    depth_outputs,
    encoder_layers,
    head_output,
    output_logits,
    prefix_view,
)
from tests.support.adapted import any_peft, quiet, with_adapter  # noqa: F401 (a fixture)
from tests.support.families import HEADS, NUM_LAYERS, by_name, each_head

CLASSIFIER = by_name("bert-ForSequenceClassification")


def test_at_least_one_depth_is_named(build):
    text = f"depths must name at least one depth in [0, {NUM_LAYERS}]; got none"
    with pytest.raises(DepthError, match=f"^{re.escape(text)}$"):
        next(depth_outputs(build(CLASSIFIER), CLASSIFIER.inputs(), []))


def test_outputs_without_logits_are_refused():
    output = ModelOutput(last_hidden_state=torch.ones(1), pooler_output=torch.ones(1))
    text = "the output of a model with a head must hold logits; got last_hidden_state, pooler_output"
    with pytest.raises(TypeError, match=f"^{text}$"):
        output_logits(output)


@each_head(HEADS)
@pytest.mark.parametrize("depth", range(NUM_LAYERS + 1))
def test_what_is_left_is_the_truncated_model(build, head, depth):
    options = {"residual_scale": [1.0, 0.25, 0.0]}
    model, inputs = build(head, **options), head.inputs(labels=True)
    with torch.no_grad():
        model(**inputs, output_hidden_states=True)  # whatever is cached of the long model may not stay
    short = truncate(model, depth)
    removed = shed_layers(model, depth)
    assert len(removed) == NUM_LAYERS - depth
    assert model.config.to_dict() == short.config.to_dict()
    with torch.no_grad():
        one, other = model(**inputs, output_hidden_states=True), short(**inputs, output_hidden_states=True)
    for name, value in other.items():
        for mine, its in zip(_tensors(one[name]), _tensors(value), strict=True):
            assert torch.equal(mine, its), name


def _tensors(value):
    return value if isinstance(value, tuple) else (value,)


def test_a_depth_that_does_not_exist_removes_nothing(build):
    model = build(HEADS[0])
    with pytest.raises(DepthError, match=r"depth must lie in \[0, 3\] for this model; got 4"):
        shed_layers(model, 4)
    assert len(encoder_layers(model)) == model.config.num_hidden_layers == NUM_LAYERS


@quiet
@pytest.mark.usefixtures("any_peft")
@pytest.mark.parametrize("depth", [0, 1])
def test_adapters_of_layers_that_leave_leave_the_config_of_the_adapter(build, depth):
    model = with_adapter(build(CLASSIFIER), layers_to_transform=[0, 2])
    expected = truncate(model, depth).peft_config
    shed_layers(model, depth)
    assert model.peft_config == expected
    assert expected["default"].layers_to_transform == ([0] if depth else None)


def test_a_head_and_its_base_model_may_have_a_config_each(build):
    model = build(CLASSIFIER)
    model.bert.config = copy.deepcopy(model.config)
    before = (model.config, model.bert.config)
    shed_layers(model, 1)
    after = (model.config, model.bert.config)
    assert [config.num_hidden_layers for config in (*before, *after)] == [NUM_LAYERS, NUM_LAYERS, 1, 1]


def test_a_prefix_of_a_model_without_adapters_has_no_configs_of_adapters(build):
    assert "peft_config" not in vars(truncate(build(CLASSIFIER), 1))


@pytest.mark.usefixtures("any_peft")
def test_at_full_depth_the_config_of_an_adapter_is_kept(build):
    model = with_adapter(build(CLASSIFIER), layers_to_transform=2)
    assert truncate(model, NUM_LAYERS).peft_config == model.peft_config


@torch.no_grad()
def test_the_depths_that_are_asked_for_come_in_ascending_order(build):
    model, inputs = build(CLASSIFIER), CLASSIFIER.inputs()
    every = dict(depth_outputs(model, inputs))
    some = list(depth_outputs(model, inputs, [2, 0, 2]))
    assert [depth for depth, _ in some] == [0, 2]
    assert all(torch.equal(output.logits, every[depth].logits) for depth, output in some)


@torch.no_grad()
def test_a_model_that_was_compiled_in_place_is_cut(build):
    model, inputs = build(CLASSIFIER), CLASSIFIER.inputs()
    expected = truncate(model, 1)(**inputs).logits
    model.compile(backend="eager")
    for short in (truncate(model, 1), prefix_view(model, 1)):
        assert torch.equal(short(**inputs).logits, expected)


@torch.no_grad()
def test_hooks_belong_to_the_passes_of_the_model_that_they_were_put_on(build):
    model, inputs, seen = build(CLASSIFIER), CLASSIFIER.inputs(), []

    def watch(watched):
        for module in (watched, watched.bert, watched.bert.encoder):
            module.register_forward_pre_hook(lambda module, args: seen.append("before"))
            module.register_forward_hook(lambda module, args, output: seen.append("after"))

    watch(model)
    view = prefix_view(model, 1)
    view(**inputs)
    assert seen == []
    watch(view)
    view(**inputs)
    assert seen == ["before"] * 3 + ["after"] * 3
    assert {id(each.config) for each in (view, view.bert, view.bert.encoder)} == {id(view.config)}
    assert view.config.num_hidden_layers == 1


@torch.no_grad()
def test_a_head_reads_a_depth_state_where_its_config_asks_for_tuples(build):
    inputs = CLASSIFIER.inputs()
    model = build(CLASSIFIER, return_dict=False)
    expected = build(CLASSIFIER)(**inputs, output_hidden_states=True)
    assert torch.equal(head_output(model, expected.hidden_states[-1], inputs).logits, expected.logits)
