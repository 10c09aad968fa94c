"""Depth k of the long model is the truncated model, bit for bit, by every way to get there."""

import copy
import re

import accelerate
import peft
import pytest
import torch
import transformers

from acn_hf import DepthError, depth_logits, truncate
from acn_hf.modeling import depth as plain
from acn_hf.modeling.depth import depth_outputs
from tests.support.families import (
    BASES,
    CONNECTIONS,
    HEADED,
    NUM_LAYERS,
    SOME_CONNECTIONS,
    by_name,
    each_head,
)

DEPTHS = range(NUM_LAYERS + 1)


def same_outputs(one, other) -> bool:
    """Return whether two model outputs hold the same tensors under the same names, bit for bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def logits_of(output):
    """Return the main logits of an output of any head."""
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    return output[next(name for name in ("logits", "prediction_logits", "reconstruction") if name in output)]


@each_head(HEADED, options=CONNECTIONS)
@torch.no_grad()
def test_depth_logits_are_those_of_the_truncated_models(build, head, options):
    model, inputs = build(head, **options), head.inputs()
    logits = depth_logits(model, **inputs)
    assert len(logits) == NUM_LAYERS + 1
    for depth in DEPTHS:
        assert torch.equal(logits[depth], logits_of(truncate(model, depth)(**inputs)))


@each_head(options=SOME_CONNECTIONS, depth=DEPTHS)
@torch.no_grad()
def test_every_way_to_cut_gives_the_same_outputs(build, head, options, depth, tmp_path):
    model, inputs = build(head, **options), head.inputs(labels=True)
    auto = getattr(transformers, head.auto)
    model.save_pretrained(tmp_path / "long")
    model.save_pretrained(tmp_path / "short", depth=depth)
    expected = truncate(model, depth)(**inputs)
    assert same_outputs(expected, auto.from_pretrained(tmp_path / "short")(**inputs))
    assert same_outputs(expected, auto.from_pretrained(tmp_path / "long", num_hidden_layers=depth)(**inputs))


@each_head(BASES, options=CONNECTIONS, strength=3)
@torch.no_grad()
def test_hidden_state_k_is_what_the_truncated_model_ends_with(build, head, options):
    model, inputs = build(head, **options), head.inputs()
    states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == NUM_LAYERS + 1
    for depth in DEPTHS:
        short = truncate(model, depth)(**inputs, output_hidden_states=True)
        assert len(short.hidden_states) == depth + 1
        assert torch.equal(states[depth], short.hidden_states[-1])


@each_head(BASES, options=CONNECTIONS, strength=3)
@torch.no_grad()
def test_layer_outputs_are_what_the_layers_return(build, head, options):
    model = build(head, **options)
    returned = []
    for layer in model.get_submodule(model.layers_name):
        layer.register_forward_hook(lambda module, args, output: returned.append(output))
    output = model(**head.inputs(), output_layer_outputs=True, output_hidden_states=True)
    assert len(output.layer_outputs) == NUM_LAYERS + 1
    assert torch.equal(output.layer_outputs[0], output.hidden_states[0])
    for seen, expected in zip(output.layer_outputs[1:], returned, strict=True):
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("attention_residual", [False, True])
@each_head(BASES)
@torch.no_grad()
def test_depth_states_of_an_acn_are_the_sums_of_its_layer_outputs(build, head, attention_residual):
    model = build(head, attention_residual=attention_residual)
    output = model(**head.inputs(), output_layer_outputs=True, output_hidden_states=True)
    for depth in DEPTHS:
        assert torch.equal(output.hidden_states[depth], sum(output.layer_outputs[: depth + 1]))


@each_head()
@torch.no_grad()
def test_truncating_twice_is_truncating_once(build, head):
    model, inputs = build(head, residual_scale=[1.0, 0.25, 0.0]), head.inputs(labels=True)
    once, twice = truncate(model, 1), truncate(truncate(model, 2), 1)
    assert same_outputs(once(**inputs), twice(**inputs))
    assert once.config.to_dict() == twice.config.to_dict()
    assert twice.config.original_num_hidden_layers == NUM_LAYERS


@each_head()
def test_training_the_short_model_leaves_the_long_one_alone(build, head):
    model, inputs = build(head), head.inputs(labels=True)
    before = copy.deepcopy(model.state_dict())
    short = truncate(model, 2)
    start = copy.deepcopy(short.state_dict())
    head.loss(short(**inputs)).backward()
    torch.optim.SGD(short.parameters(), lr=0.1).step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert any(not torch.equal(start[name], value) for name, value in short.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@each_head()
def test_training_the_long_model_leaves_the_short_one_alone(build, head):
    model = build(head)
    short = truncate(model, 2)
    start = copy.deepcopy(short.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.config.residual_scale = 0.5
    assert all(torch.equal(start[name], value) for name, value in short.state_dict().items())
    assert {module.config.residual_scale for module in short.modules() if hasattr(module, "config")} == {0.0}


@each_head()
@torch.no_grad()
def test_the_short_model_has_one_config_and_follows_it(build, head):
    """A callback that moves the scale of a model sets one config, which every layer reads."""
    short, inputs = truncate(build(head), 2), head.inputs()
    assert {id(module.config) for module in short.modules() if hasattr(module, "config")} == {id(short.config)}
    before = short(**inputs)[0]
    short.config.residual_scale = 0.5
    assert torch.equal(short(**inputs)[0], truncate(build(head, residual_scale=0.5), 2)(**inputs)[0])
    assert not torch.equal(short(**inputs)[0], before)


@each_head(HEADED)
@torch.no_grad()
def test_depth_logits_where_tuples_are_asked_for(build, head):
    model, inputs = build(head), head.inputs()
    assert torch.equal(depth_logits(model, **inputs, return_dict=False), depth_logits(model, **inputs))


# The heads of upstream's ViT fail with `config.return_dict=False`.
@each_head([head for head in HEADED if head.name.startswith("bert")])
@torch.no_grad()
def test_depth_logits_of_a_model_that_returns_tuples(build, head):
    inputs = head.inputs()
    expected = depth_logits(build(head), **inputs)
    assert torch.equal(depth_logits(build(head, return_dict=False), **inputs), expected)


@each_head([head for head in HEADED if "forward" in vars(head.acn) and not head.name.startswith("deit")])
@torch.no_grad()
def test_forward_passes_of_our_own_return_tuples(build, head):
    inputs = head.inputs(labels=True)
    expected = build(head)(**inputs).to_tuple()
    for values in (build(head, return_dict=False)(**inputs), build(head)(**inputs, return_dict=False)):
        assert all(torch.equal(value, wanted) for value, wanted in zip(values, expected, strict=True))


@each_head()
def test_truncate_leaves_the_long_model_as_it_was(build, head):
    model = build(head)
    config, names = model.config.to_dict(), list(model.state_dict())
    truncate(model, 1)
    assert model.config.to_dict() == config
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("training", [False, True])
@each_head()
def test_truncate_keeps_the_mode_of_every_module(build, head, training):
    model = build(head).train(training)
    model.base_model.embeddings.train(not training)
    modes = {name: module.training for name, module in model.named_modules()}
    short = {name: module.training for name, module in truncate(model, 1).named_modules()}
    assert short == {name: modes[name] for name in short}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@each_head()
def test_truncate_keeps_the_dtype(build, head, dtype):
    short = truncate(build(head).to(dtype), 1)
    assert {parameter.dtype for parameter in short.parameters()} == {dtype}


@each_head()
def test_truncate_keeps_what_is_frozen(build, head):
    model = build(head)
    model.base_model.embeddings.requires_grad_(False)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    short = truncate(model, 1)
    assert {name for name, parameter in short.named_parameters() if not parameter.requires_grad} == frozen


@each_head()
def test_truncate_keeps_only_the_first_layers(build, head):
    model = build(head)
    short = truncate(model, 2).state_dict()
    cut = {name for name in model.state_dict() if f"{model.layers_name}.2." in name}
    assert cut
    assert set(short) == set(model.state_dict()) - cut


@each_head([by_name("bert-ForMaskedLM"), by_name("bert-ForPreTraining")])
def test_truncate_keeps_the_tied_weights(build, head):
    short = truncate(build(head), 1)
    assert short.get_output_embeddings().weight is short.get_input_embeddings().weight


@each_head()
def test_the_truncated_model_carries_no_gradients(build, head):
    model = build(head)
    head.loss(model(**head.inputs(labels=True))).backward()
    assert all(parameter.grad is None for parameter in truncate(model, 2).parameters())


@each_head(HEADED)
@torch.no_grad()
def test_a_smaller_runtime_depth_runs_the_first_layers_only(build, head):
    model, inputs = build(head), head.inputs(labels=True)
    expected = truncate(model, 1)(**inputs)
    model.config.num_hidden_layers = 1
    assert same_outputs(model(**inputs), expected)


@each_head(HEADED)
def test_reading_some_depths_does_not_record_twice(head, build):
    model, inputs = build(head), head.inputs()
    with torch.no_grad():
        for depth in range(NUM_LAYERS):
            list(depth_outputs(model, inputs, [depth]))
        assert len(model(**inputs, output_hidden_states=True).hidden_states) == NUM_LAYERS + 1
        short = truncate(model, 1)
        assert len(short(**inputs, output_hidden_states=True).hidden_states) == 2


@each_head(HEADED)
def test_a_forward_that_accelerate_bound_changes_no_depth(head, build):
    """`Trainer(bf16=True)` leaves a model whose own `forward` runs in autocast; a truncated model has none."""
    model, inputs = build(head), head.inputs()
    expected = depth_logits(model, **inputs)
    prepared = accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(model)
    assert "forward" in vars(prepared)
    assert torch.equal(depth_logits(prepared, **inputs), expected)
    for depth in range(NUM_LAYERS + 1):
        assert torch.equal(depth_logits(truncate(prepared, depth), **inputs)[-1], expected[depth])


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "peft": lambda model: peft.get_peft_model(model, peft.LoraConfig(target_modules=["query", "value"])),
    "data parallel": torch.nn.DataParallel,
}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_what_travels_with_a_checkpoint_does_not_take_a_wrapper_for_the_model_inside(build, wrap):
    """The functions of the package look through wrappers; these know neither peft nor the package."""
    wrapped = wrap(build(by_name("bert-ForSequenceClassification")))
    inputs = {"input_ids": torch.ones(1, 2).long()}
    inside = re.escape(
        "give the model inside (_orig_mod if compiled, module if distributed, merge_and_unload() of peft)"
    )
    for function in (lambda: plain.truncate(wrapped, 1), lambda: plain.depth_logits(wrapped, **inputs)):
        with pytest.raises(TypeError, match=f"^only the models of acn_hf .*; got {type(wrapped).__name__}: {inside}$"):
            function()


def test_layers_sliced_by_hand_are_named_before_anything_runs(build):
    head = by_name("bert-ForSequenceClassification")
    model = build(head)
    model.config.num_hidden_layers = 2
    for function in (lambda: truncate(model, 1), lambda: depth_logits(model, **head.inputs())):
        with pytest.raises(DepthError, match=f"holds {NUM_LAYERS} layers and its config says num_hidden_layers=2"):
            function()
