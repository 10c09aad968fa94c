"""A model teaches every depth of its own copy, or another model does."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers import Trainer

from ..depth.every_depth import truncate
from ..depth.layers import layers_of
from ..support.wrappers import unwrap
from .answers import AnswerBook, Progress, numbered
from .callbacks import IntermediateSupervisionCallback
from .calming import Calmed, calm_student
from .distillation import DistillationLoss
from .finetuning import Finetune, check_maker, fine_tune
from .supervision import Weights

SOFT_LABELS = 0.5
"""Share of the teacher's answers in the loss, where none is named."""


def teach(
    model: Any,
    make_trainer: Finetune,
    *,
    teacher: Any = None,
    weights: Weights = "uniform",
    num_depths: int | None = None,
    soft_labels: float = SOFT_LABELS,
    temperature: float = 2.0,
    depth_states: float = 0.0,
    remember: bool | None = None,
    calm: bool = True,
    merge_adapter: bool = True,
    progress: Progress | None = None,
) -> Any:
    """Train a copy of a model so that every depth of it works, with the model itself as the teacher.

    The teacher answers once for each row, and not once for each epoch, where rows are the same whenever they are read
    and it says one vector about each (classifiers of texts and images, numbers). Its answers lie in a temporary file
    meanwhile.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Does the task already; with a head and one stack of layers. It is left
            as it is.
        make_trainer (`Callable`): From the copy to a [`~transformers.Trainer`] that is ready to train it,
            `lambda student: Trainer(student, arguments, train_dataset=train)`. If its `args.resume_from_checkpoint`
            names a checkpoint, the run goes on from there.
        teacher (`PreTrainedModel`, *optional*): Another model with the same head, also a larger one. Defaults to
            `model`.
        weights (`"uniform"`, `"linear"`, `"full"` or sequence of `float`, *optional*, defaults to `"uniform"`):
            Weight of each depth's loss; see [`intermediate_supervision`].
        num_depths (`int`, *optional*): Number of depths beside full depth in a step, for heads that are expensive.
        soft_labels (`float`, *optional*, defaults to 0.5): Share of the teacher's answers in the loss, see
            [`DistillationLoss`]. The rest is the loss of the labels, which say what the teacher does not.
        temperature (`float`, *optional*, defaults to 2.0): See [`DistillationLoss`].
        depth_states (`float`, *optional*, defaults to 0.0): See [`DistillationLoss`].
        remember (`bool`, *optional*): `False` asks the teacher in every step. `True` refuses where it has to be asked
            in every step. By default its answers are remembered where that can be.
        calm (`bool`, *optional*, defaults to `True`): Whether massive activations, where they keep lower depths of the
            copy from saying anything, are taken out of it first (`docs/compression.md`). Most models have no
            such depth, and are left as they are.
        merge_adapter (`bool`, *optional*, defaults to `True`): Whether the copy of an adapted model is an ordinary one.
        progress (`Callable`, *optional*): From the batches that the teacher is asked about to what is iterated over, to
            show how far it is.

    Returns:
        `PreTrainedModel` or `PeftModel`: The copy, in eval mode. It is independent of `model` and of the Trainer.

    Raises:
        DepthError: `model` has no one stack of layers.
        FinetuningError: The Trainer trains another model, it shards the weights, or they end as no finite numbers.
        TypeError: `make_trainer` is no function or returned no Trainer, its `train_dataset` is not made of rows, or a
            model is not one of transformers with a head.
        ValueError: A number is out of its range, teacher and student differ in what they predict, or `remember=True`
            and the teacher has to be asked in every step.

    Source: Hinton et al. 2015, arXiv 1503.02531; the loss at every depth is that of arXiv 2506.09714, appendix H.

    Example:

    ```python
    >>> import tempfile
    >>> import torch
    >>> from acn_hf import teach
    >>> from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

    >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=16, intermediate_size=16, num_hidden_layers=2)
    >>> model = ViTForImageClassification(config)
    >>> rows = [{"pixel_values": torch.rand(3, 8, 8), "labels": row % 2} for row in range(4)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     arguments = TrainingArguments(folder, max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True)
    ...     taught = teach(model, lambda student: Trainer(student, arguments, train_dataset=rows))  # doctest: +ELLIPSIS
    {...}
    >>> type(taught).__name__
    'ViTForImageClassification'

    ```
    """
    check_maker("make_trainer", make_trainer)
    student = truncate(model, len(layers_of(unwrap(model))), merge_adapter=merge_adapter)
    distillation = DistillationLoss(
        unwrap(model) if teacher is None else teacher,
        soft_labels=soft_labels,
        temperature=temperature,
        depth_states=depth_states,
    )
    with tempfile.TemporaryDirectory() as scratch:
        book = None if remember is False else AnswerBook(Path(scratch), progress or iter)
        taught = taught_by(
            distillation, student, make_trainer, weights, num_depths, book, must_remember=bool(remember), calm=calm
        )
    return taught.eval()


def taught_by(
    distillation: DistillationLoss,
    student: Any,
    make_trainer: Finetune,
    weights: Weights = "uniform",
    num_depths: int | None = None,
    book: AnswerBook | None = None,
    *,
    must_remember: bool = False,
    calm: bool = True,
    note: Callable[[Calmed], None] | None = None,
) -> Any:
    """Train `student` itself with a teacher, and return a copy of what was trained; see [`teach`].

    Args:
        distillation (`DistillationLoss`): The teacher, and how it teaches. It is where it was afterwards.
        student (`PreTrainedModel` or `PeftModel`): A copy that nobody else holds.
        make_trainer (`Callable`): From the student to its Trainer.
        weights, num_depths: See [`intermediate_supervision`].
        book (`AnswerBook`, *optional*): Where answers are remembered. By default they are not.
        must_remember (`bool`, *optional*, defaults to `False`): Whether it is refused to ask in every step.
        calm (`bool`, *optional*, defaults to `True`): See [`teach`].
        note (`Callable`, *optional*): Is told what was done to calm the student, if anything was.

    Raises:
        ValueError: The answers must be remembered and cannot be; see [`teach`] for the others.
    """
    home = distillation.teacher.device
    supervision = IntermediateSupervisionCallback(weights, num_depths, distillation)
    during = partial(teaching, supervision=supervision, book=book, must_remember=must_remember, calm=calm, note=note)
    try:
        return fine_tune(student, make_trainer, during)
    finally:
        distillation.teacher.to(home)


@contextmanager
def teaching(
    trainer: Trainer,
    supervision: IntermediateSupervisionCallback,
    book: AnswerBook | None,
    *,
    must_remember: bool = False,
    calm: bool = True,
    note: Callable[[Calmed], None] | None = None,
) -> Iterator[None]:
    """Supervise a Trainer for as long as the block lasts, with answers that are remembered if they can be.

    What it trains is calmed before, if that is needed.

    Args:
        trainer (`Trainer`): Trains in the block.
        supervision (`IntermediateSupervisionCallback`): With a teacher.
        book (`AnswerBook`, *optional*): Where answers are remembered. Without one they are not.
        must_remember (`bool`, *optional*, defaults to `False`): Whether it is refused to ask in every step.
        calm (`bool`, *optional*, defaults to `True`): See [`teach`].
        note (`Callable`, *optional*): Is told what was done to calm what it trains, if anything was.

    Raises:
        ValueError: The answers must be remembered and cannot be.
    """
    assert supervision.distillation is not None
    calmed = calm_student(trainer, supervision.distillation.teacher, supervision.weights) if calm else None
    if calmed is not None and note is not None:
        note(calmed)
    supervision.attach(trainer)
    may_ask = must_remember or not _asks_once(trainer)
    answers = None if book is None else book.answers(trainer, supervision.distillation, may_ask=may_ask)
    if answers is None and must_remember:
        raise ValueError(
            "remember=True needs a teacher that says one vector about each row, and rows of a known number that are "
            "the same whenever they are read; it is not so here"
        )
    if answers is None:
        yield
        return
    supervision.answers = answers
    try:
        with numbered(trainer):
            yield
    finally:
        supervision.answers = None


def _asks_once(trainer: Trainer) -> bool:
    """Return whether a Trainer sees its rows no more than once, so that there is nothing to remember."""
    if trainer.args.max_steps > 0:
        seen = trainer.args.max_steps * trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps
        rows: Any = trainer.train_dataset
        return not hasattr(rows, "__len__") or seen * trainer.args.world_size <= len(rows)
    return trainer.args.num_train_epochs <= 1
