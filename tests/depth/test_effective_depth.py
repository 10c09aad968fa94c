"""The effective depth is the smallest that is as good as full depth, and confidence means what it says."""

import numpy as np
import pytest

from acn_hf import DepthProfile
from acn_hf.depth.evidence import Evidence
from acn_hf.depth.metrics import METRICS, ProfileError


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


def test_effective_depth_of_a_loss_looks_down():
    assert profile([3.0, 1.004, 1.0], "loss", False).effective_depth(0.005) == 1
    assert profile([0.5, 1.004, 1.0], "loss", False).effective_depth(0.005) == 0


def test_relative_tolerance_is_a_fraction_of_the_full_value():
    assert profile([10.0, 5.2, 5.0], "perplexity", False).effective_depth(0.05, relative=True) == 1
    assert profile([10.0, 5.2, 5.0], "perplexity", False).effective_depth(0.03, relative=True) == 2


def with_evidence(hits, metric="accuracy"):
    """Return a profile whose examples are right or wrong as `hits` (depths x examples) says."""
    references = np.ones(hits.shape[1], dtype=int)
    kept = {depth: [row.astype(int)] for depth, row in enumerate(hits)}
    evidence = Evidence(METRICS[metric], kept, [references])
    depths = tuple(range(len(hits)))
    values = tuple(evidence.value(depth) for depth in depths)
    return DepthProfile(depths, values, metric, True, hits.shape[1], tuple(depths), evidence)


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
    assert with_evidence(hits, "f1").effective_depth(0.03) == 0
    assert with_evidence(hits, "f1").effective_depth(0.03, confidence=0.95) == 1


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ProfileError, match="tolerance must be a finite number >= 0"):
        profile([0.1, 0.9]).effective_depth(tolerance)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ProfileError, match=rf"confidence must lie in \(0, 1\); got {confidence}"):
        profile([0.1, 0.9]).effective_depth(confidence=confidence)


def test_confidence_of_a_loaded_profile_is_refused():
    with pytest.raises(ProfileError, match="needs the examples"):
        profile([0.9, 0.9]).effective_depth(confidence=0.95)
