"""Shows depth profiles while they are measured: as figures in TensorBoard, and as one live picture in a notebook."""

import io
import sys
from collections.abc import Iterator
from typing import Any

from transformers import Trainer, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback, rewrite_logs
from transformers.utils import logging

from ..depth.drawing import plot_depth_profile, plot_profile_history
from ..depth.profile import DepthProfile
from .depth_log import logged_profiles

logger = logging.get_logger(__name__)

AT_EVERY_DEPTH = "_at_every_depth"
WIDTH = 700
"""Of a picture in a notebook, in pixels of the style sheet."""


class ProfileDisplay:
    """Shows profiles wherever there is a place to show them; the main process does, and no other.

    Args:
        figures (`bool`, *optional*): Whether to. By default where there is a place; with `True` it is said if there is
            none.
    """

    def __init__(self, figures: bool | None):
        if figures is not None and not isinstance(figures, bool):
            raise ValueError(f"figures must be True, False or None; got {figures!r}")
        self.figures = figures
        self._histories: dict[str, dict[int, dict[int, float]]] = {}
        self._handles: dict[str, Any] | None = None
        self._has_spoken = False

    def begin(self, args: TrainingArguments, state: TrainerState, trainer: Trainer | None) -> None:
        """Begin with what the log of a resumed run holds, and say what will have no effect."""
        self._histories, self._handles = {}, {}
        if self.figures is False or not state.is_world_process_zero:
            return
        if is_notebook():
            for name, measured in logged_profiles(state.log_history).items():
                self._histories[name] = {step: profile.values for step, profile in measured.items()}
        self._say_once(args, trainer)

    def end(self) -> None:
        """Let what is measured later, in another cell, have a picture of its own."""
        self._handles = None

    def show(self, profile: DepthProfile, prefix: str, tolerance: float, state: TrainerState, trainer: Any) -> None:
        """Show the profile that was measured at the present step.

        Args:
            profile (`DepthProfile`): What to show.
            prefix (`str`): What the log calls the data.
            tolerance (`float`): See [`DepthProfile.effective_depth`].
            state (`TrainerState`): Of the Trainer.
            trainer (`Trainer`, *optional*): If it is known.
        """
        if self.figures is False or not state.is_world_process_zero or not has_matplotlib():
            return
        for writer in writers_of(trainer):
            # Named as the numbers are, so that TensorBoard puts them together.
            (tag,) = rewrite_logs({f"{prefix}_{profile.metric}{AT_EVERY_DEPTH}": None})
            writer.add_figure(tag, plot_depth_profile(profile).figure, state.global_step)
            writer.flush()
        if is_notebook():
            self._show_in_notebook(profile, f"{prefix}_{profile.metric}", profile.effective_depth(tolerance), state)

    def _show_in_notebook(self, profile: DepthProfile, name: str, effective: int, state: TrainerState) -> None:
        from IPython.display import Image, display

        history = self._histories.setdefault(name, {})
        history[state.global_step] = dict(zip(profile.depths, profile.values, strict=True))
        axes = plot_profile_history(history, profile.metric, effective_depth=effective)
        axes.set_title(name, fontsize="medium")
        stream = io.BytesIO()
        axes.figure.savefig(stream, format="png")
        values = ", ".join(f"{depth}: {value:.4g}" for depth, value in history[state.global_step].items())
        words = f"{name} at each depth at step {state.global_step}: {values}; effective depth {effective}"
        picture = Image(data=stream.getvalue(), format="png", width=WIDTH, alt=words)
        if self._handles is None:
            display(picture)
        elif (handle := self._handles.get(name)) is not None:
            handle.update(picture)
        else:
            self._handles[name] = display(picture, display_id=True)

    def _say_once(self, args: TrainingArguments, trainer: Trainer | None) -> None:
        text = "; ".join(self._without_effect(args, trainer))
        if text and not self._has_spoken:
            self._has_spoken = True
            logger.warning(f"{text} (figures=False asks for none)")

    def _without_effect(self, args: TrainingArguments, trainer: Trainer | None) -> Iterator[str]:
        """Yield what is not going to be shown, and what to do about it."""
        reports = "tensorboard" in args.report_to
        is_reached = any(isinstance(one, TensorBoardCallback) for one in callbacks_of(trainer))
        if not has_matplotlib() and (reports or is_reached or is_notebook() or self.figures):
            yield "profiles are not drawn without matplotlib: pip install 'acn-hf[plots]'"
        elif reports and trainer is None:
            yield "TensorBoard gets no depth profiles: attach the callback to its Trainer, callback.attach(trainer)"
        elif self.figures and not (is_reached or is_notebook()):
            yield (
                "figures=True has no effect: the Trainer does not report to TensorBoard, report_to='tensorboard', and "
                "this is no notebook"
            )


def callbacks_of(trainer: Trainer | None) -> list[Any]:
    """Return what a Trainer tells its events to."""
    return [] if trainer is None else trainer.callback_handler.callbacks


def writers_of(trainer: Trainer | None) -> list[Any]:
    """Return the open writers of TensorBoard that a Trainer reports to."""
    reached = (one for one in callbacks_of(trainer) if isinstance(one, TensorBoardCallback))
    return [one.tb_writer for one in reached if one.tb_writer is not None]


def is_notebook() -> bool:
    """Return whether this is a kernel of IPython, which shows pictures."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def has_matplotlib() -> bool:
    """Return whether anything can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True
