"""Every model computes what the naive loops in `reference.py` compute: outputs, depth states and gradients.

In float64 the order of three additions and a fused multiply-add change an element by less than 1e-14 relative to
the largest; 1e-10 leaves room for the few layers that follow and none for a term that is missing. (A gradient that
is zero in exact arithmetic, as that of the bias of the attention keys, is noise below 1e-14.) Where the loop and the
model run the same operations (alpha 0, and sums at alpha 1), float32 must agree to the bit.
"""

import pytest
import torch

from tests.support.families import BASES, CONNECTIONS, HEADED, SOME_CONNECTIONS, each_head

SAME_OPERATIONS = {name: options for name, options in CONNECTIONS.items() if options["residual_scale"] == 0.0} | {
    name: CONNECTIONS[name] for name in [("alpha_1", "sum", "strict")]
}
NOT_LEARNED = {name: options for name, options in SOME_CONNECTIONS.items() if name != "learned"}


def close(actual, expected) -> bool:
    return torch.allclose(actual, expected, rtol=1e-10, atol=1e-14 + 1e-10 * expected.abs().max().item())


def doubled(inputs):
    """Return the inputs with floating-point tensors in float64."""
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


def eager(model):
    """Return the model with the attention whose weights are plain matrix products."""
    model.set_attn_implementation("eager")
    return model


@each_head(BASES, options=CONNECTIONS, strength=3)
@torch.no_grad()
def test_depth_states(build, head, options):
    model, inputs = eager(build(head, **options).double()), doubled(head.inputs())
    ours = model(**inputs, output_hidden_states=True).hidden_states
    expected = head.build_naive(model)(**inputs).hidden_states
    assert len(ours) == len(expected)
    assert all(close(*states) for states in zip(ours, expected, strict=True))


@each_head(BASES, options=SAME_OPERATIONS)
@torch.no_grad()
def test_depth_states_to_the_bit_where_the_operations_are_the_same(build, head, options):
    model, inputs = eager(build(head, **options)), head.inputs()
    ours = model(**inputs, output_hidden_states=True).hidden_states
    expected = head.build_naive(model)(**inputs).hidden_states
    assert all(torch.equal(*states) for states in zip(ours, expected, strict=True))


@each_head(BASES, options=CONNECTIONS, strength=3)
def test_gradients_of_all_depth_states(build, head, options):
    check_gradients_of_depth_states(head, build(head, **options))


def check_gradients_of_depth_states(head, model):
    """Compare the gradients of what all depth states add up to with those of the naive loop."""
    model, inputs = eager(model.double()), doubled(head.inputs())
    naive = head.build_naive(model)
    for each in (model, naive):
        output = each(**inputs, output_hidden_states=True)
        (head.loss(output) + sum(state.pow(3).mean() for state in output.hidden_states)).backward()
    check_same_gradients(model, naive)


@each_head(HEADED, options=NOT_LEARNED)
def test_loss_and_gradients_of_every_head(build, head, options):
    check_loss_and_gradients(head, build(head, **options))


def check_loss_and_gradients(head, model):
    """Compare the loss, and its gradients, with those of the naive loop."""
    model, inputs = eager(model.double()), doubled(head.inputs(labels=True))
    naive = head.build_naive(model)
    ours, expected = head.loss(model(**inputs)), head.loss(naive(**inputs))
    assert close(ours, expected)
    ours.backward()
    expected.backward()
    check_same_gradients(model, naive)


def check_same_gradients(model, naive):
    expected = {name: parameter.grad for name, parameter in naive.named_parameters()}
    for name, parameter in model.named_parameters():
        assert close(parameter.grad, expected[name]), name


@each_head(BASES, options=CONNECTIONS, strength=3)
@torch.no_grad()
def test_learned_scales_compute_what_fixed_ones_do(build, head, options):
    inputs, states = doubled(head.inputs()), []
    for learned in (False, True):
        model = build(head, **options, learn_residual_scale=learned).double()
        states.append(model(**inputs, output_hidden_states=True).hidden_states)
    assert all(close(*pair) for pair in zip(*states, strict=True))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5])
@each_head(BASES)
@torch.no_grad()
def test_automatic_readout_and_sum_are_the_same_at_scale_0_only(build, head, alpha):
    inputs = head.inputs()
    auto, total = (build(head, residual_scale=alpha, readout=name)(**inputs)[0] for name in ("auto", "sum"))
    assert torch.equal(auto, total) == (alpha == 0)


@each_head(BASES)
@torch.no_grad()
def test_automatic_readout_tends_to_the_residual_network(build, head):
    """Half the distance of alpha from 1 halves the distance of the outputs, in the limit."""
    inputs = doubled(head.inputs())
    outputs = [build(head, residual_scale=alpha).double()(**inputs)[0] for alpha in (1.0, 1 - 2**-20, 1 - 2**-21)]
    far, near = ((output - outputs[0]).abs().max() for output in outputs[1:])
    assert 0 < near < far < 1e-3
    assert far / near == pytest.approx(2, rel=1e-3)
