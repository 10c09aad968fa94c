"""What a depth loses against full depth, as far as the examples can tell: a paired bootstrap."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .evidence import Evidence
from .metrics import Metric, ProfileError


def check_confidence(confidence: float) -> None:
    """Raise `ProfileError` if a confidence is none."""
    if not 0 < confidence < 1:
        raise ProfileError(f"confidence must lie in (0, 1); got {confidence!r}")


def loss_bounds(
    evidence: Evidence, depth: int, confidence: float, alternative: Literal["less", "two-sided"]
) -> tuple[float, float]:
    """Return the confidence interval of what `depth` loses against full depth; what it gains is below 0.

    Args:
        evidence (`Evidence`): What each example contributed.
        depth (`int`): One of `evidence.depths`.
        confidence (`float`): In (0, 1).
        alternative (`"less"` or `"two-sided"`): The lower end of a one-sided interval is minus infinity.

    Raises:
        ProfileError: There are fewer than two examples.
    """
    (kept, references), (full_kept, _) = evidence.arrays(depth), evidence.arrays(evidence.depths[-1])
    interval = resampled_loss(
        evidence.metric, kept, full_kept, references, confidence_level=confidence, alternative=alternative
    ).confidence_interval
    return float(interval.low), float(interval.high)


def resampled_loss(
    metric: Metric, kept: np.ndarray, full_kept: np.ndarray, references: np.ndarray, **options: Any
) -> Any:
    """Return SciPy's bootstrap of what one array of predictions, or losses, loses against another.

    The same examples are drawn for both: of labels of tokens tokens, of entities texts, of answers questions, and of a
    loss batches.

    Args:
        metric (`Metric`): In whose units.
        kept (`np.ndarray`): The predictions that may be worse.
        full_kept (`np.ndarray`): The predictions they are compared with.
        references (`np.ndarray`): What is right.
        options: Further arguments of `scipy.stats.bootstrap`.

    Raises:
        ProfileError: There are fewer than two examples.
    """
    sign = 1 if metric.greater_is_better else -1
    if metric.per_example is not None and metric.of_mean is None:
        sample = sign * (metric.per_example(full_kept, references) - metric.per_example(kept, references))
        statistic: Callable[..., Any] = _mean
    else:
        sample = np.arange(len(references))
        at_full, at_depth = (_score_of_rows(metric, each, references) for each in (full_kept, kept))

        def statistic(rows: np.ndarray) -> float:
            return sign * (at_full(rows) - at_depth(rows))

    if len(sample) < 2:
        unit = "batches (lower batch_size)" if metric.needs == "loss" else "examples"
        raise ProfileError(f"confidence needs at least two {unit}; got {len(sample)}")
    from scipy import stats

    return stats.bootstrap(
        (sample,),
        statistic,
        batch=100,
        vectorized=statistic is _mean,
        method="percentile",
        rng=np.random.default_rng(0),
        **{"n_resamples": 1000, **options},
    )


def _score_of_rows(metric: Metric, kept: np.ndarray, references: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return the function from the numbers of some examples to their metric."""
    if metric.per_example is None or metric.of_mean is None:
        return lambda rows: metric.score(kept[rows], references[rows])
    summands, of_mean = metric.per_example(kept, references), metric.of_mean
    return lambda rows: of_mean(summands[rows].mean(axis=0))


def _mean(sample: np.ndarray, axis: int) -> np.ndarray:
    return sample.mean(axis=axis)
