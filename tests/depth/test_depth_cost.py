"""The cost at every depth is the cost of the model cut there."""

import pytest
from transformers import AlbertConfig, AlbertModel

from acn_hf import DepthCost, DepthError, measure_cost, measure_depth_cost, truncate
from acn_hf.depth.cost import Cost
from tests.support.adapted import any_peft, quiet, with_peft
from tests.support.any_models import any_model
from tests.support.families import NUM_LAYERS, by_name, each_head

__all__ = ["any_peft"]
CLASSIFIER, IMAGES = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")


@each_head()
def test_every_depth_costs_what_the_truncated_model_costs(build, head):
    model = build(head).train()
    cost = measure_depth_cost(model, batch_size=2, warmup=0, repeats=2)
    assert cost.depths == tuple(range(NUM_LAYERS + 1))
    for depth, one in zip(cost.depths, cost.costs, strict=True):
        alone = measure_cost(truncate(model, depth), batch_size=2, warmup=0, repeats=2)
        for name in ("num_parameters", "size_bytes", "flops", "batch_size", "device", "dtype"):
            assert getattr(one, name) == getattr(alone, name)
        assert one.latency_ms > 0
    assert model.training
    assert cost.ratios("flops")[-1] == 1.0
    assert list(cost.ratios("flops")) == sorted(cost.ratios("flops"))


def test_a_module_that_takes_a_view_of_a_parameter_is_counted():
    model = any_model("DebertaV2ForSequenceClassification").build()
    cost = measure_depth_cost(model, depths=[1, 2, 3], warmup=0, repeats=2)
    one, two, three = (cost.costs[index].flops for index in range(3))
    assert two - one == three - two > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_full_depth_is_always_measured_and_progress_is_told():
    seen = []

    def progress(depths):
        for depth in depths:
            seen.append(depth)
            yield depth

    cost = measure_depth_cost(CLASSIFIER.build(), depths=[2, 0, 2], warmup=0, repeats=2, progress=progress)
    assert cost.depths == (0, 2, NUM_LAYERS) == tuple(seen)


@pytest.mark.parametrize("head", ["bert-ForSequenceClassification", "bert-ForMultipleChoice"])
def test_longer_texts_cost_more(build, head):
    model = build(by_name(head))
    short, long = (measure_depth_cost(model, sequence_length=n, warmup=0, repeats=2) for n in (1, 16))
    assert (short.sequence_length, long.sequence_length) == (1, 16)
    assert long.costs[-1].flops > 10 * short.costs[-1].flops
    assert measure_depth_cost(build(IMAGES), warmup=0, repeats=2).sequence_length is None


def test_a_cost_reads_as_a_table_and_as_json(build, tmp_path):
    cost = measure_depth_cost(build(CLASSIFIER), depths=[1], warmup=0, repeats=2)
    cost.save(tmp_path / "cost.json")
    assert DepthCost.load(tmp_path / "cost.json") == cost
    text = str(cost)
    assert "batch size 1, 16 tokens, float32, on cpu" in text
    assert f"{cost.costs[0].num_parameters:,}" in text
    assert f"{cost.ratios('num_parameters')[0]:.3f}" in text
    assert "1.000" in text.splitlines()[-2]


@quiet
@pytest.mark.usefixtures("any_peft")
def test_adapters_count(build):
    plain, adapted = (measure_depth_cost(m, warmup=0, repeats=2) for m in (build(IMAGES), with_peft(build(IMAGES))))
    assert adapted.costs[-1].flops > plain.costs[-1].flops


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"depths": [4]}, DepthError, r"\[0, 3\] .*got 4"),
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1; got 0"),
        ({"repeats": 1}, ValueError, "repeats must be >= 2"),
        ({"warmup": -1}, ValueError, "warmup >= 0"),
        ({"sequence_length": 17}, ValueError, r"sequence_length must lie in \[1, 16\] for this model; got 17"),
        ({"sequence_length": 0}, ValueError, "got 0"),
    ],
    ids=["depth", "batch", "repeats", "warmup", "longer than positions", "no tokens"],
)
def test_what_cannot_be_measured_is_refused(build, options, error, text):
    with pytest.raises(error, match=text):
        measure_depth_cost(build(CLASSIFIER), **options)


def test_a_length_of_images_is_refused(build):
    with pytest.raises(ValueError, match="is for models of text; got 8 for AcnViTForImageClassification"):
        measure_depth_cost(build(IMAGES), sequence_length=8)


def test_a_model_whose_layers_share_weights_is_refused():
    config = AlbertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=9, embedding_size=8)
    with pytest.raises(DepthError, match="AlbertModel has none: its layers share weights"):
        measure_depth_cost(AlbertModel(config))


@pytest.mark.parametrize("depths", [(), (1, 0), (0,)], ids=str)
def test_costs_that_do_not_fit_their_depths_are_refused(depths):
    cost = Cost(1, 4, 2, 0.1, 0.1, 1, "cpu", "float32")
    with pytest.raises(DepthError, match="one cost for each of some ascending depths"):
        DepthCost(depths, (cost, cost) if depths else ())
