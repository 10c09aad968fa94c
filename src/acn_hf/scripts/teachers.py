"""Who teaches in a run of a script: loaded, checked against the student, and asked once where that is enough."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, Trainer
from transformers.utils import logging

from ..data.labels import is_unnamed, label_ids
from ..support.auto_classes import auto_class_for
from ..training.answers import AnswerBook
from ..training.callbacks import IntermediateSupervisionCallback
from ..training.distillation import DistillationLoss
from ..training.teaching import teaching
from .arguments import SELF, DepthArguments
from .models import load_teacher

logger = logging.get_logger(__name__)

ANSWERS = "_answers"
"""Where the teacher's answers lie in the output folder while a run lasts; what begins so is not pushed to the Hub."""


def distillation_of(arguments: DepthArguments, student: PreTrainedModel) -> DistillationLoss | None:
    """Return what the teacher adds to the loss of a student, if there is one.

    Raises:
        OSError: There is no such checkpoint.
        ValueError: It has another head or other classes than the student, or of masked images soft labels are asked.
    """
    source = arguments.teacher
    if source is None:
        return None
    if arguments.soft_labels and auto_class_for(type(student)) == "AutoModelForMaskedImageModeling":
        raise ValueError(
            "masked images have no soft labels: give --distill_from, --distill_soft_labels 0 and --distill_depth_states"
        )
    is_self = arguments.teach == SELF and arguments.origin is not None
    teacher = load_teacher(source, **(arguments.origin.hub_options() if is_self and arguments.origin else {}))
    _check(teacher, student, source, is_self)
    return DistillationLoss(
        teacher,
        soft_labels=arguments.soft_labels,
        temperature=arguments.distill_temperature,
        depth_states=arguments.distill_depth_states,
    )


def _check(teacher: PreTrainedModel, student: PreTrainedModel, source: str, is_self: bool) -> None:
    """Refuse a teacher that says something else than what the student learns, before anything is trained."""
    head, taught = auto_class_for(type(teacher)), auto_class_for(type(student))
    if head != taught:
        hint = "; fine-tune it first, without --teach" if is_self else ""
        raise ValueError(
            f"the teacher must have the head of a {type(student).__name__}; {source} was saved as "
            f"{type(teacher).__name__}{hint}"
        )
    if not (taught or "").endswith("Classification"):
        return
    known, learnt = label_ids(teacher.config), label_ids(student.config)
    has_names = not all(map(is_unnamed, known)) and not all(map(is_unnamed, learnt))
    if teacher.config.num_labels != student.config.num_labels or (has_names and known != learnt):
        raise ValueError(
            f"the teacher must have the classes of the student, in the order {', '.join(learnt)}; {source} has "
            f"{', '.join(known)}"
        )


@contextmanager
def taught(trainer: Trainer, supervision: IntermediateSupervisionCallback | None) -> Iterator[None]:
    """Let a Trainer train in the block with the answers of a teacher, if it has one.

    Args:
        trainer (`Trainer`): Is supervised already.
        supervision (`IntermediateSupervisionCallback`, *optional*): By this.
    """
    if supervision is None or supervision.distillation is None:
        yield
        return
    folder = Path(str(trainer.args.output_dir), ANSWERS)
    show: Callable[..., Any] = partial(logging.tqdm, desc="Asking the teacher", disable=trainer.args.disable_tqdm)
    with teaching(trainer, supervision, AnswerBook(folder, show), note=lambda calmed: logger.warning(str(calmed))):
        yield
    # A run that is stopped keeps them, and goes on with them.
    trainer.accelerator.wait_for_everyone()
    if trainer.is_local_process_zero():
        shutil.rmtree(folder, ignore_errors=True)
