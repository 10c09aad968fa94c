"""The Trainer of one stage of a long job: it writes checkpoints, and goes on from them to the bit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..support.auto_classes import auto_class_for
from ..support.wrappers import unwrap
from .checkpoints import newest_checkpoint
from .finetuning import Finetune, quiet_arguments, quiet_trainer
from .labelled_tokens_callback import LabelledTokensCallback

CHECKPOINTS_OF_A_STAGE = 10
"""A stage that was stopped does this part of it again, at most, if nobody says how often a checkpoint is written."""
MANY_BATCHES = 50
"""Among the examples of so many batches those of about the same length are put together."""


@dataclass(frozen=True)
class StageSettings:
    """How every stage trains.

    Args:
        folder (`Path`): Where checkpoints of stages that are not done lie.
        device (`torch.device`): Where it is trained; on a CPU it stays there.
        learning_rate (`float`, *optional*, defaults to 1e-4): The highest, after a tenth of the steps; from there it
            falls to 0 along a line.
        batch_size (`int`, *optional*, defaults to 32): Examples in a step.
        eval_batch_size (`int`, *optional*, defaults to 64): Examples about which the teacher is asked at once.
        seed (`int`, *optional*, defaults to 0): Of the order of the examples, and of dropout.
        bf16 (`bool`, *optional*, defaults to `False`): Whether passes are computed in bfloat16.
        checkpoint_every (`int`, *optional*): Steps between two checkpoints. Defaults to a tenth of the stage.
        resume (`bool`, *optional*, defaults to `False`): Whether stages go on from their checkpoints.
        max_steps (`int`, *optional*): Stop after so many steps, and write no checkpoint, to see how long one takes.

    Raises:
        ValueError: A number is out of its range.
    """

    folder: Path
    device: torch.device
    learning_rate: float = 1e-4
    batch_size: int = 32
    eval_batch_size: int = 64
    seed: int = 0
    bf16: bool = False
    checkpoint_every: int | None = None
    resume: bool = False
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a finite number > 0; got {self.learning_rate}")
        if self.batch_size < 1 or (self.checkpoint_every is not None and self.checkpoint_every < 1):
            raise ValueError(
                f"batch_size and checkpoint_every must be >= 1; got {self.batch_size} and {self.checkpoint_every}"
            )

    def steps(self, num_rows: int, num_epochs: float) -> int:
        """Return how many steps some epochs have, on one device."""
        return max(1, round(-(-num_rows // self.batch_size) * num_epochs))

    def maker(
        self, name: str, num_epochs: float, rows: Any, collate: Callable, callbacks: Sequence[TrainerCallback] = ()
    ) -> Finetune:
        """Return a function from a model to the Trainer of a stage.

        Args:
            name (`str`): Of the stage; with the number of layers it names the folder of its checkpoints.
            num_epochs (`float`): How often each example is seen, above 0.
            rows (`datasets.Dataset`): What is trained on.
            collate (`Callable`): Makes a batch of them.
            callbacks (`Sequence[TrainerCallback]`, *optional*): What the Trainer has besides.
        """
        self._check_epochs(num_epochs)

        def make_trainer(model: Any) -> Trainer:
            number = model.config.get_text_config().num_hidden_layers
            arguments = self.arguments(name, number, num_epochs, len(rows))
            trainer = quiet_trainer(model, arguments, rows, collate, callbacks, kind=StageTrainer)
            if auto_class_for(type(unwrap(model))) == "AutoModelForMaskedLM":  # its head is as dear as many layers
                LabelledTokensCallback().attach(trainer)
            return trainer

        return make_trainer

    def arguments(
        self,
        name: str,
        num_layers: int,
        num_epochs: float,
        num_rows: int,
        kind: type[TrainingArguments] = TrainingArguments,
    ) -> TrainingArguments:
        """Return the arguments of the Trainer of a stage.

        Args:
            name (`str`): Of the stage; with the number of layers it names the folder of its checkpoints.
            num_layers (`int`): Of the model that is trained.
            num_epochs (`float`): How often each example is seen, above 0.
            num_rows (`int`): How many examples there are.
            kind (`type`, *optional*, defaults to `TrainingArguments`): A subclass.
        """
        self._check_epochs(num_epochs)
        folder = self.folder / f"{name}-{num_layers}"
        steps = self.steps(num_rows, num_epochs)
        every = self.checkpoint_every or max(1, steps // CHECKPOINTS_OF_A_STAGE)
        return quiet_arguments(
            str(folder),
            self.device,
            kind=kind,
            num_train_epochs=num_epochs,
            max_steps=self.max_steps or -1,
            learning_rate=self.learning_rate,
            warmup_steps=0.1,
            per_device_train_batch_size=self.batch_size,
            per_device_eval_batch_size=self.eval_batch_size,
            seed=self.seed,
            bf16=self.bf16,
            save_strategy="no" if self.max_steps else "steps",
            save_steps=every,
            save_total_limit=1,
            logging_steps=max(1, min(every, steps // 20)),
            resume_from_checkpoint=newest_checkpoint(folder) if self.resume else None,
        )

    def once(self, max_steps: int, folder: Path) -> "StageSettings":
        """Return the same for a few steps that leave nothing."""
        return replace(self, max_steps=max_steps, folder=folder, resume=False)

    def _check_epochs(self, num_epochs: float) -> None:
        if not num_epochs > 0:
            raise ValueError(f"the epochs of a stage must be > 0; got {num_epochs}")


class StageTrainer(Trainer):
    """A Trainer that puts texts of about the same length into a batch, in an order that the seed and the epoch give.

    Upstream's own grouping by length draws the order from the random numbers of the training, so that a run which goes
    on in the middle of an epoch sees other examples; and it begins with the longest texts.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        lengths = _lengths(self.train_dataset if train_dataset is None else train_dataset)
        if lengths is None:
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        sampler = LengthSampler(lengths, batch_size, self.args.data_seed or self.args.seed)
        self.add_callback(_Epochs(sampler))
        return sampler


class LengthSampler(Sampler):
    """Rows in a random order in which those of about the same length lie together.

    Args:
        lengths (`list[int]`): Of the rows.
        batch_size (`int`): Rows in a step, of all processes.
        seed (`int`): Of the order, which is another one in every epoch.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        together = MANY_BATCHES * self.batch_size
        order = [
            row
            for start in range(0, len(order), together)
            for row in sorted(order[start : start + together], key=self.lengths.__getitem__)
        ]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        last = [batches.pop()] if batches and len(batches[-1]) < self.batch_size else []
        shuffled = [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
        return iter([row for batch in [*shuffled, *last] for row in batch])


class _Epochs(TrainerCallback):
    """Tells a sampler which epoch begins, also where a run goes on in its middle."""

    def __init__(self, sampler: LengthSampler):
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.sampler.epoch = int(state.epoch or 0)


def _lengths(rows: Any) -> list[int] | None:
    """Return the lengths of texts in tokens, if rows are texts of different lengths."""
    rows = getattr(rows, "rows", rows)  # numbered ones
    if "input_ids" not in (getattr(rows, "column_names", None) or ()):
        return None
    lengths = [len(ids) for ids in rows.with_format(None)["input_ids"]]
    return lengths if len(set(lengths)) > 1 else None
