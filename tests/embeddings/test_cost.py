"""The cost of a SentenceTransformer at every depth is that of the model cut there, with all of its modules."""

import pytest
import torch
from safetensors import safe_open
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import BertConfig, BertForSequenceClassification

from acn_hf import DepthError, measure_cost, measure_depth_cost, measure_embedding_profile, truncate
from tests.embeddings.test_truncate import MODELS, build
from tests.support.adapted import any_peft, quiet, with_adapter, with_peft  # noqa: F401 (a fixture)
from tests.support.sentence_models import SIZES, sentence_model, texts, transformer_folder

QUICK = {"warmup": 0, "repeats": 2}
EXACT = ("num_parameters", "size_bytes", "flops", "batch_size", "device", "dtype")


def stored_bytes(folder):
    """Return the bytes of all weights in a folder, by the headers of their files."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 (is no dict)
    return total


@pytest.mark.parametrize("name", MODELS)
def test_every_depth_costs_what_the_model_does_that_is_cut_saved_and_loaded(name, tmp_path):
    model = build(tmp_path / "long", name).train()
    cost = measure_depth_cost(model, batch_size=2, **QUICK)
    for depth, one in zip(cost.depths, cost.costs, strict=True):
        truncate(model, depth).save_pretrained(str(tmp_path / "short" / str(depth)))
        loaded = SentenceTransformer(str(tmp_path / "short" / str(depth)), device="cpu")
        alone = measure_cost(loaded, batch_size=2, **QUICK)
        assert [getattr(one, field) for field in EXACT] == [getattr(alone, field) for field in EXACT]
        assert one.num_parameters == sum(weight.numel() for weight in loaded.parameters())
        assert one.size_bytes == stored_bytes(tmp_path / "short" / str(depth))
        assert one.latency_ms > 0
    assert model.training
    assert list(cost.ratios("flops")) == sorted(set(cost.ratios("flops")))


def test_a_dense_module_costs_too(tmp_path):
    plain, dense = build(tmp_path / "plain", "mean"), build(tmp_path / "dense", "cls-and-dense")
    one, other = (measure_depth_cost(model, **QUICK) for model in (plain, dense))
    assert {b.num_parameters - a.num_parameters for a, b in zip(one.costs, other.costs, strict=True)} == {12 * 17}
    assert {b.flops - a.flops for a, b in zip(one.costs, other.costs, strict=True)} == {2 * 16 * 12}


def test_profile_and_cost_go_together(model):
    profile = measure_embedding_profile(model, texts(30), reference="self", metric="neighbours")
    tradeoffs = profile.tradeoffs(measure_depth_cost(model, **QUICK))
    full = tradeoffs.costs[-1].num_parameters
    assert tradeoffs.within(max_parameters=full) == 3
    assert tradeoffs.within(max_parameters=full - 1) < 3


def test_what_a_pass_is_given_follows_from_the_longest_text(model):
    assert measure_depth_cost(model, depths=[1], **QUICK).sequence_length == 128
    model.max_seq_length = 7
    short = measure_depth_cost(model, depths=[1], batch_size=3, **QUICK)
    assert (short.sequence_length, short.costs[0].batch_size) == (7, 3)
    assert measure_depth_cost(model, depths=[1], sequence_length=5, **QUICK).sequence_length == 5
    with pytest.raises(ValueError, match=r"sequence_length must lie in \[1, 512\] for this model; got 513"):
        measure_depth_cost(model, sequence_length=513, **QUICK)


def test_the_model_is_left_as_it_was(model):
    before, keys = {name: value.clone() for name, value in model.state_dict().items()}, set(model.__dict__)
    measure_depth_cost(model, **QUICK)
    assert set(model.__dict__) == keys
    assert len(model[0].model.encoder.layer) == model[0].model.config.num_hidden_layers == 3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_cross_encoder_costs_too(tmp_path):
    classifier = BertForSequenceClassification(BertConfig(**SIZES, num_hidden_layers=3, num_labels=1))
    model = CrossEncoder(transformer_folder(tmp_path, classifier), device="cpu")
    cost, alone = measure_depth_cost(model, **QUICK), measure_cost(truncate(model, 1), **QUICK)
    assert [getattr(cost.costs[1], field) for field in EXACT] == [getattr(alone, field) for field in EXACT]


@quiet
@pytest.mark.parametrize("adapt", [with_adapter, with_peft])
def test_adapters_cost_too(adapt, tmp_path, any_peft):  # noqa: F811
    model = sentence_model(tmp_path)
    plain = measure_depth_cost(model, **QUICK)
    model[0].model = adapt(model[0].model)
    cost = measure_depth_cost(model, **QUICK)
    assert all(b.num_parameters >= a.num_parameters for a, b in zip(plain.costs, cost.costs, strict=True))
    assert cost.costs[-1].num_parameters > plain.costs[-1].num_parameters
    alone = measure_cost(truncate(model, 2), **QUICK)
    assert (cost.costs[2].num_parameters, cost.costs[2].flops) == (alone.num_parameters, alone.flops)


def test_depths_that_the_model_has_not_are_refused(model):
    with pytest.raises(DepthError, match=r"depth must lie in \[0, 3\].*got 4"):
        measure_depth_cost(model, depths=[4])
