"""The effective depth is the smallest that is as good as full depth, and confidence means what it says."""

import numpy as np
import pytest
from scipy import stats

from acn_hf import DepthProfile
from acn_hf.depth.evidence import Evidence
from acn_hf.depth.metrics import METRICS, Metric, ProfileError


def profile(values, metric="accuracy", greater_is_better=True):
    depths = tuple(range(len(values)))
    return DepthProfile(depths, tuple(values), metric, greater_is_better, 100, tuple(100 * d for d in depths))


@pytest.mark.parametrize(
    ("values", "tolerance", "expected"),
    [
        ([0.1, 0.5, 0.9, 0.9], 0.005, 2),
        ([0.1, 0.895, 0.9], 0.005, 1),  # a difference of exactly the tolerance is within it
        ([0.1, 0.8949, 0.9], 0.005, 2),
        ([0.9, 0.1, 0.9], 0.0, 0),
        ([0.95, 0.1, 0.9], 0.0, 0),
        ([0.1, 0.5, 0.9], 1.0, 0),
    ],
)
def test_effective_depth_is_the_smallest_within_the_tolerance(values, tolerance, expected):
    assert profile(values).effective_depth(tolerance) == expected


def test_by_default_half_a_point_may_be_lost():
    assert profile([0.8949, 0.8951, 0.9]).effective_depth() == 1


def test_effective_depth_of_a_loss_looks_down():
    assert profile([3.0, 1.004, 1.0], "loss", False).effective_depth(0.005) == 1
    assert profile([0.5, 1.004, 1.0], "loss", False).effective_depth(0.005) == 0


def test_relative_tolerance_is_a_fraction_of_the_full_value():
    assert profile([10.0, 5.2, 5.0], "perplexity", False).effective_depth(0.05, relative=True) == 1
    assert profile([10.0, 5.2, 5.0], "perplexity", False).effective_depth(0.03, relative=True) == 2


WHOLE = Metric("whole", True, lambda predictions, references: float((predictions == references).mean()))
"""The accuracy, as a metric that does not say what each example contributes."""


def with_evidence(hits, metric=METRICS["accuracy"]):
    """Return a profile whose examples are right or wrong as `hits` (depths x examples) says."""
    references = np.ones(hits.shape[1], dtype=int)
    kept = {depth: [row.astype(int)] for depth, row in enumerate(hits)}
    evidence = Evidence(metric, kept, [references])
    depths = tuple(range(len(hits)))
    values = tuple(evidence.value(depth) for depth in depths)
    return DepthProfile(depths, values, metric.name, True, hits.shape[1], tuple(depths), evidence)


def test_confidence_needs_more_evidence_than_the_mean():
    few = np.ones((2, 20), bool)
    few[0, 0] = False  # one of 20 lost: 0.05 is within 0.06, but nothing excludes that it is 0.1
    assert with_evidence(few).effective_depth(0.06) == 0
    assert with_evidence(few).effective_depth(0.06, confidence=0.95) == 1
    many = np.ones((2, 20_000), bool)
    many[0, :1000] = False
    assert with_evidence(many).effective_depth(0.06, confidence=0.95) == 0


def test_confidence_is_paired():
    rng = np.random.default_rng(0)
    full = rng.random(1000) < 0.7
    same = np.stack([full, full])
    assert with_evidence(same).effective_depth(0.0, confidence=0.99) == 0
    independent = np.stack([rng.permutation(full), full])
    assert with_evidence(independent).effective_depth(0.01, confidence=0.99) == 1


def test_confidence_covers_as_often_as_it_says():
    """A depth whose true loss is just above the tolerance passes in about 5% of the samples."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(200):
        hits = np.ones((2, 400), bool)
        hits[0] = rng.random(400) > 0.1
        passed += with_evidence(hits).effective_depth(0.1, confidence=0.95) == 0
    assert 1 <= passed <= 24  # 10 expected; bounds are beyond 3 standard deviations of a binomial


def test_confidence_of_a_metric_that_is_not_a_mean_resamples_examples():
    hits = np.ones((2, 60), bool)
    hits[0, :3] = False
    assert with_evidence(hits, METRICS["f1"]).effective_depth(0.03) == 0
    assert with_evidence(hits, METRICS["f1"]).effective_depth(0.03, confidence=0.95) == 1


def tolerance_that_passes(measured, confidence):
    """Return the smallest tolerance with which depth 0 is as good as full depth."""
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        passes = measured.effective_depth(middle, confidence=confidence) == 0
        low, high = (low, middle) if passes else (middle, high)
    return high


@pytest.mark.parametrize(
    ("confidence", "metric"),
    [(0.8, METRICS["accuracy"]), (0.95, METRICS["accuracy"]), (0.95, WHOLE)],
    ids=["mean-0.8", "mean-0.95", "whole-0.95"],
)
def test_the_tolerance_that_passes_is_a_quantile_of_a_binomial(confidence, metric):
    """Of resampled examples of which one in ten is lost; and whoever asks again gets the same answer."""
    hits = np.ones((2, 1000), bool)
    hits[0, :100] = False
    tolerances = {tolerance_that_passes(with_evidence(hits, metric), confidence) for _ in range(2)}
    assert len(tolerances) == 1
    assert tolerances.pop() == pytest.approx(stats.binom.ppf(confidence, 1000, 0.1) / 1000, abs=0.003)


def with_losses(losses):
    """Return a profile of the losses of batches (depths x batches) of the same weight."""
    evidence = Evidence(METRICS["loss"], {depth: [row] for depth, row in enumerate(losses)}, [np.ones(losses.shape[1])])
    values = tuple(evidence.value(depth) for depth in evidence.depths)
    return DepthProfile(evidence.depths, values, "loss", False, losses.shape[1], evidence.depths, evidence)


def test_confidence_of_a_loss_looks_down():
    losses = np.ones((3, 20))
    losses[0] = 3.0
    losses[1, 0] = 2.0  # one of 20: the mean loses 0.05, and that of 95% of the samples at most 0.15
    assert with_losses(losses).effective_depth(0.06) == 1
    assert with_losses(losses).effective_depth(0.06, confidence=0.95) == 2
    assert with_losses(losses).effective_depth(0.2, confidence=0.95) == 1


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ProfileError, match="tolerance must be a finite number >= 0"):
        profile([0.1, 0.9]).effective_depth(tolerance)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ProfileError, match=rf"confidence must lie in \(0, 1\); got {confidence}"):
        profile([0.1, 0.9]).effective_depth(confidence=confidence)


def test_confidence_of_a_loaded_profile_is_refused():
    text = "^confidence needs the examples, which a saved profile does not hold; measure again$"
    with pytest.raises(ProfileError, match=text):
        profile([0.9, 0.9]).effective_depth(confidence=0.95)


@pytest.mark.parametrize(
    ("measured", "unit"),
    [
        (lambda count: with_evidence(np.ones((2, count), bool)), "examples"),
        (lambda count: with_evidence(np.ones((2, count), bool), WHOLE), "examples"),
        (lambda count: with_losses(np.ones((2, count))), r"batches \(lower batch_size\)"),
    ],
    ids=["accuracy", "own metric", "loss"],
)
def test_confidence_needs_two_of_what_it_resamples(measured, unit):
    with pytest.raises(ProfileError, match=f"^confidence needs at least two {unit}; got 1$"):
        measured(1).effective_depth(confidence=0.95)
    assert measured(2).effective_depth(confidence=0.95) == 0
