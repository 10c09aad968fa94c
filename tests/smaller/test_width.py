"""Narrower MLPs: the neurons that are left compute what they did, in a model of an ordinary config."""

import sys

import pytest
import torch
import transformers
from torch import nn

from acn_hf import depth_logits, measure_cost, prune_width, truncate
from acn_hf.modeling.depth import encoder_layers
from tests.support.adapted import any_peft, each_way, quiet  # noqa: F401 (a fixture)
from tests.support.families import BASES, HEADED, NUM_LAYERS, SOME_CONNECTIONS, by_name, each_head
from tests.support.training import same_weights, weights

IMAGES = by_name("vit-ForImageClassification")
WIDTH, KEPT = 24, 9


@pytest.fixture
def _torch_pruning():
    pytest.importorskip("torch_pruning")


needs_torch_pruning = pytest.mark.usefixtures("_torch_pruning")


def mlp(layer):
    """Return the linear that writes the neurons of a layer and the one that reads them."""
    return [module for module in layer.modules() if isinstance(module, nn.Linear)][-2:]


def kept_neurons(layer, number):
    """Return the neurons whose weights, those that write and those that read them, have the largest mean square."""
    first, second = mlp(layer)
    importance = (first.weight.square().sum(1) + second.weight.square().sum(0)) / 2
    return importance.topk(number).indices.sort().values


@needs_torch_pruning
@each_head()
def test_the_most_important_neurons_stay(build, head):
    model = build(head)
    before = weights(model)
    narrow = prune_width(model, KEPT)
    assert same_weights(weights(model), before)
    assert type(narrow) is head.acn
    for long, short in zip(encoder_layers(model), encoder_layers(narrow), strict=True):
        rows = kept_neurons(long, KEPT)
        (first, second), (narrow_first, narrow_second) = mlp(long), mlp(short)
        assert torch.equal(narrow_first.weight, first.weight[rows])
        assert torch.equal(narrow_first.bias, first.bias[rows])
        assert torch.equal(narrow_second.weight, second.weight[:, rows])
        assert torch.equal(narrow_second.bias, second.bias)
    untouched = [name for name, tensor in narrow.state_dict().items() if tensor.shape == before[name].shape]
    assert all(torch.equal(narrow.state_dict()[name], before[name]) for name in untouched)
    assert len(before) - len(untouched) == 3 * NUM_LAYERS


@needs_torch_pruning
@each_head(HEADED, options=SOME_CONNECTIONS)
def test_as_if_the_other_neurons_were_silent(build, head, options):
    model = build(head, **options)
    narrow = prune_width(model, KEPT)
    with torch.no_grad():
        for layer in encoder_layers(model):
            silent = torch.ones(WIDTH, dtype=torch.bool)
            silent[kept_neurons(layer, KEPT)] = False
            mlp(layer)[1].weight[:, silent] = 0
        inputs = head.inputs()
        torch.testing.assert_close(depth_logits(narrow, **inputs), depth_logits(model, **inputs), rtol=1e-5, atol=1e-5)


@needs_torch_pruning
@each_head([*HEADED, *BASES])
def test_saved_and_loaded_at_every_depth(build, head, tmp_path):
    narrow = prune_width(build(head), KEPT)
    inputs = head.inputs()
    for depth in range(NUM_LAYERS + 1):
        narrow.save_pretrained(tmp_path / str(depth), depth=depth)
        loaded = getattr(transformers, head.auto).from_pretrained(tmp_path / str(depth))
        assert loaded.config.intermediate_size == KEPT
        with torch.no_grad():
            assert torch.equal(loaded(**inputs)[0], truncate(narrow, depth)(**inputs)[0])


@needs_torch_pruning
def test_it_trains_as_any_other(build):
    narrow = prune_width(build(IMAGES).train(), KEPT)
    assert narrow.training
    narrow(**IMAGES.inputs(labels=True)).loss.backward()
    assert all(parameter.grad is not None for parameter in narrow.parameters())
    fresh = IMAGES.acn(narrow.config)
    assert [name for name, _ in narrow.named_parameters()] == [name for name, _ in fresh.named_parameters()]


@needs_torch_pruning
def test_it_costs_less(build):
    model = build(IMAGES)
    whole, narrow = measure_cost(model, repeats=2), measure_cost(prune_width(model, KEPT), repeats=2)
    assert whole.num_parameters - narrow.num_parameters == NUM_LAYERS * (WIDTH - KEPT) * (2 * 16 + 1)
    assert narrow.flops < whole.flops


@needs_torch_pruning
def test_an_mlp_as_wide_as_the_network():
    model = IMAGES.build(intermediate_size=16)
    narrow = prune_width(model, 5)
    assert [mlp(layer)[0].weight.shape for layer in encoder_layers(narrow)] == [(5, 16)] * NUM_LAYERS
    assert narrow.vit.layers[0].attention.q_proj.weight.shape == (16, 16)


@needs_torch_pruning
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(build, dtype):
    assert prune_width(build(IMAGES).to(dtype), KEPT).dtype == dtype


def test_nothing_to_remove(build):
    model = build(IMAGES)
    assert same_weights(weights(prune_width(model, WIDTH)), weights(model))
    assert prune_width(truncate(model, 0), KEPT).config.intermediate_size == KEPT


@pytest.mark.parametrize("width", [0, -1, WIDTH + 1, 3.0, True, "9"])
def test_a_width_out_of_range_is_refused(build, width):
    with pytest.raises(ValueError, match=rf"intermediate_size must be a whole number in \[1, 24\].*; got {width!r}"):
        prune_width(build(IMAGES), width)


@quiet
@pytest.mark.usefixtures("any_peft")
@each_way
def test_adapters_are_refused(build, adapt):
    with pytest.raises(TypeError, match="must hold no adapters to be pruned; got default"):
        prune_width(adapt(build(IMAGES)), KEPT)


def test_without_torch_pruning_the_extra_is_named(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError, match=r"widths need torch-pruning: pip install 'acn-hf\[pruning\]'"):
        prune_width(build(IMAGES), KEPT)
