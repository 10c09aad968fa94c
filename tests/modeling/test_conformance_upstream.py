"""At residual scale 1 and with copied weights every model is upstream's, bit for bit."""

import itertools
from dataclasses import replace

import torch

from tests.support.families import HEADS, each_head

RESIDUAL = {
    "number": {"residual_scale": 1.0},
    "list": {"residual_scale": [1.0, 1.0, 1.0]},
    "attention": {"residual_scale": 1.0, "attention_residual": True},
}


def tensors(output):
    """Return every tensor of a model output by name, those inside tuples too."""
    named = {}
    for name, value in output.items():
        entries = value if isinstance(value, tuple) else (value,)
        named.update({f"{name}.{index}": entry for index, entry in enumerate(entries)})
    return named


@each_head(options=RESIDUAL)
@torch.no_grad()
def test_outputs(build, head, options):
    model, inputs = build(head, **options), head.inputs(labels=True)
    ours, theirs = tensors(model(**inputs)), tensors(head.build_upstream(model)(**inputs))
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert torch.equal(ours[name], expected), name


@each_head(options=RESIDUAL)
def test_gradients(build, head, options):
    model, inputs = build(head, **options), head.inputs(labels=True)
    upstream = head.build_upstream(model)
    head.loss(model(**inputs)).backward()
    head.loss(upstream(**inputs)).backward()
    expected = {name: parameter.grad for name, parameter in upstream.named_parameters()}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, expected[name]), name


@each_head(options=RESIDUAL)
@torch.no_grad()
def test_hidden_states_are_the_outputs_of_upstreams_layers(build, head, options):
    model, inputs = build(head, **options), head.inputs()
    upstream = head.build_upstream(model)
    layers = upstream.base_model.get_submodule(model.layers_name)
    expected = []
    layers[0].register_forward_pre_hook(lambda module, args: expected.append(args[0]))
    for layer in layers:
        layer.register_forward_hook(lambda module, args, output: expected.append(output))
    upstream(**inputs)
    ours = model(**inputs, output_hidden_states=True).hidden_states
    assert len(ours) == len(expected)
    assert all(itertools.starmap(torch.equal, zip(ours, expected, strict=True)))


@each_head([head for head in HEADS if head.has_attention])
@torch.no_grad()
def test_eager_attentions(build, head):
    model, inputs = build(head, residual_scale=1.0), head.inputs()
    model.set_attn_implementation("eager")
    ours = model(**inputs, output_attentions=True).attentions
    theirs = head.build_upstream(model)(**inputs, output_attentions=True).attentions
    assert len(ours) == len(theirs) == model.config.num_hidden_layers
    assert all(itertools.starmap(torch.equal, zip(ours, theirs, strict=True)))


@each_head()
@torch.no_grad()
def test_dropout_draws_the_same_numbers(head):
    dropout = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    head = replace(head, fields={**head.fields, **dropout})
    model, inputs, seen = head.build(residual_scale=1.0).train(), head.inputs(labels=True), []
    for each in (model, model, head.build_upstream(model)):
        seen.append(each(**inputs)[0])
        torch.manual_seed(3)
    first, ours, theirs = seen
    assert torch.equal(ours, theirs)
    assert not torch.equal(first, ours)


@each_head()
@torch.no_grad()
def test_outputs_in_bfloat16(build, head):
    model = build(head, residual_scale=1.0).to(torch.bfloat16)
    inputs = head.inputs()
    assert torch.equal(model(**inputs)[0], head.build_upstream(model).to(torch.bfloat16)(**inputs)[0])


@each_head()
@torch.no_grad()
def test_other_scales_are_not_upstream(build, head):
    """The checks above can fail: one layer without its short connections changes the outputs."""
    model, inputs = build(head, residual_scale=[1.0, 1.0, 0.0]), head.inputs()
    assert not torch.equal(model(**inputs)[0], head.build_upstream(model)(**inputs)[0])
