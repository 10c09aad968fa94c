"""Progress bars of trainings: how many steps are done, the loss, and the time that is left."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback


def shown_training(description: str) -> "TrainerCallback":
    """Return a callback that shows a training on the terminal, or with a line at its end where there is none.

    Args:
        description (`str`): What is trained, and how.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from transformers import TrainerCallback

    from .base import errors

    class ShownTraining(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not state.is_world_process_zero:
                return
            columns = ("[progress.description]{task.description}", "loss {task.fields[loss]}")
            self.bars = Progress(
                TextColumn(columns[0]),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(columns[1]),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=errors,
                disable=not errors.is_terminal,
            )
            self.task = self.bars.add_task(description, total=state.max_steps, completed=state.global_step, loss="-")
            self.bars.start()
            if not errors.is_terminal:
                errors.print(f"{description}: {state.max_steps - state.global_step} steps")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                self.bars.update(self.task, completed=state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero and "loss" in (logs or {}):
                self.bars.update(self.task, loss=f"{float(logs['loss']):.3f}")

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                self.bars.stop()

    return ShownTraining()
