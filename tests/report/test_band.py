"""What each depth loses, with 95% confidence, against the bootstrap of all examples."""

from dataclasses import replace

import pytest

from acn_hf.depth.bootstrap import resampled_loss
from acn_hf.depth.metrics import METRICS
from acn_hf.report import band
from acn_hf.report.band import losses_of
from tests.support.reported import CLASSES, LANGUAGE, NUMBERS, answers


def of_all(known, depth, **options):
    """Return the interval by a bootstrap of all examples."""
    kept, full = known.at[depth].answers, known.full.answers
    found = resampled_loss(known.metric, kept, full, known.references, confidence_level=0.95, **options)
    return found.confidence_interval.low, found.confidence_interval.high


def test_it_is_the_bootstrap_of_all_examples():
    known = answers(number=300)
    assert losses_of(known) == {depth: of_all(known, depth) for depth in known.at}


@pytest.mark.parametrize(
    ("task", "metric"),
    [(CLASSES, "accuracy"), pytest.param(CLASSES, "f1_macro", marks=pytest.mark.slow), (NUMBERS, "mse")],
)
def test_of_many_examples_some_are_drawn(monkeypatch, task, metric):
    known = replace(answers(task, number=3000, depths=2), metric=METRICS[metric])
    monkeypatch.setattr(band, "MOST_RESAMPLED", 1000)
    monkeypatch.setattr(band, "FEWER_RESAMPLES", 200)
    for depth, (low, high) in losses_of(known).items():
        lowest, highest = of_all(known, depth, n_resamples=300)
        room = 0.15 * (highest - lowest)
        assert low == pytest.approx(lowest, abs=room)
        assert high == pytest.approx(highest, abs=room)


def test_of_losses_what_grows_is_lost():
    losses = losses_of(answers(LANGUAGE))
    assert 0 < losses[0][0] < losses[0][1]
    assert losses[4] == (0.0, 0.0)


def test_of_one_example_there_is_none():
    assert losses_of(answers(number=1)) == {}


def test_a_metric_that_fits_no_resample_has_none():
    def score(predictions, references):
        if len(set(references[:3])) < 3:
            raise ValueError("three classes are needed")
        return 1.0

    known = answers(number=30)
    assert losses_of(replace(known, metric=replace(METRICS["f1_macro"], score=score))) == {}
