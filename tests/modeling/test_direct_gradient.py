"""With `direct_gradient_only` a model computes the same, and every layer learns through its own place in the sum alone.

The oracle of the gradients are the naive loops in `reference.py`, on whose lists the input of each layer is detached.
"""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from acn_hf import ConfidenceExit, predict_early_exit, truncate
from acn_hf.exits.exiting_connection import long_connection_path
from acn_hf.modeling.connectivity import PostNormLongConnection
from acn_hf.modeling.depth import short_connections
from tests.modeling.test_conformance_reference import (
    check_gradients_of_depth_states,
    check_loss_and_gradients,
    close,
    doubled,
    eager,
)
from tests.modeling.test_conformance_training import check_gradients_of_the_compiled_model, gradients, old_name
from tests.support import reference
from tests.support.families import BASES, CONNECTIONS, HEADED, NUM_LAYERS, by_name, each_head
from tests.support.training import trainer, weights

BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
DIRECT = {"direct_gradient_only": True}


def has_norms_after(model) -> bool:
    """Return whether the norms stand after the additions, as in BERT."""
    return isinstance(model.get_submodule(long_connection_path(model)), PostNormLongConnection)


@each_head(BASES, options=CONNECTIONS, strength=3)
@torch.no_grad()
def test_the_depth_states_are_those_of_the_ordinary_pass(build, head, options):
    """At scale 1 the ordinary pass takes the stream itself for the sum, whose equal the other pass adds up."""
    plain, direct = build(head, **options), build(head, **options, **DIRECT)
    inputs = head.inputs()
    expected = plain(**inputs, output_hidden_states=True).hidden_states
    actual = direct(**inputs, output_hidden_states=True).hidden_states
    to_the_bit = options["residual_scale"] == 0 or options["readout"] == "sum" or has_norms_after(plain)
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs) if to_the_bit else torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@each_head(BASES, options=CONNECTIONS, strength=3)
def test_gradients_of_the_loop_with_detached_inputs(build, head, options):
    check_gradients_of_depth_states(head, build(head, **options, **DIRECT))


@each_head(HEADED)
def test_loss_and_gradients_of_every_head(build, head):
    check_loss_and_gradients(head, build(head, **DIRECT))


@pytest.mark.parametrize("direct", [False, True])
@each_head(BASES)
def test_gradients_of_learned_scales(build, head, direct, monkeypatch):
    """The loop gets leaves in the place of the numbers of its config."""
    values = [0.75, 0.25, 0.5]
    options = {"residual_scale": values, "attention_residual": False, "direct_gradient_only": direct}
    model, inputs = eager(build(head, **options, learn_residual_scale=True).double()), doubled(head.inputs())
    naive = head.build_naive(eager(build(head, **options).double()))
    leaves = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in values]
    monkeypatch.setattr(reference, "scales", lambda config, layer: (leaves[layer], leaves[layer]))
    for each in (model, naive):
        head.loss(each(**inputs)).backward()
    for short, leaf in zip(short_connections(model), leaves, strict=True):
        assert leaf.grad.abs() > 1e-8
        assert close(short.residual_scale.grad, leaf.grad)


@each_head(BASES)
def test_a_layer_does_not_learn_from_those_above(build, head):
    """From its place in the sum it does, where it has one: in a BERT of scale 1 the last layer alone has one."""
    inputs = head.inputs()
    for scale in (0.0, 1.0):
        model = build(head, residual_scale=scale, **DIRECT)
        output = model(**inputs, output_layer_outputs=True)
        for depth, layer_output in enumerate(output.layer_outputs[:-1]):
            (gradient,) = torch.autograd.grad(
                output.layer_outputs[-1].sum(), layer_output, None, True, allow_unused=True
            )
            assert gradient is None, depth
        head.loss(output).backward()
        layers = model.get_submodule(model.layers_name)
        learns = [any(weight.grad is not None for weight in layer.parameters()) for layer in layers]
        none_below = has_norms_after(model) and scale == 1
        assert learns == [not none_below] * (NUM_LAYERS - 1) + [True]


@old_name
@each_head(
    [BERT, VIT],
    options={"acn": {}, "residual": {"residual_scale": 1.0}, "sum": {"residual_scale": 1.0, "readout": "sum"}},
    use_reentrant=[True, False],
)
def test_gradient_checkpointing(build, head, options, use_reentrant):
    model, inputs = build(head, **options, **DIRECT).double().train(), doubled(head.inputs(labels=True))
    head.loss(model(**inputs)).backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    head.loss(model(**inputs)).backward()
    for name, parameter in model.named_parameters():
        if expected[name] is None:
            assert parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-12, atol=1e-12, msg=name)


def test_compiling_in_one_graph(build):
    check_gradients_of_the_compiled_model(VIT, build(VIT, **DIRECT))


@each_head([BERT, VIT])
def test_a_checkpoint_and_a_prefix_keep_it(build, head, tmp_path):
    model, inputs = build(head, **DIRECT), head.inputs(labels=True)
    model.save_pretrained(tmp_path)
    for other in (head.acn.from_pretrained(tmp_path).eval(), truncate(model, NUM_LAYERS)):
        assert other.config.direct_gradient_only
        assert torch.equal(other(**inputs).loss, model(**inputs).loss)
        for name, gradient in gradients(head, other, inputs).items():
            torch.testing.assert_close(gradient, gradients(head, model, inputs)[name], rtol=0, atol=0, msg=name)
    assert truncate(model, 1).config.direct_gradient_only


@each_head([BERT, VIT])
@torch.no_grad()
def test_early_exit_is_the_same(build, head):
    plain, direct = (
        predict_early_exit(build(head, **options), head.inputs(batch_size=6), ConfidenceExit(0.9))
        for options in ({}, DIRECT)
    )
    assert torch.equal(plain.logits, direct.logits)
    assert torch.equal(plain.exit_depths, direct.exit_depths)
    assert plain.exit_depths.max() > 0


def test_a_trainer_trains_it_and_the_switch_may_be_set_on_a_model(tmp_path):
    run = trainer(tmp_path, max_steps=2, eval_strategy="no")
    run.model.config.direct_gradient_only = True
    before = weights(run.model)
    run.train()
    still = {name for name, value in weights(run.model).items() if torch.equal(value, before[name])}
    # The head reads the CLS token, and it is the layers that bring the patches to it.
    assert still == {f"vit.embeddings.patch_embeddings.projection.{name}" for name in ("weight", "bias")}


@pytest.mark.parametrize("value", [1, "yes", None])
@each_head(BASES)
def test_only_a_truth_value_is_taken(head, value):
    with pytest.raises(StrictDataclassError, match="'direct_gradient_only' expected bool, got "):
        head.config(direct_gradient_only=value)


@each_head(BASES)
def test_it_is_off_by_default_and_kept_in_the_config(head, tmp_path):
    head.config().save_pretrained(tmp_path / "off")
    head.config(**DIRECT).save_pretrained(tmp_path / "on")
    stored = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("off", "on")]
    assert stored == [stored[0] | {"direct_gradient_only": False}, stored[0] | DIRECT]
    assert AutoConfig.from_pretrained(tmp_path / "on").direct_gradient_only
