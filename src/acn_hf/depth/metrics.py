"""Which metric is meant, and the little that it needs of every batch at every depth.

Metrics themselves are scikit-learn's, SciPy's, evaluate's or the caller's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn import metrics as sk
from transformers.utils import ModelOutput

from ..modeling.depth import output_logits

IGNORED_LABEL = -100


class ProfileError(ValueError):
    """Data, a metric or weights of which nothing can be measured at every depth."""


@dataclass(frozen=True)
class Metric:
    """A number from predictions and references, or from losses.

    Args:
        name (`str`): What the profile calls it.
        greater_is_better (`bool`): Which direction is good.
        score (`Callable`): From `(predictions, references)`, or for `needs == "loss"` from `(losses, weights)`.
        needs (`"classes"`, `"numbers"`, `"predictions"` or `"loss"`): What is kept of every batch.
        per_example (`Callable`, *optional*): The same arguments to one score per example whose mean is the metric.
    """

    name: str
    greater_is_better: bool
    score: Callable[[np.ndarray, np.ndarray], float]
    needs: str = "classes"
    per_example: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def _hits(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return 1.0 for each example whose every label is right."""
    return (predictions == references).reshape(len(references), -1).all(axis=1).astype(float)


def _accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    return float(_hits(predictions, references).mean())


def _swap(function: Callable, **options: Any) -> Callable[[np.ndarray, np.ndarray], float]:
    """Turn scikit-learn's `(references, predictions)` around."""
    return lambda predictions, references: function(references, predictions, **options)


def _mean_loss(losses: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(losses, weights=weights))


def _correlation(function: Callable) -> Callable[[np.ndarray, np.ndarray], float]:
    def correlation(predictions: np.ndarray, references: np.ndarray) -> float:
        if np.allclose(predictions, predictions[0]):  # at depth 0 many a head sees the same for every example
            return 0.0
        return function(predictions, references).statistic

    return correlation


_better = partial(Metric, greater_is_better=True)
_worse = partial(Metric, greater_is_better=False)
METRICS = {
    metric.name: metric
    for metric in (
        _better(name="accuracy", score=_accuracy, per_example=_hits),
        _better(name="balanced_accuracy", score=_swap(sk.balanced_accuracy_score)),
        _better(name="f1", score=_swap(sk.f1_score)),
        _better(name="f1_macro", score=_swap(sk.f1_score, average="macro")),
        _better(name="f1_micro", score=_swap(sk.f1_score, average="micro")),
        _better(name="f1_weighted", score=_swap(sk.f1_score, average="weighted")),
        _better(name="precision", score=_swap(sk.precision_score, zero_division=0)),
        _better(name="recall", score=_swap(sk.recall_score, zero_division=0)),
        _better(name="mcc", score=_swap(sk.matthews_corrcoef)),
        _better(name="r2", score=_swap(sk.r2_score), needs="numbers"),
        _better(name="pearson", score=_correlation(stats.pearsonr), needs="numbers"),
        _better(name="spearman", score=_correlation(stats.spearmanr), needs="numbers"),
        _worse(name="mse", score=_swap(sk.mean_squared_error), needs="numbers"),
        _worse(name="mae", score=_swap(sk.mean_absolute_error), needs="numbers"),
        _worse(name="loss", score=_mean_loss, needs="loss"),
        _worse(name="perplexity", score=lambda *args: float(np.exp(_mean_loss(*args))), needs="loss"),
    )
}
BINARY = ("f1", "precision", "recall")
"""Metrics of a positive and a negative class."""


def resolve_metric(metric: Any, greater_is_better: bool | None = None) -> Metric:
    """Return the metric that a name, an `evaluate` module or a callable stands for.

    Args:
        metric (`str`, `evaluate.EvaluationModule` or `Callable`): A callable maps `(predictions, references)` to a
            number. Of a module that returns several values, the first counts.
        greater_is_better (`bool`, *optional*): Defaults to what is known of the name, else to `True`.

    Raises:
        ProfileError: There is no metric of that name.
    """
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ProfileError(f"metric must be one of {', '.join(sorted(METRICS))}; got {metric!r}")
        if greater_is_better not in (None, METRICS[metric].greater_is_better):
            raise ProfileError(f"greater_is_better is for a metric of your own; {metric!r} is known")
        return METRICS[metric]
    if not callable(metric) and not hasattr(metric, "compute"):
        raise ProfileError(f"metric must be a name, an evaluate module or a callable; got {metric!r}")
    name = str(getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__))
    if greater_is_better is None:
        greater_is_better = METRICS[name].greater_is_better if name in METRICS else True
    score = partial(_evaluate_score, metric) if hasattr(metric, "compute") else metric
    return Metric(name=name, greater_is_better=greater_is_better, score=score, needs="predictions")


def _evaluate_score(module: Any, predictions: np.ndarray, references: np.ndarray) -> float:
    return next(iter(module.compute(predictions=predictions, references=references).values()))


@dataclass
class Evidence:
    """What is kept of the data: two small arrays a depth, and never logits.

    Args:
        metric (`Metric`): Decides what is kept.
    """

    metric: Metric
    _kept: dict[int, list[np.ndarray]] = field(default_factory=dict)
    _references: list[np.ndarray] = field(default_factory=list)

    def add(self, outputs: Any, inputs: dict[str, Any], config: Any) -> None:
        """Take what is needed of one batch's outputs, `(depth, output)` pairs."""
        references: np.ndarray | None = None
        for depth, output in outputs:
            if self.metric.needs == "loss":
                kept, references = _loss(output, inputs)
            else:
                kept, references = _predictions(output, inputs, config)
                self._check_kind(references)
            self._kept.setdefault(depth, []).append(kept)
        if references is not None:
            self._references.append(references)

    def _check_kind(self, references: np.ndarray) -> None:
        are_numbers = np.issubdtype(references.dtype, np.floating)
        kind = "numbers" if are_numbers else "classes"
        if self.metric.needs in ("numbers", "classes") and self.metric.needs != kind:
            fitting = [metric.name for metric in METRICS.values() if metric.needs == kind]
            raise ProfileError(
                f"metric must be one of {', '.join(fitting)} where labels are {kind}; got {self.metric.name!r}"
            )

    def batches(self) -> list[tuple[dict[int, np.ndarray], np.ndarray]]:
        """Return what is kept of each batch: an array for each depth, and the references."""
        return [
            ({depth: kept[number] for depth, kept in self._kept.items()}, references)
            for number, references in enumerate(self._references)
        ]

    def extend(self, batches: Iterable[tuple[dict[int, np.ndarray], np.ndarray]]) -> None:
        """Take what another object kept of its batches."""
        for kept, references in batches:
            for depth, array in kept.items():
                self._kept.setdefault(depth, []).append(array)
            self._references.append(references)

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths seen, ascending."""
        return tuple(sorted(self._kept))

    def arrays(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `(predictions, references)`, or `(losses, weights)`, of one depth."""
        return np.concatenate(self._kept[depth]), np.concatenate(self._references)

    def value(self, depth: int) -> float:
        """Return the metric at one depth.

        Raises:
            ProfileError: It is not a finite number, or no label counts.
        """
        kept, references = self.arrays(depth)
        if len(references) == 0 or (self.metric.needs == "loss" and references.sum() == 0):
            raise ProfileError(f"at least one label must count; all are {IGNORED_LABEL}")
        try:
            value = float(self.metric.score(kept, references))
        except (TypeError, ValueError) as error:
            hint = " (f1_macro is for more than two classes)" if "average" in str(error) else ""
            raise ProfileError(f"metric {self.metric.name!r} does not fit the data{hint}: {error}") from error
        if not np.isfinite(value):
            raise ProfileError(f"metric {self.metric.name!r} must be a finite number; got {value} at depth {depth}")
        return value


def num_rows(inputs: dict[str, Any]) -> int:
    """Return the number of examples in a batch, which may hold options beside tensors."""
    return len(next(value for value in inputs.values() if isinstance(value, torch.Tensor)))


def loss_weight(output: ModelOutput, inputs: dict[str, Any]) -> int:
    """Return over how much the loss of a batch is a mean: labels that count, masked patches, or rows.

    Raises:
        ProfileError: There is no loss.
    """
    if output.get("loss") is None:
        raise ProfileError(f"the data must hold labels; got only {', '.join(inputs) or 'nothing'}")
    labels = inputs.get("labels")
    if labels is not None and not labels.is_floating_point():
        return int((labels != IGNORED_LABEL).sum())
    if inputs.get("bool_masked_pos") is not None:
        return int(inputs["bool_masked_pos"].sum())
    return num_rows(inputs)


def _loss(output: ModelOutput, inputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    weight = loss_weight(output, inputs)
    return np.array([float(output["loss"]) if weight else 0.0]), np.array([weight])


def _predictions(output: ModelOutput, inputs: dict[str, Any], config: Any) -> tuple[np.ndarray, np.ndarray]:
    logits = output_logits(output)
    if "start_positions" in inputs and "end_positions" in inputs:
        references = torch.stack((inputs["start_positions"], inputs["end_positions"]), dim=-1)
        return _numpy(_finite(logits).argmax(dim=1)), _numpy(references)
    labels = inputs.get("labels", inputs.get("next_sentence_label"))
    if labels is None:
        raise ProfileError(f"the data must hold labels; got only {', '.join(inputs) or 'nothing'}")
    if labels.shape == logits.shape[:-1] and not labels.is_floating_point() and logits.shape[-1] > 1:
        valid = labels != IGNORED_LABEL
        return _numpy(_finite(logits[valid]).argmax(dim=-1)), _numpy(labels[valid])
    if labels.numel() != logits.numel():
        raise ProfileError(f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}")
    logits = _finite(logits.reshape(labels.shape))
    if config.problem_type == "multi_label_classification":
        return _numpy(logits > 0).astype(int), _numpy(labels).astype(int)
    return _numpy(logits.float()), _numpy(labels.float())


def _finite(logits: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(logits).all():
        raise ProfileError("the logits must be finite numbers; got nan or infinity")
    return logits


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
