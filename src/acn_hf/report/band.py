"""What each depth loses against full depth, as far as the examples can tell, in seconds however many there are."""

from typing import Any

import numpy as np

from ..depth.bootstrap import resampled_loss
from ..depth.metrics import ProfileError
from .answers import Answered, Answers

CONFIDENCE = 0.95
FEWER_RESAMPLES = 200
"""Of metrics that have to be computed anew for every resample."""
MOST_RESAMPLED = 10_000
"""Examples. Of more, so many are drawn once, and their spread is made as much smaller as all of them would make it."""


def losses_of(answers: Answers) -> dict[int, tuple[float, float]]:
    """Return what each depth loses lies between, with 95% confidence; what it gains is a loss below 0.

    A paired bootstrap, as [`DepthProfile.loss_interval`] does it. Of n examples that are many it resamples m of them,
    drawn once. As the spread of a mean falls with the square root of their number, the interval is narrowed by that of
    m / n, and it stands around the loss of all.
    """
    number = answers.num_examples
    rows: Any = slice(None)
    if number > MOST_RESAMPLED:
        rows = np.sort(np.random.default_rng(0).choice(number, MOST_RESAMPLED, replace=False))
    losses = {}
    for depth, one in answers.at.items():
        try:
            low, high = _interval(answers, one, rows)
        except (ProfileError, TypeError, ValueError):  # too few examples, or a metric that does not fit a resample
            return {}
        if np.isfinite((low, high)).all():
            losses[depth] = (low, high)
    return losses


def _interval(answers: Answers, one: Answered, rows: Any) -> tuple[float, float]:
    """Return the interval of what one depth loses, by the resamples of some rows."""
    options: dict[str, Any] = {} if answers.metric.per_example else {"n_resamples": FEWER_RESAMPLES}
    drawn = (one.answers[rows], answers.full.answers[rows], answers.references[rows])
    interval = resampled_loss(answers.metric, *drawn, confidence_level=CONFIDENCE, **options).confidence_interval
    share = len(drawn[2]) / answers.num_examples
    if share == 1:
        return float(interval.low), float(interval.high)
    of_all = _loss(answers, one.answers, answers.full.answers, answers.references)
    of_drawn = _loss(answers, *drawn)
    low, high = (of_all + (end - of_drawn) * share**0.5 for end in (interval.low, interval.high))
    return float(low), float(high)


def _loss(answers: Answers, kept: np.ndarray, full: np.ndarray, references: np.ndarray) -> float:
    score = answers.metric.score
    loss = float(score(full, references)) - float(score(kept, references))
    return loss if answers.metric.greater_is_better else -loss
