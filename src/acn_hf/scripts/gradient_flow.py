"""What every layer learns through its own long connection while a script trains."""

from pathlib import Path

from transformers import Trainer

from ..analysis.gradient_flow_callback import HISTORY_NAME, GradientFlowCallback
from ..depth.layers import is_acn
from .arguments import DepthArguments

EXAMPLES = 64  # of validation, if no other number is asked for


def add_gradient_flow(trainer: Trainer, arguments: DepthArguments) -> GradientFlowCallback | None:
    """Measure the gradient flow while a Trainer trains, if that was asked for.

    Raises:
        ValueError: It was, and the model is not an ACN, or there are no validation data to measure on.
    """
    if arguments.gradient_flow_every is None:
        return None
    model, data = trainer.accelerator.unwrap_model(trainer.model), trainer.eval_dataset
    if not is_acn(model):
        raise ValueError(f"--gradient_flow_every needs an ACN, at any scale; got a {model.config.model_type}")
    if data is None:
        raise ValueError("--gradient_flow_every measures on the validation data; give --do_eval too")
    few = data.select(range(min(arguments.gradient_flow_examples or EXAMPLES, len(data))))
    return GradientFlowCallback(few, every_steps=arguments.gradient_flow_every).attach(trainer)


def report_gradient_flow(trainer: Trainer, callback: GradientFlowCallback | None) -> None:
    """Print what was measured, and write it to `gradient_flow.json` in the output folder."""
    if callback is not None and trainer.is_world_process_zero():
        callback.history.save(Path(str(trainer.args.output_dir)) / HISTORY_NAME)
        print(callback.history)
