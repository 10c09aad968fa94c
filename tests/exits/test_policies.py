"""Policies by hand: their scores, what they refuse, and how they are saved."""

import math
import re
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest
import torch

from acn_hf import ConfidenceExit, EntropyExit, ExitPolicy, PatienceExit
from tests.support.exits import PlannedExit


def logits_of(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_confidence_is_the_largest_probability():
    scores, memory = ConfidenceExit(0.7).score(logits_of((0.7, 0.2, 0.1), (0.3, 0.3, 0.4)), 0, None)
    torch.testing.assert_close(scores, torch.tensor([0.7, 0.4]))
    assert memory is None


def test_entropy_is_a_share_of_the_largest_one():
    policy = EntropyExit(0.5)
    rows = logits_of((0.25, 0.25, 0.25, 0.25), (0.5, 0.5, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    scores, _ = policy.score(rows, 0, None)
    torch.testing.assert_close(-scores, torch.tensor([1.0, 0.5, 0.0]))
    assert (scores >= policy.bound).tolist() == [False, True, True]


def test_the_threshold_of_the_paper_is_in_nats():
    threshold = 0.4
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 3
    in_nats = torch.distributions.Categorical(logits=rows).entropy()
    scores, _ = EntropyExit(threshold).score(rows, 0, None)
    assert torch.equal(scores >= EntropyExit(threshold).bound, in_nats < threshold * math.log(3))


def test_patience_counts_the_depths_that_agree_with_the_one_before():
    predictions = [[0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 1], [1, 1, 0]]
    counters = [[0, 0, 0], [1, 0, 1], [2, 1, 0], [0, 2, 0], [1, 3, 0]]
    memory = None
    for depth, (predicted, expected) in enumerate(zip(predictions, counters, strict=True)):
        logits = torch.nn.functional.one_hot(torch.tensor(predicted), 2).float()
        scores, memory = PatienceExit(2).score(logits, depth, memory)
        assert scores.tolist() == expected


@pytest.mark.parametrize("kind", [ConfidenceExit, EntropyExit, PatienceExit])
def test_scores_of_half_precision_are_not_rounded_to_it(kind):
    logits = torch.tensor([[1.0, 4.0, 0.5]])
    half = kind(1).score(logits.half(), 0, None)[0]
    assert torch.equal(half, kind(1).score(logits, 0, None)[0])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), True, "0.5", None])
@pytest.mark.parametrize("kind", [ConfidenceExit, EntropyExit])
def test_thresholds_lie_between_0_and_1(kind, threshold):
    with pytest.raises(ValueError, match=re.escape(f"threshold must lie in [0, 1]; got {threshold!r}")):
        kind(threshold)


@pytest.mark.parametrize("patience", [0, -1, 1.5, True, "2", None])
def test_patience_is_a_whole_number(patience):
    with pytest.raises(ValueError, match=re.escape(f"patience must be a whole number >= 1; got {patience!r}")):
        PatienceExit(patience)


@pytest.mark.parametrize("min_depth", [-1, 0.5, True, None])
@pytest.mark.parametrize("kind", [ConfidenceExit, EntropyExit, PatienceExit])
def test_min_depth_is_a_whole_number(kind, min_depth):
    with pytest.raises(ValueError, match=re.escape(f"min_depth must be a whole number >= 0; got {min_depth!r}")):
        kind(1, min_depth=min_depth)


def test_policies_are_frozen():
    with pytest.raises(FrozenInstanceError):
        ConfidenceExit(0.5).threshold = 0.6


@pytest.mark.parametrize("policy", [ConfidenceExit(0.5), EntropyExit(0, min_depth=2), PatienceExit(3), PlannedExit(7)])
def test_policies_are_saved_by_their_names(policy, tmp_path):
    policy.save(tmp_path / "policy.json")
    assert ExitPolicy.load(tmp_path / "policy.json") == policy
    assert type(policy).load(tmp_path / "policy.json") == policy


def test_a_policy_that_is_not_known_is_refused_when_read():
    with pytest.raises(ValueError, match=r"policy must be the name of an ExitPolicy; got 'Other'"):
        ExitPolicy.from_dict({"policy": "Other"})
    with pytest.raises(ValueError, match=r"these are not the fields of a PatienceExit: .*threshold"):
        ExitPolicy.from_dict({"policy": "PatienceExit", "threshold": 0.5})


def test_a_policy_says_its_score_and_its_bound():
    @dataclass(frozen=True)
    class Half(ExitPolicy):
        bound: ClassVar[float] = 0.0

    with pytest.raises(TypeError, match=r"abstract method '?score"):
        Half()
    with pytest.raises(TypeError, match="PlannedExit has no bound that can be calibrated"):
        PlannedExit((1,)).with_bound(0.5)


@pytest.mark.parametrize("policy", [ConfidenceExit(0.5), EntropyExit(0.25), PatienceExit(2, min_depth=1)])
def test_the_bound_can_be_set(policy):
    assert policy.with_bound(policy.bound) == policy
    assert policy.with_bound(policy.lowest_bound).bound == policy.lowest_bound
