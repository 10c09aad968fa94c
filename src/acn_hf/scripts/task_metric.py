"""The metric of a task, as a `Trainer` computes it at the end of an evaluation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, PreTrainedModel

from ..data.rows import is_regression
from ..data.several_labels import has_several_labels
from ..depth import squad
from ..depth.entities import check_tags
from ..depth.evidence import Evidence, finite, tags
from ..depth.metrics import BINARY, IGNORED_LABEL, METRICS, Metric, resolve_metric
from ..depth.spans import best_spans, windows
from ..publishing.model_card import CardTrainer

WINDOWS_AT_ONCE = 64
"""Of questions, so that the spans of all need not be in memory together."""


class TaskTrainer(CardTrainer):
    """A Trainer whose metric is told which rows it is computed on: answers are compared with texts that stand there."""

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """Like upstream."""
        if isinstance(self.compute_metrics, TaskMetric):
            self.compute_metrics.rows = dataloader.dataset
        return super().evaluation_loop(dataloader, *args, **kwargs)


def metric_functions(metric: Any, config: Any = None) -> dict[str, Callable]:
    """Return the arguments of a `Trainer` that make it compute a metric; none for a loss.

    Args:
        metric (`str` or `Metric`): See [`resolve_metric`]. Metrics of answers need a [`TaskTrainer`].
        config (*optional*): That of the model, for tags and for several labels at once.
    """
    metric = resolve_metric(metric)
    if metric.needs == "loss":
        return {}
    computed = TaskMetric(metric, config)
    return {"compute_metrics": computed, "preprocess_logits_for_metrics": computed.reduce}


class TaskMetric:
    """Computes a metric of what a Trainer has collected: what is measured at every depth, at full depth alone.

    Args:
        metric (`Metric`): Anything but a loss.
        config (*optional*): That of the model.
    """

    def __init__(self, metric: Metric, config: Any = None) -> None:
        self.metric, self.config = metric, config
        self.rows: Any = None

    def reduce(self, logits: Any, labels: Any) -> torch.Tensor:
        """Return what is to be collected of a batch."""
        if isinstance(labels, (tuple, list)):  # the first and the last token of an answer
            both = torch.stack(tuple(logits[:2]), dim=-1)
            return both.float() if self.metric.needs == "answers" else both.argmax(dim=1)
        logits = logits[0] if isinstance(logits, tuple) else logits
        if not labels.is_floating_point():
            return logits.argmax(dim=-1)
        return (logits > 0).int() if self._has_several_labels() else logits.reshape(labels.shape)

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        evidence = Evidence(self.metric)
        if self.metric.needs == "answers":
            evidence.extend(self._answers(prediction.predictions))
        else:
            found, right = self._arrays(prediction.predictions, prediction.label_ids)
            evidence.extend([({0: found}, right)])
        return {self.metric.name: evidence.value(0)}

    def _arrays(self, found: Any, right: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.metric.needs == "tags":
            labels = torch.from_numpy(right)
            return tags(torch.from_numpy(found), labels, self.config), tags(labels, labels, self.config)
        if isinstance(right, tuple):
            return found, np.stack(right, axis=-1)
        if self._has_several_labels():
            return found, right.astype(int)
        counts = right != IGNORED_LABEL
        return found[counts], right[counts]

    def _answers(self, logits: np.ndarray) -> Any:
        """Yield the best spans of some windows, and what is right in them."""
        for start in range(0, len(logits), WINDOWS_AT_ONCE):
            part = torch.from_numpy(logits[start : start + WINDOWS_AT_ONCE])
            questions = [self.rows[start + row]["label"] for row in range(len(part))]
            yield {0: best_spans(finite(part), questions)}, windows(questions)

    def _has_several_labels(self) -> bool:
        return self.config is not None and has_several_labels(self.config)


def check_metric(model: PreTrainedModel, metric: Metric) -> None:
    """Refuse a metric that does not fit what a model predicts, or lacks its package, before anything is trained.

    Raises:
        ImportError: A package is missing.
        ProfileError: The classes of the model are no tags, and the metric is one of entities.
        ValueError: It does not fit.
    """
    kind, config = type(model).__name__, model.config
    fitting = [one.name for one in METRICS.values() if _fits(one, kind, config)]
    if not _fits(metric, kind, config):
        raise ValueError(f"--depth_metric must be one of {', '.join(fitting)} for this {kind}; got {metric.name}")
    if metric.needs == "tags":
        check_tags(tuple(str(name) for name in config.id2label.values()))
    if metric.needs == "answers":
        squad.f1_scores(np.array([]), np.array([]))


def _fits(metric: Metric, kind: str, config: Any) -> bool:
    if metric.needs == "loss" or kind.endswith("ForMaskedImageModeling"):
        return metric.needs == "loss"
    if metric.needs in ("tags", "answers"):
        return kind.endswith({"tags": "ForTokenClassification", "answers": "ForQuestionAnswering"}[metric.needs])
    if metric.needs == "predictions":
        return True
    if kind.endswith("ForQuestionAnswering"):  # where the classes of scikit-learn would be pairs of places
        return metric.name == "accuracy" or metric.name not in METRICS
    chooses = kind.endswith("ForMultipleChoice")  # whatever the number of labels in its config
    are_many = has_several_labels(config) or chooses or kind.endswith("ForMaskedLM") or config.num_labels > 2
    needed = "numbers" if is_regression(config) and not chooses else "classes"
    return metric.needs == needed and not (are_many and metric.name in BINARY)
