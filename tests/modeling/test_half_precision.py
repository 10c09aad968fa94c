"""In half precision the running sum neither overflows nor loses what single layers add to it."""

import pytest
import torch

from tests.support.families import BASES, NUM_LAYERS, SOME_CONNECTIONS, TRAINED, each_head

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
HALF = [torch.float16, torch.bfloat16]

on_each_device = pytest.mark.parametrize("device", DEVICES)
in_each_half = pytest.mark.parametrize("dtype", HALF, ids=str)


def on(device, dtype, inputs):
    """Return the inputs on a device, floating-point tensors in a dtype."""
    return {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
        for name, value in inputs.items()
    }


def with_layer_outputs(model, values):
    """Make every element of the output of layer `i` equal to `values[i]`."""
    for layer, value in zip(model.get_submodule(model.layers_name), values, strict=True):
        layer.register_forward_hook(lambda module, args, output, value=value: torch.full_like(output, value))
    return model


@on_each_device
@in_each_half
@each_head(BASES)
@torch.no_grad()
def test_the_sum_is_the_one_of_float32(build, head, dtype, device):
    model = build(head).to(device, dtype)
    output = model(**on(device, dtype, head.inputs()), output_hidden_states=True, output_layer_outputs=True)
    layer_outputs = [each.float() for each in output.layer_outputs]
    for depth in range(NUM_LAYERS + 1):
        assert torch.equal(output.hidden_states[depth], sum(layer_outputs[: depth + 1]).to(dtype))


@on_each_device
@in_each_half
@each_head(BASES)
@torch.no_grad()
def test_small_layer_outputs_are_not_lost_beside_a_large_one(build, head, dtype, device):
    """In the half precisions 1024 + 1/4 is 1024, so that a sum held in one of them would end at 1024."""
    model = with_layer_outputs(build(head).to(device, dtype), [1024.0, 0.25, -1024.0])
    states = model(**on(device, dtype, head.inputs()), output_hidden_states=True).hidden_states
    assert torch.equal(states[3], (states[0].float() + 1024 + 0.25 - 1024).to(dtype))


@on_each_device
@each_head(BASES)
@torch.no_grad()
def test_the_sum_stays_finite_above_the_largest_float16(build, head, device):
    largest = torch.finfo(torch.float16).max
    model = with_layer_outputs(build(head).to(device, torch.float16), [60000.0, 60000.0, 60000.0])
    states = model(**on(device, torch.float16, head.inputs()), output_hidden_states=True).hidden_states
    assert states[1].dtype == torch.float16
    assert (states[2] == largest).all()
    assert (states[3] == largest).all()


@on_each_device
@each_head(BASES)
@torch.no_grad()
def test_a_sum_that_left_the_range_of_float16_comes_back(build, head, device):
    model = with_layer_outputs(build(head).to(device, torch.float16), [60000.0, 60000.0, -60000.0])
    states = model(**on(device, torch.float16, head.inputs()), output_hidden_states=True).hidden_states
    assert torch.equal(states[3], (states[0].float() + 60000).half())


@on_each_device
@each_head(TRAINED, options=SOME_CONNECTIONS, dtype=HALF)
def test_outputs_and_gradients_are_finite_and_keep_the_dtype(build, head, options, dtype, device):
    model = build(head, **options).to(device, dtype)
    output = model(**on(device, dtype, head.inputs(labels=True)), output_hidden_states=True)
    assert {state.dtype for state in output.hidden_states} == {dtype}
    assert all(state.isfinite().all() for state in output.hidden_states)
    output.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@on_each_device
@each_head(TRAINED, options=SOME_CONNECTIONS)
def test_autocast(build, head, options, device):
    model, inputs = build(head, **options).to(device), on(device, torch.float32, head.inputs(labels=True))
    whole = model(**inputs).loss
    with torch.autocast(device, torch.bfloat16):
        half = model(**inputs).loss
    half.backward()
    assert half != whole
    assert half.item() == pytest.approx(whole.item(), rel=0.2)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@on_each_device
@each_head(BASES, options=SOME_CONNECTIONS)
@torch.no_grad()
def test_autocast_hands_out_the_dtypes_of_upstream(build, head, options, device):
    model, inputs = build(head, **options).to(device), on(device, torch.float32, head.inputs())
    upstream = head.upstream(head.upstream.config_class(**head.fields)).to(device).eval()
    with torch.autocast(device, torch.bfloat16):
        ours, theirs = (each(**inputs, output_hidden_states=True) for each in (model, upstream))
    assert [state.dtype for state in ours.hidden_states] == [state.dtype for state in theirs.hidden_states]
    assert ours.last_hidden_state.dtype == theirs.last_hidden_state.dtype
