"""What the callbacks share that measure a model while a `Trainer` trains it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
from accelerate.data_loader import IterableDatasetShard
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..depth.distributed_profile import measure_together
from ..depth.metrics import resolve_metric
from ..depth.profile import DepthProfile
from ..depth.rows_or_batches import is_data_set
from ..support.eval_mode import fixed_randomness
from ..support.wrappers import unwrap


def check_steps(name: str, number: Any) -> int:
    """Return a number of steps.

    Raises:
        ValueError: It is not a whole number >= 1; the message names it.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{name} must be a whole number of steps >= 1; got {number!r}")
    return number


class LoggingCallback(TrainerCallback):
    """Writes into the log of a Trainer."""

    trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add this callback to a Trainer, and write into its log, where TensorBoard and other integrations see it.

        A callback given to `Trainer(callbacks=[...])` writes into `trainer.state.log_history` alone, since a Trainer
        does not hand its callbacks what it logs with.
        """
        self.trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
            self.on_init_end(trainer.args, trainer.state, trainer.control, model=trainer.model)
        return self

    def log(self, entries: dict[str, float], state: TrainerState) -> None:
        """Write into the Trainer's log."""
        if self.trainer is not None:
            is_due = self.trainer.control.should_log
            self.trainer.log(dict(entries))
            self.trainer.control.should_log = is_due  # the log of the training loss is still to come
        else:
            state.log_history.append({**entries, "epoch": state.epoch, "step": state.global_step})


class MeasuringCallback(LoggingCallback, ABC):
    """Measures a depth profile while a [`~transformers.Trainer`] trains; what is done with it, subclasses say.

    Every process measures its share of the data, under the autocast of the training. Modes and random numbers are left
    as they were, so a run that measures has the same weights as one that does not.

    Args:
        data (*optional*): See [`measure_depth_profile`]. Defaults to the set that the Trainer evaluates on.
        metric (`str` or `Callable`, *optional*, defaults to `"accuracy"`): See [`measure_depth_profile`].
        every (`int`, *optional*): Measure every so many steps. Defaults to every evaluation of the Trainer.
        tolerance (`float`, *optional*, defaults to 0.005): See [`DepthProfile.effective_depth`].
        collate_fn (`Callable`, *optional*): Makes a batch of rows of `data`. Defaults to that of the Trainer, if the
            callback is attached to it.

    Raises:
        ValueError: `every` or `tolerance` is out of its range, there is no such metric, or, when training begins,
            nobody can say what the data are.
        TypeError: When training begins, the model is not one of transformers, or its weights are sharded over
            processes.
    """

    def __init__(
        self,
        data: Any = None,
        metric: Any = "accuracy",
        *,
        every: int | None = None,
        tolerance: float = 0.005,
        collate_fn: Callable | None = None,
    ):
        if not 0 <= tolerance < float("inf"):
            raise ValueError(f"tolerance must be a finite number >= 0; got {tolerance!r}")
        self.data = data
        self.metric = resolve_metric(metric)  # at once: what is wrong shows, and a file is read, before training
        self.every = None if every is None else check_steps("every", every)
        self.tolerance = tolerance
        self.collate_fn = collate_fn

    @abstractmethod
    def take(
        self, profile: DepthProfile, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, **kwargs: Any
    ) -> dict[str, float]:
        """Do something with a profile, and return what belongs into the log."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        unwrap(kwargs["model"])
        if self.every is not None and not self.knows_data():
            raise ValueError(
                f"{type(self).__name__}(every={self.every}) must be told the data, or be attached, attach(trainer), to "
                "a Trainer that has one eval set: a Trainer hands it over when it evaluates, which may be later"
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._is_due(state) and not control.should_evaluate:
            self.measure_and_take(args, state, prefix="eval", **kwargs)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.every is not None and not self._is_due(state):
            return
        metrics = {} if metrics is None else metrics
        # The progress bar of notebooks takes the times out of the metrics, but not the loss.
        ends = [(name, end) for end in ("_runtime", "_loss") for name in metrics if name.endswith(end)]
        prefix = next((name.removesuffix(end) for name, end in ends), "eval")
        # The Trainer chooses its best checkpoint by what it finds in `metrics`.
        metrics.update(self.measure_and_take(args, state, prefix=prefix, **kwargs))

    def knows_data(self, eval_dataloader: Any = None) -> bool:
        """Return whether there is something to measure on, and one thing alone."""
        usual = None if self.trainer is None else self.trainer.eval_dataset
        return self.data is not None or eval_dataloader is not None or not (usual is None or isinstance(usual, dict))

    def _is_due(self, state: TrainerState) -> bool:
        return self.every is not None and state.global_step > 0 and state.global_step % self.every == 0

    def measure_and_take(
        self, args: TrainingArguments, state: TrainerState, *, prefix: str, model: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Measure, do what is to be done with the profile, and log; return what was logged."""
        inner = unwrap(model)
        profile = self.measure(args, inner, kwargs.get("eval_dataloader"))
        taken = self.take(profile, args, state, inner, **kwargs)
        entries = {f"{prefix}_{name}": value for name, value in taken.items()}
        self.log(entries, state)
        return entries

    def measure(self, args: TrainingArguments, model: PreTrainedModel, eval_dataloader: Any = None) -> DepthProfile:
        """Return the depth profile of the model as it is now; all processes must call this."""
        data, collate_fn = self._data(eval_dataloader, args.per_device_eval_batch_size)
        low = torch.bfloat16 if args.bf16 else torch.float16
        with fixed_randomness(), torch.autocast(args.device.type, dtype=low, enabled=args.bf16 or args.fp16):
            return measure_together(
                model,
                data,
                metric=self.metric,
                batch_size=args.per_device_eval_batch_size,
                collate_fn=collate_fn,
                process_index=args.process_index,
                num_processes=args.world_size,
            )

    def _data(self, eval_dataloader: Any, batch_size: int) -> tuple[Any, Callable | None]:
        """Return the data to measure on, whole, and what makes batches of them."""
        if self.data is not None:
            usual = None if self.trainer is None else self.trainer.data_collator
            return self.data, self.collate_fn or usual
        if eval_dataloader is None and self.trainer is not None:
            eval_dataloader = self.trainer.get_eval_dataloader()
        dataset = eval_dataloader.dataset
        if isinstance(dataset, IterableDatasetShard):  # the share of this process; all of it is wanted here
            dataset = dataset.dataset
        collate_fn = self.collate_fn or eval_dataloader.collate_fn
        if not is_data_set(dataset):  # a list, which to a Trainer is one of rows, whatever they look like
            return DataLoader(dataset, batch_size=batch_size, collate_fn=collate_fn), None
        return dataset, collate_fn
