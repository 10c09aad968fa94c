"""Zeros, narrower MLPs and fewer bits in any model of transformers: ordinary checkpoints of the same class."""

import json

import pytest
import torch
import transformers
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM
from transformers.pytorch_utils import Conv1D

from acn_hf import depth_logits, measure_sparsity, prune_model, prune_width, quantize, truncate
from acn_hf.depth.layers import layers_of
from acn_hf.smaller.neurons import find_width
from tests.support.any_models import ALL, FIRST, NUM_LAYERS, TEXT, any_model, first_of
from tests.support.training import same_weights, weights

each_model = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
WIDTH, KEPT = 48, 20

NOT_NARROWED = {
    "Dinov2ForImageClassification": "no field of Dinov2Config does that. The matrices .* are in Linear",
    "Dinov2WithRegistersForImageClassification": "no field of Dinov2WithRegistersConfig does that",
    "DINOv3ViTModel": "torch-pruning cannot follow what DINOv3ViTModel computes",
    "SiglipForImageClassification": "torch-pruning cannot follow what SiglipForImageClassification computes",
    "GPT2LMHeadModel": "no field of GPT2Config does that. The matrices of GPT2LMHeadModel are in Conv1D",
}
NOT_IN_INT8 = {
    "CLIPForImageClassification": "cannot read CLIPForImageClassification in int8",
    "Wav2Vec2ForSequenceClassification": "cannot read Wav2Vec2ForSequenceClassification in int8",
    "GPT2LMHeadModel": "int8 is for torch.nn.Linear, and the layers of GPT2LMHeadModel have none",
}


def inputs_of(entry, model):
    inputs = entry.inputs()
    return {name: value.to(model.dtype) if value.is_floating_point() else value for name, value in inputs.items()}


def output(model, entry):
    with torch.no_grad():
        return model(**inputs_of(entry, model))[0]


def read(entry, folder):
    model, info = getattr(transformers, entry.reader).from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model


def matrices(layer):
    return [module.weight for module in layer.modules() if isinstance(module, (nn.Linear, Conv1D))]


@each_model
def test_half_of_the_weights_of_the_layers_become_zero(entry, tmp_path):
    model = entry.build()
    before = weights(model)
    pruned = prune_model(model, 0.5)
    assert same_weights(weights(model), before)
    assert type(pruned) is type(model)
    found = measure_sparsity(pruned)
    assert found.weights == tuple(sum(weight.numel() for weight in matrices(layer)) for layer in layers_of(model))
    assert found.zeros == tuple(
        sum(int((weight == 0).sum()) for weight in matrices(layer)) for layer in layers_of(pruned)
    )
    assert found.sparsity == pytest.approx(0.5, abs=1e-4)
    everything = torch.cat([weight.flatten() for layer in layers_of(model) for weight in matrices(layer)]).abs()
    lowest = everything.kthvalue(len(everything) // 2).values
    changed = {name for name, tensor in weights(pruned).items() if not torch.equal(tensor, before[name])}
    assert changed
    for name in changed:
        assert torch.equal(pruned.state_dict()[name], before[name].where(before[name].abs() > lowest, 0))
    pruned.save_pretrained(tmp_path)
    assert same_weights(weights(read(entry, tmp_path)), weights(pruned))


def silenced(model, narrow, found):
    """Zero what reads the neurons that a narrow model lacks; the others are found by what reads them."""
    for whole, left in zip(found.readers(model), found.readers(narrow), strict=True):
        kept = [(whole.weight == column[:, None]).all(0).nonzero()[0].item() for column in left.weight.T]
        assert kept == sorted(set(kept))
        silent = torch.ones(WIDTH, dtype=torch.bool)
        silent[kept] = False
        with torch.no_grad():
            whole.weight[:, silent] = 0


@pytest.mark.parametrize("entry", first_of([*ALL], {*FIRST, *NOT_NARROWED}))
def test_a_narrow_model_computes_as_if_the_other_neurons_were_silent(entry, tmp_path):
    pytest.importorskip("torch_pruning")
    model = entry.build()
    before = weights(model)
    if entry.name in NOT_NARROWED:
        with pytest.raises(TypeError, match=NOT_NARROWED[entry.name]):
            prune_width(model, KEPT)
        assert same_weights(weights(model), before)
        return
    narrow = prune_width(model, KEPT)
    assert same_weights(weights(model), before)
    assert type(narrow) is type(model)
    narrow.save_pretrained(tmp_path)
    again = read(entry, tmp_path)
    assert same_weights(weights(again), weights(narrow))
    assert torch.equal(output(again, entry), output(narrow, entry))
    assert torch.equal(output(truncate(narrow, 2), entry), output(truncate(again, 2), entry))
    found = find_width(narrow)
    assert found.width == KEPT
    assert (found.field, found.reader) == (find_width(model).field, find_width(model).reader)
    silenced(model, narrow, found)
    torch.testing.assert_close(output(narrow, entry), output(model, entry), rtol=1e-4, atol=1e-6)
    assert not torch.equal(output(narrow, entry), output(entry.build(), entry))


@pytest.mark.parametrize(
    ("name", "field"),
    [("DistilBertForSequenceClassification", "hidden_dim"), ("LlamaForCausalLM", "intermediate_size")],
)
def test_the_config_says_the_width_under_its_own_name(name, field, tmp_path):
    pytest.importorskip("torch_pruning")
    model = any_model(name).build()
    prune_width(model, KEPT).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())[field] == KEPT
    assert getattr(model.config, field) == WIDTH
    with pytest.raises(ValueError, match=rf"intermediate_size must be a whole number in \[1, {WIDTH}\].*got 49"):
        prune_width(model, WIDTH + 1)


def test_the_most_important_neurons_of_a_gated_mlp_stay():
    pytest.importorskip("torch_pruning")
    model = any_model("LlamaForCausalLM").build()
    narrow = prune_width(model, KEPT)
    for long, short in zip(layers_of(model), layers_of(narrow), strict=True):
        up, gate, down = (long.mlp.up_proj.weight, long.mlp.gate_proj.weight, long.mlp.down_proj.weight)
        importance = up.square().sum(1) + gate.square().sum(1) + down.square().sum(0)
        rows = importance.topk(KEPT).indices.sort().values
        assert torch.equal(short.mlp.up_proj.weight, up[rows])
        assert torch.equal(short.mlp.gate_proj.weight, gate[rows])
        assert torch.equal(short.mlp.down_proj.weight, down[:, rows])


def test_a_field_of_attention_is_not_taken_for_the_width():
    """Heads of any size read as many numbers as a field says, and a single head of one layer exactly that many."""
    fields = {**TEXT, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields))
    assert (find_width(model).field, find_width(model).reader) == ("intermediate_size", "mlp.down_proj")


EXPERTS = {"num_local_experts": 2, "num_key_value_heads": 2, "hidden_size": 16, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    "build",
    [
        lambda: MixtralForCausalLM(MixtralConfig(**{**TEXT, **EXPERTS})),
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=2, vocab_size=60, n_inner=24)),
    ],
    ids=["experts", "Conv1D"],
)
def test_neurons_of_another_kind_are_refused(build):
    with pytest.raises(TypeError, match=r"must be read by one torch\.nn\.Linear, and be counted by a field"):
        prune_width(build(), 8)


def test_layers_of_different_widths_are_refused():
    model = any_model("BertForSequenceClassification").build()
    layers_of(model)[2].output.dense = nn.Linear(30, 32)
    with pytest.raises(
        TypeError, match=r"every layer must have 48 neurons, as the first one has; got \[48, 48, 30, 48\]"
    ):
        prune_width(model, KEPT)


def test_what_the_config_would_not_describe_is_not_returned():
    pytest.importorskip("torch_pruning")
    model = any_model("BertForSequenceClassification").build()
    model.classifier = nn.Linear(32, 5)  # of which the config knows nothing
    with pytest.raises(ValueError, match=r"must be what its config says with intermediate_size=20, and is not"):
        prune_width(model, KEPT)


def test_a_base_model_without_layers_has_the_width_of_its_config():
    model = BertModel(BertConfig(**{**TEXT, "num_hidden_layers": 0}))
    assert prune_width(model, KEPT).config.intermediate_size == KEPT


@pytest.mark.parametrize("entry", first_of([*ALL], {*FIRST, *NOT_IN_INT8}))
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_fewer_bits_in_the_same_class(entry, precision, tmp_path):
    if precision == "int8":
        pytest.importorskip("torchao")
    model = entry.build()
    before = weights(model)
    if precision == "int8" and entry.name in NOT_IN_INT8:
        with pytest.raises(TypeError, match=NOT_IN_INT8[entry.name]):
            quantize(model, precision)
        return
    small = quantize(model, precision)
    assert same_weights(weights(model), before)
    assert type(small) is type(model)
    assert not torch.equal(output(small, entry).float(), output(model, entry))
    torch.testing.assert_close(output(small, entry).float(), output(model, entry), rtol=0.1, atol=0.1)
    assert layers_of(small)[0].training == layers_of(model)[0].training
    for depth in (2, NUM_LAYERS):
        folder = tmp_path / str(depth)
        truncate(small, depth).save_pretrained(folder)
        assert torch.equal(output(read(entry, folder), entry), output(truncate(small, depth), entry))
    linear = [module for layer in layers_of(small) for module in layer.modules() if isinstance(module, nn.Linear)]
    assert {type(module.weight) is nn.Parameter for module in linear} <= {precision == "bf16"}


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "LlamaForCausalLM", "ModernBertForMaskedLM"])
def test_int8_of_bfloat16_and_every_depth_of_it(name):
    pytest.importorskip("torchao")
    entry = any_model(name)
    small = quantize(entry.build().bfloat16(), "int8")
    assert small.dtype == torch.bfloat16
    logits = depth_logits(small, **entry.inputs())
    for depth in range(entry.lowest, NUM_LAYERS + 1):
        assert torch.equal(output(truncate(small, depth), entry), logits[depth - entry.lowest])
