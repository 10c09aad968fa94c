"""What a frozen teacher adds to the loss of a student: soft labels, and the state that the head reads."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..depth.metrics import IGNORED_LABEL
from ..depth.predicted_labels import predicted_labels
from ..modeling.depth import output_logits
from ..support.eval_mode import evaluating

LABELS = ("labels", "next_sentence_label", "start_positions", "end_positions")
"""Arguments that a teacher does not need: it is asked for its own answer."""


@dataclass(frozen=True)
class Lesson:
    """What a teacher says about a batch.

    Args:
        logits (`torch.Tensor`): What [`acn_hf.depth_logits`] holds for a depth, from the teacher.
        state (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*): What the teacher's
            head reads.
    """

    logits: torch.Tensor | None
    state: torch.Tensor | None


class DistillationLoss:
    """A loss that a frozen teacher takes part in, typically the residual model that a student was converted from.

    At each depth that is trained the loss is

        (1 - soft_labels) * loss + soft_labels * T^2 * KL(teacher_T || student_T) + depth_states * |s - t|^2 / |t|^2

    where `T` is the temperature of both distributions, and `s` and `t` are what the heads of student (at that depth)
    and teacher (at its end) read. The teacher runs once a step, whatever the number of depths. Give it to
    [`IntermediateSupervisionCallback`] or [`ResidualAnnealingCallback`].

    Classes (of texts, images, tokens, choices, several labels at once), numbers and answer spans have soft labels: of
    tokens, those that have a label count, or in a causal language model those before them; numbers are compared by
    their squared difference. Of a model for pretraining they are those of the masked tokens. Masked images have none:
    `soft_labels` must be 0 there.

    Args:
        teacher (`PreTrainedModel`): Of transformers or of acn_hf, with the head of the student. It is moved to the
            student's device, and else left as it is: it runs in eval mode and without gradients.
        soft_labels (`float`, *optional*, defaults to 1.0): Share of the teacher's answer in the loss, in [0, 1].
        temperature (`float`, *optional*, defaults to 2.0): Temperature `T` > 0 of both distributions.
        depth_states (`float`, *optional*, defaults to 0.0): Weight >= 0 of the relative squared distance of the states.

    Raises:
        TypeError: `teacher` is not a model with a head.
        ValueError: A number is out of its range; at the first step, teacher and student differ in the shape of
            what they predict, or of their states, or a masked image is to have soft labels.

    Source: Hinton et al. 2015, arXiv 1503.02531 (soft labels); Jiao et al. 2020, arXiv 1909.10351 (states; theirs are
    those of single layers, and their distance is not relative).

    Example:

    ```python
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> from acn_hf import DistillationLoss, ResidualAnnealingCallback

    >>> teacher = BertForSequenceClassification(BertConfig(num_hidden_layers=2, hidden_size=24))
    >>> callback = ResidualAnnealingCallback(distillation=DistillationLoss(teacher, soft_labels=0.5))

    ```
    """

    def __init__(
        self, teacher: PreTrainedModel, *, soft_labels: float = 1.0, temperature: float = 2.0, depth_states: float = 0.0
    ):
        if not isinstance(teacher, PreTrainedModel) or teacher.base_model is teacher:
            raise TypeError(f"a teacher must be a model of transformers with a head; got {type(teacher).__name__}")
        if not 0 <= soft_labels <= 1:
            raise ValueError(f"soft_labels must lie in [0, 1]; got {soft_labels!r}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number > 0; got {temperature!r}")
        if not 0 <= depth_states < float("inf"):
            raise ValueError(f"depth_states must be a finite number >= 0; got {depth_states!r}")
        if soft_labels == depth_states == 0:
            raise ValueError("a teacher must teach something: soft_labels or depth_states must be > 0; got 0 for both")
        self.teacher = teacher
        self.soft_labels = soft_labels
        self.temperature = temperature
        self.depth_states = depth_states

    def ask(self, inputs: dict[str, Any], device: torch.device) -> Lesson:
        """Return what the teacher says about a batch, given as keyword arguments of the student."""
        if self.teacher.device != device:
            self.teacher.to(device)
        read: list[torch.Tensor] = []
        handle = self.teacher.base_model.register_forward_hook(
            lambda base, args, out: read.append(out[0]),
            prepend=True,  # the head may be shown some of it only
        )
        asked = {name: value for name, value in inputs.items() if name not in LABELS}
        try:
            with evaluating(self.teacher):
                output = self.teacher(**{**asked, "return_dict": True})
        finally:
            handle.remove()
        return Lesson(output_logits(output) if self.soft_labels else None, read[0])

    def __call__(
        self,
        output: ModelOutput | dict[str, Any],
        state: torch.Tensor,
        lesson: Lesson,
        inputs: dict[str, Any],
        problem_type: str | None,
        share: torch.Tensor | float | None = None,
    ) -> torch.Tensor:
        """Return the loss of one depth.

        Args:
            output (`ModelOutput` or `dict`): Of the student at that depth, with its loss from the labels.
            state (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`): What its head read.
            lesson (`Lesson`): What the teacher says.
            inputs (`dict`): Keyword arguments of the student.
            problem_type (`str`, *optional*): Of the student's config, once it has computed a loss.
            share (`torch.Tensor` or `float`, *optional*): Share of its step that the batch is. Defaults to what
                follows from the inputs.
        """
        labels = inputs.get("labels")
        if labels is not None:  # where a causal language model is told a token, the place before is to learn it
            inputs = {**inputs, "labels": predicted_labels(self.teacher, labels)}
        loss, share = output["loss"], share_of_step(inputs) if share is None else share
        if lesson.logits is not None:
            soft = share * self._soft_loss(output, lesson.logits, inputs, problem_type)
            # Where no token of a batch has a label, the model's own loss is no number: 0 times it would be none either.
            loss = soft if self.soft_labels == 1 else (1 - self.soft_labels) * loss + self.soft_labels * soft
        if self.depth_states and lesson.state is not None:
            distance = _relative_distance(state, lesson.state, inputs.get("attention_mask"))
            loss = loss + self.depth_states * share * distance
        return loss

    def _soft_loss(
        self, output: Any, teacher: torch.Tensor, inputs: dict[str, Any], problem_type: str | None
    ) -> torch.Tensor:
        if "reconstruction" in output:
            raise ValueError(f"masked images have no soft labels: soft_labels must be 0; got {self.soft_labels}")
        student, teacher = output_logits(output).float(), teacher.float()
        if student.shape != teacher.shape:
            raise ValueError(
                "the teacher must predict what the student predicts, logits of shape "
                f"{tuple(student.shape)}; got {tuple(teacher.shape)}"
            )
        if problem_type == "multi_label_classification" or (problem_type is None and _are_several(student, inputs)):
            return functional.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher))
        if problem_type == "regression" or student.shape[-1] == 1:
            return functional.mse_loss(student, teacher)
        if "start_logits" in output:  # the classes are the places in the text
            student, teacher = student.transpose(1, 2), teacher.transpose(1, 2)
        divergence = functional.kl_div(
            functional.log_softmax(student / self.temperature, dim=-1),
            functional.log_softmax(teacher / self.temperature, dim=-1),
            reduction="none",
            log_target=True,
        ).sum(dim=-1)
        return self.temperature**2 * _mean_of(divergence, _counted(divergence, inputs))


def share_of_step(inputs: dict[str, Any]) -> torch.Tensor | float:
    """Return which share of its step a batch is, where the loss of the labels is made for gradient accumulation.

    A model that is told `num_items_in_batch`, the labels of all batches of a step, divides by it, and nobody divides
    by the number of batches then.
    """
    items, labels = inputs.get("num_items_in_batch"), inputs.get("labels")
    return 1.0 if items is None or labels is None else (labels != IGNORED_LABEL).sum() / max(items, 1)


def _counted(divergence: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor | None:
    """Return which tokens have a label, or None if what is predicted is not one class a token.

    Where a Trainer calls the labels by another name, they are those that are no padding.
    """
    labels, mask = inputs.get("labels"), inputs.get("attention_mask")
    if divergence.ndim == 2 and labels is not None and labels.shape == divergence.shape:
        return labels != IGNORED_LABEL
    if divergence.ndim == 2 and labels is None and mask is not None and mask.shape == divergence.shape:
        return mask != 0
    return None


def _are_several(logits: torch.Tensor, inputs: dict[str, Any]) -> bool:
    """Return whether labels say of each class whether it is there, by upstream's rule: they are not whole numbers."""
    labels = inputs.get("labels")
    return labels is not None and labels.is_floating_point() and labels.shape == logits.shape and logits.shape[-1] > 1


def _mean_of(values: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    if counted is None:
        return values.mean()
    return (values * counted).sum() / counted.sum().clamp(min=1)


def _relative_distance(state: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over the tokens of a mask of `|s - t|^2 / |t|^2`."""
    if state.shape != target.shape:
        raise ValueError(
            "the states of a teacher must have the shape of the student's, "
            f"{tuple(state.shape)}; got {tuple(target.shape)}"
        )
    state, target = state.float(), target.float()
    distance = (state - target).square().mean(dim=-1) / target.square().mean(dim=-1).clamp(min=1e-12)
    # Of several choices the states stand below each other, and the mask beside each other.
    return _mean_of(distance, None if mask is None else mask.reshape(distance.shape) != 0)
