"""Which metric is meant: one by its name, an `evaluate` module, or a function of the caller's or of a Python file.

Metrics themselves are those of scikit-learn, SciPy, seqeval and torchmetrics. They are imported when they are computed,
since the command line needs the names alone, and at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from . import entities, squad
from .errors import ProfileError
from .metric_source import is_source, load_object

if TYPE_CHECKING:
    import numpy as np

IGNORED_LABEL = -100
ROUNDING = 1e-9
"""Differences of two metrics below this are rounding errors of the subtraction."""
KINDS_OF_EVIDENCE = ("classes", "numbers", "predictions", "loss", "tags", "answers", "scores")


@dataclass(frozen=True)
class Metric:
    """A number from predictions and references, or from losses.

    Args:
        name (`str`): What the profile calls it.
        greater_is_better (`bool`): Which direction is good.
        score (`Callable`): From `(predictions, references)`, or for `needs == "loss"` from `(losses, weights)`.
        needs (`str`, *optional*, defaults to `"classes"`): What is kept of every batch: `"classes"`, `"numbers"`,
            either of them (`"predictions"`), `"loss"`, for each text the list of the names of its `"tags"`, or for
            each question the text of its answer and a tuple of those that are right (`"answers"`; no answer is the
            empty text). `"scores"` are made by what measures, one for each example, and are no predictions.
        per_example (`Callable`, *optional*): The same arguments to one score, or one row of numbers, per example.
        of_mean (`Callable`, *optional*): From the mean of what `per_example` returns to the metric, where that mean is
            not the metric itself.

    Raises:
        ProfileError: `needs` is none of these.
    """

    name: str
    greater_is_better: bool
    score: Callable[[np.ndarray, np.ndarray], float]
    needs: str = "classes"
    per_example: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    of_mean: Callable[[np.ndarray], float] | None = None

    def __post_init__(self) -> None:
        if self.needs not in KINDS_OF_EVIDENCE:
            raise ProfileError(f"needs must be one of {', '.join(KINDS_OF_EVIDENCE)}; got {self.needs!r}")


def _hits(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return 1.0 for each example whose every label is right."""
    return (predictions == references).reshape(len(references), -1).all(axis=1).astype(float)


def _accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    return float(_hits(predictions, references).mean())


def _sklearn(name: str, **options: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return scikit-learn's metric of this name, with its `(references, predictions)` turned around."""

    def score(predictions: np.ndarray, references: np.ndarray) -> float:
        from sklearn import metrics

        return getattr(metrics, name)(references, predictions, **options)

    return score


def _mean_loss(losses: np.ndarray, weights: np.ndarray) -> float:
    import numpy as np

    return float(np.average(losses, weights=weights))


def _perplexity(losses: np.ndarray, weights: np.ndarray) -> float:
    import numpy as np

    return float(np.exp(_mean_loss(losses, weights)))


def _correlation(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return SciPy's correlation of this name, and 0 where it is not defined."""

    def correlation(predictions: np.ndarray, references: np.ndarray) -> float:
        import numpy as np
        from scipy import stats

        if np.allclose(predictions, predictions[0]):  # at depth 0 many a head sees the same for every example
            return 0.0
        return getattr(stats, name)(predictions, references).statistic

    return correlation


_better = partial(Metric, greater_is_better=True)
_worse = partial(Metric, greater_is_better=False)
_entities = partial(_better, needs="tags", per_example=entities.counts)
_answers = partial(_better, needs="answers")
METRICS = {
    metric.name: metric
    for metric in (
        _better(name="accuracy", score=_accuracy, per_example=_hits),
        _better(name="balanced_accuracy", score=_sklearn("balanced_accuracy_score")),
        _better(name="f1", score=_sklearn("f1_score")),
        _better(name="f1_macro", score=_sklearn("f1_score", average="macro")),
        _better(name="f1_micro", score=_sklearn("f1_score", average="micro")),
        _better(name="f1_weighted", score=_sklearn("f1_score", average="weighted")),
        _better(name="precision", score=_sklearn("precision_score", zero_division=0)),
        _better(name="recall", score=_sklearn("recall_score", zero_division=0)),
        _better(name="mcc", score=_sklearn("matthews_corrcoef")),
        _better(name="r2", score=_sklearn("r2_score"), needs="numbers"),
        _better(name="pearson", score=_correlation("pearsonr"), needs="numbers"),
        _better(name="spearman", score=_correlation("spearmanr"), needs="numbers"),
        _entities(name="entity_f1", score=entities.f1, of_mean=entities.f1_of_mean),
        _entities(name="entity_precision", score=entities.precision, of_mean=entities.precision_of_mean),
        _entities(name="entity_recall", score=entities.recall, of_mean=entities.recall_of_mean),
        _answers(name="exact_match", score=squad.exact_match, per_example=squad.exact_matches),
        _answers(name="answer_f1", score=squad.f1, per_example=squad.f1_scores),
        _worse(name="mse", score=_sklearn("mean_squared_error"), needs="numbers"),
        _worse(name="mae", score=_sklearn("mean_absolute_error"), needs="numbers"),
        _worse(name="loss", score=_mean_loss, needs="loss"),
        _worse(name="perplexity", score=_perplexity, needs="loss"),
    )
}
BINARY = ("f1", "precision", "recall")
"""Metrics of a positive and a negative class."""


def resolve_metric(metric: Any, greater_is_better: bool | None = None) -> Metric:
    """Return the metric that a name, a place, an `evaluate` module or a callable stands for.

    Args:
        metric (`str`, `Metric`, `evaluate.EvaluationModule` or `Callable`): A name out of `METRICS`, or where a metric
            of your own lies: `metric.py:function`, `metric.py` with one public function, or `module:function`. A
            callable maps `(predictions, references)` to a number. Of a module that returns several values, the first
            counts.
        greater_is_better (`bool`, *optional*): Defaults to the attribute `greater_is_better` of the callable, else to
            what is known of its name, else to `True`.

    Raises:
        ProfileError: There is no metric of that name, what lies at that place cannot be loaded or is none, or
            `greater_is_better` contradicts a metric that says it itself.
    """
    if isinstance(metric, str) and is_source(metric) and metric not in METRICS:
        metric = load_object(metric, Metric)
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ProfileError(
                f"metric must be one of {', '.join(sorted(METRICS))}, or metric.py:function or module:function; "
                f"got {metric!r}"
            )
        metric = METRICS[metric]
    if isinstance(metric, Metric):
        if greater_is_better not in (None, metric.greater_is_better):
            raise ProfileError(f"greater_is_better is for a metric of your own; {metric.name!r} is known")
        return metric
    if not callable(metric) and not hasattr(metric, "compute"):
        raise ProfileError(f"metric must be a name, an evaluate module or a callable; got {metric!r}")
    name = str(getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__))
    if greater_is_better is None:
        known = METRICS[name].greater_is_better if name in METRICS else True
        greater_is_better = bool(getattr(metric, "greater_is_better", known))
    score = partial(_evaluate_score, metric) if hasattr(metric, "compute") else metric
    return Metric(name=name, greater_is_better=greater_is_better, score=score, needs="predictions")


def _evaluate_score(module: Any, predictions: np.ndarray, references: np.ndarray) -> float:
    return next(iter(module.compute(predictions=predictions, references=references).values()))
