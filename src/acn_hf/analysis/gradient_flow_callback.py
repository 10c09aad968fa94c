"""Gradient flow over the time of a training run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from ..support.wrappers import unwrap_acn
from ..training.measuring_callback import LoggingCallback, check_steps
from .gradient_flow import PARTS, GradientFlow, GradientFlowHistory, measure_gradient_flow

HISTORY_NAME = "gradient_flow.json"


class GradientFlowCallback(LoggingCallback):
    """Measures the gradient flow while a [`~transformers.Trainer`] trains: before the first step, and every so many.

    The Trainer's log gets all norms (`gradient_flow/direct_at_depth_3`). Beside every checkpoint lies the history so
    far, `gradient_flow.json`, which a run that resumes from the checkpoint goes on with; the newest is
    `callback.history`. A measurement costs about two steps of training for each of its batches, so a few batches do.

    A run that measures has the same weights as one that does not. With `bf16=True` the measurement is under autocast as
    the training is; with `fp16=True` it is in full precision, as the gradients would be too small for float16 without
    the scaler of the training. In distributed training every process measures on all of the data.

    Args:
        data: See [`measure_gradient_flow`]; the same at every measurement.
        every_steps (`int`): Measure after every so many steps.
        collate_fn (`Callable`, *optional*): Makes a batch of rows of `data`. Defaults to that of the Trainer, if the
            callback is attached to it.

    Raises:
        ProfileError: The data are empty or hold no labels, or a gradient is not finite; the message names the depth.
        TypeError: When training begins, the model is not an ACN, has no head, or its weights are sharded over
            processes.
        ValueError: `every_steps` is out of its range, or `data` can be read only once.
    """

    def __init__(self, data: Any, *, every_steps: int, collate_fn: Callable | None = None):
        if isinstance(data, Iterator):
            raise ValueError(
                "data are read at every measurement: they must be a data set, a loader or a list of batches; got "
                f"{type(data).__name__}"
            )
        self.data = data
        self.every_steps = check_steps("every_steps", every_steps)
        self.collate_fn = collate_fn
        self.history = GradientFlowHistory()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        unwrap_acn(kwargs["model"])
        saved = self._place(args, state)
        resumed = state.global_step > 0 and saved.exists()
        self.history = GradientFlowHistory.load(saved) if resumed else GradientFlowHistory()
        if state.global_step == 0:
            self._measure_and_log(args, state, kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every_steps == 0:
            self._measure_and_log(args, state, kwargs["model"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.should_save and self._place(args, state).parent.is_dir():
            self.history.save(self._place(args, state))

    def _place(self, args: TrainingArguments, state: TrainerState) -> Path:
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / HISTORY_NAME

    def _measure_and_log(self, args: TrainingArguments, state: TrainerState, model: Any) -> None:
        flow = self.measure(args, model)
        self.history = self.history.with_flow(state.global_step, flow)
        self.log(
            {
                f"gradient_flow/{part}_at_depth_{depth}": norm
                for part in PARTS
                for depth, norm in zip(flow.depths, getattr(flow, part), strict=True)
            },
            state,
        )

    def measure(self, args: TrainingArguments, model: Any) -> GradientFlow:
        """Return the gradient flow of the model as it is now."""
        usual = None if self.trainer is None else self.trainer.data_collator
        with torch.autocast(args.device.type, dtype=torch.bfloat16, enabled=args.bf16):
            return measure_gradient_flow(
                model,
                self.data,
                batch_size=args.per_device_eval_batch_size,
                collate_fn=self.collate_fn or usual,
            )
