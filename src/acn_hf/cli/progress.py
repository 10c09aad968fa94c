"""Progress bars of trainings: how many steps are done, the loss, and the time that is left."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback


def shown_training(describe: str | Callable[[Any], str]) -> "TrainerCallback":
    """Return a callback that shows a training on the terminal, or with a line at its end where there is none.

    Args:
        describe (`str` or `Callable`): What is trained, and how; or a function to that from the model.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from transformers import TrainerCallback

    from .base import errors

    class ShownTraining(TrainerCallback):
        bars: Progress | None = None
        is_shown = False

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            self.description = description = describe if isinstance(describe, str) else describe(model)
            self.is_shown, self.start = state.is_world_process_zero, time.monotonic()
            if not self.is_shown:
                return
            if not errors.is_terminal:
                goes_on = f", {state.global_step} of them done" if state.global_step else ""
                errors.print(f"{description}: {counted(state.max_steps, 'step')}{goes_on}")
                return
            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=errors,
                transient=True,
            )
            self.task = self.bars.add_task(description, total=state.max_steps, completed=state.global_step, loss="-")
            self.bars.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.bars is not None:
                self.bars.update(self.task, completed=state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self.bars is not None and "loss" in (logs or {}):
                self.bars.update(self.task, loss=f"{float(logs['loss']):.3f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.bars is not None:
                self.bars.stop()
            if self.is_shown:
                errors.print(f"{self.description}: done in {time.monotonic() - self.start:.0f} s")

    return ShownTraining()


def counted(number: float, noun: str) -> str:
    """Return a number with what is counted."""
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"
