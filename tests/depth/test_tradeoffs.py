"""A budget picks the best depth that it allows, and the front is what no smaller depth equals."""

import numpy as np
import pytest

from acn_hf import (
    BudgetError,
    DepthCost,
    DepthProfile,
    DepthTradeoffs,
    measure_depth_cost,
    measure_depth_profile,
)
from acn_hf.depth.cost import Cost
from acn_hf.depth.metrics import ProfileError
from tests.support.any_models import any_model, with_labels

MILLION = 1_000_000


def profile_of(values, depths=None, metric="accuracy", greater_is_better=True):
    depths = tuple(range(len(values))) if depths is None else depths
    parameters = tuple(MILLION * (depth + 1) for depth in depths)
    return DepthProfile(depths, tuple(values), metric, greater_is_better, 100, parameters)


def cost_of(depths, latencies=None):
    """Return a cost of which depth d has d + 1 million parameters, 4 (d + 1) MB, d GFLOPs, and takes d + 1 ms."""
    latencies = [depth + 1.0 for depth in depths] if latencies is None else latencies
    costs = tuple(
        Cost(MILLION * (d + 1), 4 * MILLION * (d + 1), 10**9 * d, latency, 0.1, 1, "cpu", "float32")
        for d, latency in zip(depths, latencies, strict=True)
    )
    return DepthCost(tuple(depths), costs)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_latency_ms": 4}, 3),
        ({"max_latency_ms": 3.99}, 1),  # of depth 1 and 2, which are equally good
        ({"max_latency_ms": 100}, 3),  # full depth is worse
        ({"max_parameters": MILLION}, 0),
        ({"max_mb": 8}, 1),
        ({"max_gflops": 0.5}, 0),
        ({"max_latency_ms": 4, "max_mb": 4}, 0),
    ],
    ids=str,
)
def test_the_best_depth_within_the_limits_is_chosen(limits, expected):
    profile = profile_of([0.5, 0.8, 0.8 + 1e-12, 0.9, 0.85])
    assert profile.within(cost_of(range(5)), **limits) == expected


def test_of_a_loss_the_lowest_is_best():
    profile = profile_of([3.0, 1.0, 2.0], metric="loss", greater_is_better=False)
    assert profile.within(cost_of(range(3)), max_latency_ms=3) == 1
    assert profile.tradeoffs(cost_of(range(3))).front == (0, 1)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_latency_ms": 0.5}, "no depth meets max_latency_ms=0.5: the fastest, depth 1, takes 0.9 ms"),
        ({"max_parameters": 999_999}, "no depth meets max_parameters=999999: the smallest, depth 0, has 1,000,000 par"),
        ({"max_mb": 3.9}, "no depth meets max_mb=3.9: the smallest, depth 0, has 4 MB"),
        ({"max_mb": 3, "max_latency_ms": 5}, "^no depth meets max_mb=3: the smallest, depth 0, has 4 MB$"),
        (
            {"max_mb": 3, "max_latency_ms": 0.1},
            "max_latency_ms=0.1: the fastest, depth 1, takes 0.9 ms; no depth meets max_mb=3: the smallest",
        ),
        (
            {"max_mb": 4, "max_latency_ms": 0.95},
            "no depth meets max_latency_ms=0.95 and max_mb=4 together, though each is met by some: "
            "max_latency_ms by 1; max_mb by 0",
        ),
    ],
    ids=str,
)
def test_a_budget_that_no_depth_meets_says_what_there_is(limits, text):
    profile = profile_of([0.5, 0.8, 0.9])
    with pytest.raises(BudgetError, match=text):
        profile.within(cost_of(range(3), latencies=[1.0, 0.9, 3.0]), **limits)


def test_a_budget_of_operations_that_no_depth_meets():
    with pytest.raises(BudgetError, match=r"no depth meets max_gflops=0.5: the cheapest, depth 1, takes 1 GFLOPs"):
        profile_of([0.8, 0.9], (1, 2)).within(cost_of((1, 2)), max_gflops=0.5)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({}, "a budget must have a limit: max_latency_ms, max_parameters, max_mb, max_gflops; got none"),
        ({"max_mb": 0}, "max_mb must be a number above 0; got 0"),
        ({"max_latency_ms": -1.0}, "max_latency_ms must be a number above 0; got -1.0"),
        ({"max_gflops": float("nan")}, "max_gflops must be a number above 0; got nan"),
    ],
    ids=str,
)
def test_what_is_no_budget_is_refused(limits, text):
    with pytest.raises(ProfileError, match=text):
        profile_of([0.5, 0.9]).within(cost_of(range(2)), **limits)


def test_a_lowest_depth_that_one_of_the_two_lacks_is_left_out():
    assert profile_of([0.9, 0.8, 0.9]).within(cost_of((1, 2)), max_latency_ms=9) == 2
    assert profile_of([0.8, 0.9], (1, 2)).tradeoffs(cost_of(range(3))).depths == (1, 2)


@pytest.mark.parametrize("depths", [(0, 2), (0, 1), (0, 1, 2, 3), (3,)], ids=str)
def test_other_depths_of_the_cost_are_refused(depths):
    with pytest.raises(ProfileError, match=r"got \(0, 1, 2\) of the profile and \(.*\) of the cost"):
        profile_of([0.5, 0.8, 0.9]).within(cost_of(depths), max_mb=9)


def test_the_cost_of_another_model_is_refused():
    profile = DepthProfile((0, 1), (0.5, 0.9), "accuracy", True, 100, (MILLION, 2 * MILLION + 1))
    with pytest.raises(ProfileError, match=r"at depth 1 that of the profile has 2,000,001 parameters, .* 2,000,000$"):
        profile.tradeoffs(cost_of(range(2)))


def test_the_front_is_every_depth_that_no_smaller_one_equals():
    """Compared with the definition, over many random profiles; a noisy latency changes nothing."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.integers(0, 5, size=6) / 5
        tradeoffs = profile_of(values).tradeoffs(cost_of(range(6), latencies=rng.random(6)))
        expected = tuple(d for d in range(6) if not any(values[smaller] >= values[d] for smaller in range(d)))
        assert tradeoffs.front == expected


def test_tradeoffs_read_as_a_table_and_as_json(tmp_path):
    tradeoffs = profile_of([0.5, 0.9, 0.9]).tradeoffs(cost_of(range(3)))
    tradeoffs.save(tmp_path / "tradeoffs.json")
    assert DepthTradeoffs.load(tmp_path / "tradeoffs.json") == tradeoffs
    lines = str(tradeoffs).splitlines()
    assert "batch size 1, float32, on cpu" in lines[0]
    (one,) = (line for line in lines if "2,000,000" in line)
    assert [cell.strip() for cell in one.strip("│").split("│")] == [
        *("1", "0.9000", "2,000,000", "8.00", "1", "2.00 ± 0.05", "*")
    ]
    assert sum("*" in line for line in lines) == 3  # two depths on the front, and what the star means


@pytest.mark.parametrize(
    ("depths", "values", "text"),
    [
        ((0, 1), (0.5,), "2 depths, 1 values, 2 costs"),
        ((1, 0), (0.5, 0.9), r"must ascend; got \(1, 0\)"),
        ((0, 1), (0.5, float("nan")), "must be finite numbers"),
    ],
    ids=str,
)
def test_tradeoffs_that_do_not_fit_are_refused(depths, values, text):
    with pytest.raises(ProfileError, match=text):
        DepthTradeoffs(depths, values, cost_of(range(2)).costs, "accuracy", True)


@pytest.mark.parametrize(
    "name",
    [
        "BertForSequenceClassification",
        "DistilBertForSequenceClassification",
        "ModernBertForSequenceClassification",
        "Dinov2ForImageClassification",
        "LlamaForCausalLM",
    ],
)
def test_any_model_is_chosen_by_what_was_measured(name):
    entry = any_model(name)
    model = entry.build()
    profile = measure_depth_profile(model, [with_labels(entry, entry.inputs())])
    cost = measure_depth_cost(model, warmup=0, repeats=2)
    half = cost.costs[cost.depths.index(2)]
    depth = profile.within(cost, max_parameters=half.num_parameters, max_mb=half.size_bytes / 1e6)
    values = {one: profile.value_at(one) for one in range(entry.lowest, 3)}
    assert depth == max(values, key=values.get)
    with pytest.raises(BudgetError, match=f"the smallest, depth {entry.lowest}, has"):
        profile.within(cost, max_parameters=1)
