"""What a teacher says about each example, asked once and remembered for every epoch.

The rows of a Trainer are numbered, and each batch says which rows it holds. The answers lie in a file, so that many of
them need no memory, and so that a training that goes on is told what it was told before.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import has_length

from ..modeling.depth import output_logits
from ..support.eval_mode import RandomState, evaluating
from ..support.weights import tensor_bytes, weights_digest
from .distillation import LABELS, DistillationLoss, Lesson

ROW = "taught_row"
"""What a batch calls the numbers of its rows."""
NUM_PROBES = 64
"""Of so many rows it is seen whether they are the same whenever they are read."""
IN_MEMORY = 2**28
"""Answers of so many bytes, and fewer, lie beside the student; more of them stay in their file."""

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Answers:
    """The logits of a teacher for every row of a data set.

    Args:
        logits (`torch.Tensor` of shape `(num_rows, num_logits)`): In memory, or mapped from a file.
    """

    logits: torch.Tensor

    @classmethod
    def read(cls, path: Path, device: torch.device) -> "Answers":
        """Return those of a file."""
        logits = torch.from_numpy(np.load(path, mmap_mode="c"))
        return cls(logits.to(device) if logits.nbytes <= IN_MEMORY else logits)

    def lesson(self, rows: torch.Tensor) -> Lesson:
        """Return what the teacher says about a batch of rows, on their device."""
        return Lesson(self.logits[rows.to(self.logits.device)].to(rows.device), None)


@dataclass
class AnswerBook:
    """Answers of teachers in a folder, each asked once.

    Args:
        folder (`Path`): It is made when there is something to write.
        progress (`Callable`, *optional*): From the batches that a teacher is asked about to what is iterated over.
    """

    folder: Path
    progress: Progress = field(default=lambda batches: batches)

    def answers(self, trainer: Trainer, distillation: DistillationLoss, *, may_ask: bool = True) -> Answers | None:
        """Return what a teacher says about each row that a Trainer trains on; `None` where it has to be asked anew.

        That is where it says more than one vector about a row, where its states are a target too, where rows come out
        of a stream, or change when they are read again, as images do that are augmented at random; and, unless it may
        be asked, where nobody asked it before.
        """
        rows = trainer.train_dataset
        if distillation.depth_states or not distillation.soft_labels or not has_length(rows) or len(rows) == 0:
            return None
        state = RandomState.now()  # the training that follows is the one without this
        try:
            return self._answers(trainer, distillation.teacher, may_ask)
        finally:
            state.restore()

    def _answers(self, trainer: Trainer, teacher: PreTrainedModel, may_ask: bool) -> Answers | None:
        rows: Any = trainer.train_dataset
        print_of_rows = _fingerprint(trainer, rows)
        if print_of_rows is None:
            return None
        key = {"teacher": weights_digest(teacher), "rows": print_of_rows, "number": len(rows)}
        key |= {"precision": trainer.accelerator.mixed_precision}
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"answers-{name}.npy"
        if not path.exists() and not (may_ask and self._ask(trainer, teacher, path)):
            return None
        return Answers.read(path, trainer.args.device)

    def _ask(self, trainer: Trainer, teacher: PreTrainedModel, path: Path) -> bool:
        """Ask a teacher about every row, and return whether its answers were written."""
        writes = trainer.is_local_process_zero()
        beside, table = path.with_suffix(".part"), None
        try:
            with numbered(trainer) as rows, evaluating(teacher, trainer.args.device):
                for batch in self.progress(trainer.get_test_dataloader(rows)):
                    numbers, logits = _answer(trainer, teacher, batch)
                    if logits is None:
                        return False
                    if writes and table is None:
                        self.folder.mkdir(parents=True, exist_ok=True)
                        shape = (len(rows), logits.shape[1])
                        table = np.lib.format.open_memmap(beside, "w+", np.float32, shape)
                        _reserve(beside)
                    if table is not None:
                        table[numbers] = logits
            if table is not None:
                table.flush()
                beside.replace(path)
        finally:
            if writes:
                beside.unlink(missing_ok=True)
        trainer.accelerator.wait_for_everyone()
        return True


def _reserve(path: Path) -> None:
    """Let a full disk be an error now: who writes to a mapped file that has no room is killed without a word."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _answer(trainer: Trainer, teacher: PreTrainedModel, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Return the numbers of the rows of a batch and a vector for each, or `None` if it says more or less than that."""
    asked = {name: value for name, value in batch.items() if name not in (*LABELS, ROW)}
    with trainer.accelerator.autocast():
        logits = output_logits(teacher(**{**asked, "return_dict": True}))
    if logits.ndim != 2 or len(logits) != len(batch[ROW]):
        return None, None
    numbers, logits = trainer.accelerator.gather_for_metrics((batch[ROW], logits.float()))
    return numbers.cpu().numpy(), logits.cpu().numpy()


class Numbered(Dataset):
    """Rows of a data set that know their number.

    Args:
        rows: Of a known length.
    """

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {**self.rows[number], ROW: number}

    def __getitems__(self, numbers: list[int]) -> list[dict[str, Any]]:
        fetch = getattr(self.rows, "__getitems__", None)
        rows = fetch(numbers) if fetch else [self.rows[number] for number in numbers]
        return [{**row, ROW: number} for row, number in zip(rows, numbers, strict=True)]


@dataclass(frozen=True)
class NumberedCollator:
    """Makes a batch as another function does, and says which rows it holds.

    Args:
        collate (`Callable`): Sees rows as they were before they had a number.
    """

    collate: Callable

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        if not all(ROW in row for row in rows):  # what the Trainer evaluates on
            return self.collate(rows)
        batch = self.collate([{name: value for name, value in row.items() if name != ROW} for row in rows])
        batch[ROW] = torch.tensor([row[ROW] for row in rows])
        return batch


@contextmanager
def numbered(trainer: Trainer) -> Iterator[Numbered]:
    """Let the batches of a Trainer say which rows of its training data they hold, for as long as the block lasts."""
    rows, collate = trainer.train_dataset, trainer.data_collator
    trainer._set_signature_columns_if_needed()  # a Trainer drops the columns that its model does not take
    taken = trainer._signature_columns
    trainer._signature_columns = [*taken, ROW]
    trainer.train_dataset, trainer.data_collator = Numbered(rows), NumberedCollator(collate)
    try:
        yield trainer.train_dataset
    finally:
        trainer.train_dataset, trainer.data_collator = rows, collate
        trainer._signature_columns = taken


def _fingerprint(trainer: Trainer, rows: Any) -> str | None:
    """Return what tells some rows of a data set from those of another, or `None` if they are not always the same."""
    places = sorted({round(place) for place in np.linspace(0, len(rows) - 1, NUM_PROBES)})
    with numbered(trainer) as numbered_rows:
        sample = torch.utils.data.Subset(numbered_rows, places)
        try:
            prints = [_print(batches) for batches in (trainer.get_test_dataloader(sample) for _ in range(2))]
        except (AttributeError, TypeError):  # rows that are no dictionaries
            prints = ["", "none"]
    every_process = gather_object([prints])  # each has read its share
    return "".join(first for first, _ in every_process) if all(one == two for one, two in every_process) else None


def _print(batches: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for name, value in sorted(batch.items()):
            if isinstance(value, torch.Tensor):
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(tensor_bytes(value))
    return digest.hexdigest()
