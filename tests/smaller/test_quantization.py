"""The same network in bfloat16 and in int8: at every depth, saved and loaded, close to what it was, and smaller."""

import sys

import pytest
import torch
import transformers
from torch import nn

from acn_hf import depth_logits, measure_cost, measure_sparsity, prune_model, quantize, truncate
from tests.support.adapted import any_peft, each_way, quiet  # noqa: F401 (a fixture)
from tests.support.families import BASES, HEADED, NUM_LAYERS, by_name, each_head
from tests.support.training import same_weights, weights

IMAGES = by_name("vit-ForImageClassification")
each_precision = pytest.mark.parametrize("precision", ["bf16", "int8"])


@pytest.fixture(autouse=True)
def _torchao(request):
    if "precision" in request.fixturenames and request.getfixturevalue("precision") == "int8":
        pytest.importorskip("torchao")


def inputs_of(model, head):
    inputs = head.inputs()
    return {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}


def naive_int8(linear, inputs):
    """Return what a linear module gives with weights and inputs rounded to int8, one scale a row, in float64."""
    weight, bias, inputs = linear.weight.double(), linear.bias.double(), inputs.double()
    rounded = []
    for rows in (weight, inputs):
        scale = rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127.5
        rounded.append((rows / scale).round().clamp(-128, 127) * scale)
    return rounded[1] @ rounded[0].T + bias


@each_precision
@each_head(HEADED)
def test_every_depth_saved_and_loaded(build, head, precision, tmp_path):
    model = build(head)
    before = weights(model)
    small = quantize(model, precision)
    assert type(small) is head.acn
    assert same_weights(weights(model), before)
    inputs = inputs_of(small, head)
    with torch.no_grad():
        logits = depth_logits(small, **inputs)
        for depth in range(NUM_LAYERS + 1):
            small.save_pretrained(tmp_path / str(depth), depth=depth)
            loaded = getattr(transformers, head.auto).from_pretrained(tmp_path / str(depth))
            assert loaded.dtype == small.dtype
            assert torch.equal(depth_logits(loaded, **inputs), logits[: depth + 1])
            assert torch.equal(depth_logits(truncate(small, depth), **inputs), logits[: depth + 1])


@each_precision
@each_head(BASES)
def test_models_without_head(build, head, precision, tmp_path):
    small = quantize(build(head), precision)
    small.save_pretrained(tmp_path)
    inputs = inputs_of(small, head)
    with torch.no_grad():
        loaded = transformers.AutoModel.from_pretrained(tmp_path)
        assert torch.equal(loaded(**inputs)[0], small(**inputs)[0])


@each_head(HEADED)
def test_bf16_is_the_rounded_model(build, head):
    model = build(head)
    rounded = quantize(model, "bf16").state_dict()
    assert all(torch.equal(tensor.bfloat16(), rounded[name]) for name, tensor in model.state_dict().items())


@each_head(HEADED)
def test_int8_is_linear_modules_rounded_row_by_row(build, head):
    pytest.importorskip("torchao")
    model, small = build(head), quantize(build(head), "int8")
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    small_modules, found = dict(small.named_modules()), 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            own = small_modules[name]._parameters
            assert all(torch.equal(own[key], value) for key, value in module._parameters.items() if value is not None)
            continue
        inputs = torch.randn(5, module.in_features)
        with torch.no_grad():
            output = small_modules[name](inputs)
        if type(small_modules[name].weight) is nn.Parameter:
            assert id(module.weight) in tied
            assert torch.equal(output, module(inputs))
            continue
        found += 1
        # A number halfway between two steps may be rounded to either: a few steps in the last place.
        torch.testing.assert_close(output.double(), naive_int8(module, inputs), rtol=0.02, atol=0.02)
        assert not torch.equal(output, module(inputs))
    assert found >= (6 if head.has_attention else 4) * NUM_LAYERS


@each_precision
def test_less_to_store(precision):
    model = IMAGES.build(hidden_size=64, intermediate_size=256)
    whole, small = measure_cost(model, repeats=2), measure_cost(quantize(model, precision), repeats=2)
    assert small.num_parameters == whole.num_parameters
    if precision == "bf16":
        assert small.size_bytes == whole.size_bytes / 2
        assert small.dtype == "bfloat16"
    else:
        linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
        numbers, rows = sum(m.weight.numel() for m in linear), sum(m.out_features for m in linear)
        assert whole.size_bytes - small.size_bytes == 3 * numbers - 5 * rows  # a float32 scale and an int8 zero a row


@each_precision
def test_mode_and_name_are_kept(build, precision):
    model = build(IMAGES).train()
    model.config._name_or_path = "me/mine"
    small = quantize(model, precision)
    assert small.training
    assert small.config._name_or_path == "me/mine"
    assert small.config._attn_implementation == model.config._attn_implementation


@each_precision
def test_zeros_stay_zeros(build, precision):
    pruned = prune_model(build(IMAGES), 0.5)
    small = quantize(pruned, precision)
    for name, parameter in pruned.named_parameters():
        weight = small.get_parameter(name)
        weight = weight.dequantize() if hasattr(weight, "dequantize") and precision == "int8" else weight
        assert (weight[parameter == 0] == 0).all()


def test_what_cannot_be_quantised_is_refused(build):
    with pytest.raises(ValueError, match="precision must be one of bf16, int8; got 'int4'"):
        quantize(build(IMAGES), "int4")
    with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
        quantize(nn.Linear(2, 2))


@quiet
@pytest.mark.usefixtures("any_peft")
@each_way
def test_adapters_are_refused(build, adapt):
    with pytest.raises(TypeError, match=r"no adapters to be quantised; got default: .*merge_adapter=True"):
        quantize(adapt(build(IMAGES)), "bf16")


def test_a_quantised_model_is_neither_pruned_nor_quantised_again(build):
    pytest.importorskip("torchao")
    small = quantize(build(IMAGES), "int8")
    with pytest.raises(TypeError, match="must be quantised once; got a quantised AcnViTForImageClassification"):
        quantize(small, "bf16")
    with pytest.raises(TypeError, match="must be pruned before it is quantised; got a quantised AcnViT"):
        prune_model(small, 0.5)
    with pytest.raises(TypeError, match="must be pruned before it is quantised; got a quantised AcnViT"):
        measure_sparsity(small)


def test_without_torchao_the_extra_is_named(build, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ImportError, match=r"int8 needs torchao: pip install 'acn-hf\[quantization\]'"):
        quantize(build(IMAGES), "int8")
