"""A cost is what one can count by hand, and what the disk says."""

import pytest
import torch

from acn_hf import Cost, measure_cost, truncate
from acn_hf.depth.cost import example_inputs
from tests.support.any_models import ALL, MORE_KINDS, any_model
from tests.support.families import HEADED, NUM_LAYERS, by_name, each_head

CLASSIFIER = by_name("bert-ForSequenceClassification")


@each_head()
def test_parameters_and_bytes_are_those_on_disk(head, build, tmp_path):
    model = build(head)
    cost = measure_cost(model, warmup=0, repeats=2)
    model.save_pretrained(tmp_path)
    written = (tmp_path / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(written[:8], "little")
    assert cost.size_bytes == len(written) - header
    assert cost.num_parameters == sum(parameter.numel() for parameter in model.parameters())


@each_head()
def test_inputs_that_want_gradients_change_no_cost(head, build):
    """As in a model with adapters whose activations are checkpointed."""
    model, plain = build(head), build(head)
    model.enable_input_require_grads()
    assert measure_cost(model, warmup=0, repeats=2).flops == measure_cost(plain, warmup=0, repeats=2).flops


def by_hand(config, batch_size, length, layers):
    """Two operations for each multiplication: four projections, two products of attention, two of the MLP."""
    hidden, inner = config.hidden_size, config.intermediate_size
    tokens = batch_size * length
    projections = 4 * 2 * tokens * hidden**2
    attention = 2 * 2 * batch_size * length**2 * hidden
    mlp = 2 * 2 * tokens * hidden * inner
    return layers * (projections + attention + mlp)


@pytest.mark.parametrize("depth", range(NUM_LAYERS + 1))
def test_flops_are_those_counted_by_hand(build, depth):
    short = truncate(build(CLASSIFIER), depth)
    config, length = short.config, 7
    inputs = {"input_ids": torch.ones(3, length, dtype=torch.long)}
    head = 2 * 3 * config.hidden_size**2 + 2 * 3 * config.hidden_size * config.num_labels
    expected = by_hand(config, 3, length, depth) + head
    assert measure_cost(short, inputs, warmup=0, repeats=2).flops == expected


def test_flops_do_not_depend_on_the_attention_implementation(build):
    flops = {
        measure_cost(build(CLASSIFIER, attn_implementation=name), warmup=0, repeats=2).flops
        for name in ("eager", "sdpa")
    }
    assert len(flops) == 1


def test_time_is_a_median_of_what_the_clock_said(build, monkeypatch):
    times = iter([0.0, 9.0, 10.0, 10.001, 20.0, 20.003, 30.0, 30.002])  # one warm-up pass, then 1, 3 and 2 ms
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    cost = measure_cost(build(CLASSIFIER), warmup=1, repeats=3)
    assert cost.latency_ms == pytest.approx(2.0)
    assert cost.latency_spread_ms == pytest.approx(2.0)


@each_head(HEADED)
def test_example_inputs_fit_every_head(head, build):
    model = build(head)
    inputs = example_inputs(model, batch_size=2)
    assert len(next(iter(inputs.values()))) == 2
    with torch.no_grad():
        assert model(**inputs)


@pytest.mark.parametrize("entry", [*ALL, *MORE_KINDS], ids=lambda entry: entry.name)
def test_example_inputs_fit_every_model_of_transformers(entry):
    model = entry.build()
    inputs = example_inputs(model, batch_size=2)
    assert list(inputs) == [model.main_input_name]
    assert len(inputs[model.main_input_name]) == 2
    with torch.no_grad():
        assert model(**inputs)


def test_inputs_of_which_the_config_says_nothing():
    model = any_model("ViTForImageClassification").build()
    model.main_input_name = "input_features"
    with pytest.raises(ValueError, match=r"takes input_features, whose size its config must say: .* 'num_mel_bins'"):
        example_inputs(model)


def test_the_model_is_left_as_it_was_found(build):
    model = build(CLASSIFIER).train()
    measure_cost(model, warmup=0, repeats=2)
    assert all(module.training for module in model.modules())


def test_half_precision_is_half_the_bytes(build):
    model = build(CLASSIFIER)
    full = measure_cost(model, warmup=0, repeats=2)
    half = measure_cost(model.to(torch.bfloat16), warmup=0, repeats=2)
    assert (half.size_bytes * 2, half.dtype) == (full.size_bytes, "bfloat16")


def test_a_cost_saves_and_loads(build, tmp_path):
    cost = measure_cost(build(CLASSIFIER), warmup=0, repeats=2)
    cost.save(tmp_path / "cost.json")
    assert Cost.load(tmp_path / "cost.json") == cost


@pytest.mark.parametrize("options", [{"repeats": 1}, {"batch_size": 0}, {"warmup": -1}], ids=str)
def test_numbers_out_of_range_are_refused(build, options):
    with pytest.raises(ValueError, match=r"repeats must be >= 2, warmup >= 0 and batch_size >= 1; got"):
        measure_cost(build(CLASSIFIER), **options)
