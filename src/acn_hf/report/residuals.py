"""How far predicted numbers are off at every depth, as a histogram of few bars."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..support.records import Record
from .answers import Answered, Answers

NUM_BARS = 30
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution(Record):
    """What the residuals of one model are like; a residual is a prediction less what is right.

    Args:
        counts (`tuple[int, ...]`): Residuals in each bar; what lies beyond the ends is in the first or the last.
        quantiles (`tuple[float, ...]`): Those of `QUANTILES`.
        mean (`float`): Their mean.
        mean_size (`float`): The mean of their sizes.
    """

    counts: tuple[int, ...]
    quantiles: tuple[float, ...]
    mean: float
    mean_size: float


@dataclass(frozen=True)
class Residuals(Record):
    """The residuals of every depth.

    Args:
        edges (`tuple[float, ...]`): Between which the bars lie, one more than there are bars.
        full (`Distribution`): Of the model at full depth, as it was.
        at (`dict[int, Distribution]`): Of the model of each depth.

    Raises:
        ValueError: A histogram has another number of bars than the edges say.
    """

    edges: tuple[float, ...]
    full: Distribution
    at: dict[int, Distribution]

    def __post_init__(self) -> None:
        numbers = [len(one.counts) for one in (self.full, *self.at.values())]
        if any(number != len(self.edges) - 1 for number in numbers):
            raise ValueError(f"histograms must have {len(self.edges) - 1} bars, as the edges say; got {numbers}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        return {**super().to_dict(), "at": {str(depth): one.to_dict() for depth, one in self.at.items()}}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        at = {int(depth): Distribution.from_dict(one) for depth, one in fields["at"].items()}
        return {**fields, "full": Distribution.from_dict(fields["full"]), "at": at}


def residuals_of(answers: Answers) -> Residuals | None:
    """Return the residuals of every depth, or `None` where no numbers are predicted."""
    if answers.kind != "number":
        return None
    at = {depth: residuals(answers, one) for depth, one in answers.at.items()}
    full = residuals(answers, answers.full)
    # The lowest depths may be off by far: their tails lie in the outermost bars, and all others stay apart.
    ends = np.concatenate([np.quantile(one, (0.01, 0.99)) for one in (full, *at.values())])
    size = float(np.abs(ends).max()) or 1.0
    edges = np.linspace(-size, size, NUM_BARS + 1)
    return Residuals(
        tuple(edges.tolist()), _distribution(full, edges), {d: _distribution(one, edges) for d, one in at.items()}
    )


def residuals(answers: Answers, one: Answered) -> np.ndarray:
    """Return by how much each prediction of a model is too great."""
    return (one.answers.astype(float) - answers.references.astype(float)).reshape(-1)


def _distribution(sample: np.ndarray, edges: np.ndarray) -> Distribution:
    counts, _ = np.histogram(np.clip(sample, edges[0], edges[-1]), edges)
    quantiles = tuple(np.quantile(sample, QUANTILES).tolist())
    return Distribution(tuple(counts.tolist()), quantiles, float(sample.mean()), float(np.abs(sample).mean()))
