"""What a metric needs of every batch at every depth: two small arrays, and never logits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..modeling.depth import output_logits
from ..support.auto_classes import auto_class_for
from .certainty import certainty_of
from .entities import check_tags
from .metrics import IGNORED_LABEL, METRICS, Metric, ProfileError
from .predicted_labels import predicted_labels
from .spans import as_objects, best_spans, joined, windows


@dataclass
class Evidence:
    """What is kept of the data.

    Args:
        metric (`Metric`): Decides what is kept.
    """

    metric: Metric
    _kept: dict[int, list[np.ndarray]] = field(default_factory=dict)
    _references: list[np.ndarray] = field(default_factory=list)
    _certainties: dict[int, list[np.ndarray]] = field(default_factory=dict)
    """How sure each answer is, where an example has one; kept beside the rest for those who look at single examples."""

    def add(self, outputs: Any, inputs: dict[str, Any], model: PreTrainedModel) -> None:
        """Take what is needed of a model's outputs of one batch, `(depth, output)` pairs."""
        references: np.ndarray | None = None
        for depth, output in outputs:
            if self.metric.needs == "loss":
                kept, references = _loss(output, inputs, model)
            elif self.metric.needs == "tags":
                kept, references = self._tags(output, inputs, model)
            elif self.metric.needs == "answers":
                kept, references = self._answers(output, inputs)
            else:
                kept, references = _predictions(output, inputs, model)
                self._check_kind(references)
                if (sure := certainty_of(output_logits(output), model.config)) is not None:
                    self._certainties.setdefault(depth, []).append(sure)
            self._kept.setdefault(depth, []).append(kept)
        if references is not None:
            self._references.append(references)

    def _tags(
        self, output: ModelOutput, inputs: dict[str, Any], model: PreTrainedModel
    ) -> tuple[np.ndarray, np.ndarray]:
        logits, labels = output_logits(output), inputs.get("labels")
        if labels is None or labels.ndim != 2 or labels.shape != logits.shape[:-1]:
            raise ProfileError(
                f"metric {self.metric.name!r} is for labels of tokens; got "
                + ("none" if labels is None else f"labels of shape {tuple(labels.shape)}")
            )
        return tags(finite(logits).argmax(dim=-1), labels, model.config), tags(labels, labels, model.config)

    def _answers(self, output: ModelOutput, inputs: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        questions = getattr(inputs, "questions", None)
        if questions is None:
            raise ProfileError(
                f"metric {self.metric.name!r} compares texts, so it needs rows and a collator that acn_hf.data.prepare "
                f"makes of questions; got only {', '.join(inputs) or 'nothing'}"
            )
        return best_spans(finite(output_logits(output)), questions), windows(questions)

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
        kept, references = np.concatenate(self._kept[depth]), np.concatenate(self._references)
        return joined(kept, references) if self.metric.needs == "answers" else (kept, references)

    def certainty(self, depth: int) -> np.ndarray | None:
        """Return how sure the answer to each example is at one depth, in [0, 1], or `None` where that is not known."""
        known, number = self._certainties.get(depth, []), sum(map(len, self._references))
        return np.concatenate(known) if known and sum(map(len, known)) == number else None

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


def check_labels(model: PreTrainedModel, inputs: dict[str, Any]) -> None:
    """Raise `ProfileError` if labels of classes are no number of a class, as torch would say in words of its own.

    Args:
        model (`PreTrainedModel`): A classifier, or any other, whose labels are not looked at.
        inputs (`dict`): A batch.
    """
    labels, number = inputs.get("labels"), getattr(model.config, "num_labels", 1)
    head = auto_class_for(type(model)) or ""
    if labels is None or number < 2 or not head.endswith("Classification"):
        return
    if labels.is_floating_point():
        if labels.shape[-1:] != (number,):
            raise ProfileError(
                f"labels must be numbers of {number} classes; got {labels.dtype} of {tuple(labels.shape)}"
            )
        return
    check_numbers_of_classes(labels, number)


def check_numbers_of_classes(labels: torch.Tensor, number: int) -> None:
    """Raise `ProfileError` if a label that counts is not the number of one of so many classes."""
    wrong = labels[(labels != IGNORED_LABEL) & ((labels < 0) | (labels >= number))]
    if len(wrong):
        raise ProfileError(f"labels must be from 0 to {number - 1}, or {IGNORED_LABEL}; got {int(wrong[0])}")


def num_rows(inputs: dict[str, Any]) -> int:
    """Return the number of examples in a batch, which may hold options beside tensors."""
    return len(next(value for value in inputs.values() if isinstance(value, torch.Tensor)))


def loss_weight(output: ModelOutput, inputs: dict[str, Any], model: PreTrainedModel) -> int:
    """Return over how much the loss of a batch is a mean: labels that are predicted, masked patches, or rows.

    Raises:
        ProfileError: There is no loss.
    """
    if output.get("loss") is None:
        raise ProfileError(f"the data must hold labels; got only {', '.join(inputs) or 'nothing'}")
    labels = inputs.get("labels")
    if labels is not None and not labels.is_floating_point():
        return int((predicted_labels(model, labels) != IGNORED_LABEL).sum())
    if inputs.get("bool_masked_pos") is not None:
        return int(inputs["bool_masked_pos"].sum())
    return num_rows(inputs)


def tags(ids: torch.Tensor, labels: torch.Tensor, config: Any) -> np.ndarray:
    """Return for each text the names of the classes of its tokens whose labels count, as an array of lists.

    Args:
        ids (`torch.Tensor` of shape `(batch_size, num_tokens)`): Numbers of classes.
        labels (`torch.Tensor` of shape `(batch_size, num_tokens)`): What counts and what does not.
        config: That of the model, which names the classes.

    Raises:
        ProfileError: A name is not that of a tag.
    """
    names = {int(number): str(name) for number, name in config.id2label.items()}
    check_tags(tuple(names.values()))
    counted = zip(ids.tolist(), labels.tolist(), strict=True)
    return as_objects(
        [
            [names[number] for number, label in zip(row, labels_of_row, strict=True) if label != IGNORED_LABEL]
            for row, labels_of_row in counted
        ]
    )


def _loss(output: ModelOutput, inputs: dict[str, Any], model: PreTrainedModel) -> tuple[np.ndarray, np.ndarray]:
    weight = loss_weight(output, inputs, model)
    return np.array([float(output["loss"]) if weight else 0.0]), np.array([weight])


def _predictions(output: ModelOutput, inputs: dict[str, Any], model: PreTrainedModel) -> tuple[np.ndarray, np.ndarray]:
    logits = output_logits(output)
    if "start_positions" in inputs and "end_positions" in inputs:
        references = torch.stack((inputs["start_positions"], inputs["end_positions"]), dim=-1)
        return _numpy(finite(logits).argmax(dim=1)), _numpy(references)
    labels = inputs.get("labels", inputs.get("next_sentence_label"))
    if labels is None:
        raise ProfileError(f"the data must hold labels; got only {', '.join(inputs) or 'nothing'}")
    if labels.shape == logits.shape[:-1] and not labels.is_floating_point() and logits.shape[-1] > 1:
        labels = predicted_labels(model, labels)
        valid = labels != IGNORED_LABEL
        return _numpy(finite(logits[valid]).argmax(dim=-1)), _numpy(labels[valid])
    if labels.numel() != logits.numel():
        raise ProfileError(f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}")
    logits = finite(logits.reshape(labels.shape))
    if model.config.problem_type == "multi_label_classification":
        return _numpy(logits > 0).astype(int), _numpy(labels).astype(int)
    return _numpy(logits.float()), _numpy(labels.float())


def finite(logits: torch.Tensor) -> torch.Tensor:
    """Return logits if they are finite, and raise `ProfileError` if not."""
    if not torch.isfinite(logits).all():
        raise ProfileError("the logits must be finite numbers; got nan or infinity")
    return logits


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
