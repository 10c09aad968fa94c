"""What every layer learns through its own long connection while a script trains."""

from pathlib import Path

from transformers import Trainer

from ..analysis.gradient_flow_callback import HISTORY_NAME, GradientFlowCallback
from .arguments import DepthArguments
from .labelled_data import first_rows

EXAMPLES = 64  # of validation, if no other number is asked for


def add_gradient_flow(trainer: Trainer, arguments: DepthArguments) -> GradientFlowCallback | None:
    """Measure the gradient flow of an ACN on validation data while a Trainer trains, if that was asked for."""
    if arguments.gradient_flow_every is None:
        return None
    few = first_rows(trainer.eval_dataset, arguments.gradient_flow_examples or EXAMPLES)
    return GradientFlowCallback(few, every_steps=arguments.gradient_flow_every).attach(trainer)


def report_gradient_flow(trainer: Trainer, callback: GradientFlowCallback | None) -> None:
    """Print what was measured, and write it to `gradient_flow.json` in the output folder."""
    if callback is not None and trainer.is_world_process_zero():
        callback.history.save(Path(str(trainer.args.output_dir)) / HISTORY_NAME)
        print(callback.history)
