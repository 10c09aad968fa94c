"""Callbacks for `Trainer`: measure every depth while training, and supervise at several depths."""

from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..depth.profile import DepthProfile
from .distillation import DistillationLoss
from .measuring_callback import MeasuringCallback
from .supervision import IntermediateSupervision, Weights

PROFILE_NAME = "depth_profile.json"


class DepthProfileCallback(MeasuringCallback):
    """Measures a metric at every depth while a [`~transformers.Trainer`] trains, for the price of one evaluation.

    The Trainer's log gets the metric at every depth (`eval_accuracy_at_depth_3`) and the effective depth
    (`eval_effective_depth`); with `TrainingArguments(metric_for_best_model="eval_accuracy_at_depth_3")` the best
    checkpoint is that of depth 3. Beside every checkpoint lies its profile, `depth_profile.json`; the newest is
    `callback.profile`.

    Args:
        data (*optional*): See [`measure_depth_profile`]. Defaults to the set that the Trainer evaluates on.
        metric (`str` or `Callable`, *optional*, defaults to `"accuracy"`): See [`measure_depth_profile`].
        every (`int`, *optional*): Measure every so many steps. Defaults to every evaluation of the Trainer. A
            checkpoint that falls between is measured too.
        tolerance (`float`, *optional*, defaults to 0.005): See [`DepthProfile.effective_depth`].
        collate_fn (`Callable`, *optional*): Makes a batch of rows of `data`.

    Raises:
        ValueError: `every` or `tolerance` is out of its range, or, when training begins, nobody can say what the data
            are.
        TypeError: When training begins, the model is not one of transformers, or its weights are sharded over
            processes.
    """

    profile: DepthProfile | None = None
    _measured_at: int | None = None

    def take(
        self, profile: DepthProfile, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, **kwargs: Any
    ) -> dict[str, float]:
        """Keep the profile, and return its values for the log."""
        self.profile, self._measured_at = profile, state.global_step
        values = zip(profile.depths, profile.values, strict=True)
        return {
            **{f"{profile.metric}_at_depth_{depth}": value for depth, value in values},
            "effective_depth": profile.effective_depth(self.tolerance),
        }

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._measured_at != state.global_step and self.knows_data(kwargs.get("eval_dataloader")):
            self.measure_and_take(args, state, prefix="eval", **kwargs)
        fresh = self.profile is not None and self._measured_at == state.global_step
        if self.profile is not None and fresh and args.should_save and checkpoint.is_dir():
            self.profile.save(checkpoint / PROFILE_NAME)


class IntermediateSupervisionCallback(TrainerCallback):
    """Trains with the loss through the shared head at several depths; see [`intermediate_supervision`].

    Args:
        weights (`"linear"`, `"uniform"`, `"full"` or sequence of `float`, *optional*, defaults to `"linear"`):
            Weight of each depth's loss: `2 * k / (L * (L + 1))`, `1 / L`, that of full depth alone (for distillation
            without supervision), or `L + 1` given numbers.
        num_depths (`int`, *optional*): Number of depths beside full depth in a step, for heads that are expensive, as
            in masked language modelling. They rotate from step to step. Defaults to all.
        distillation (`DistillationLoss`, *optional*): What a teacher adds at every depth that takes part.

    Raises:
        TypeError: When training begins, the model is an ACN without a head.
        ValueError: When training begins, `weights` or `num_depths` is out of range, the model is supervised already,
            or `DataParallel` spreads it over several GPUs; after the first step, the model was given no labels.
    """

    def __init__(
        self,
        weights: Weights = "linear",
        num_depths: int | None = None,
        distillation: DistillationLoss | None = None,
    ):
        self.weights = weights
        self.num_depths = num_depths
        self.distillation = distillation
        self.supervision: IntermediateSupervision | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add this callback to a Trainer."""
        trainer.add_callback(self)
        return self

    def remove(self) -> None:
        """Leave the model as it was; the end of training does this, but for one that an error or Ctrl-C ends."""
        if self.supervision is not None:
            self.supervision.remove()
            self.supervision = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.remove()  # of a run that ended with an error
        if args.n_gpu > 1:
            raise ValueError(
                f"supervision needs a process for each GPU (torchrun, accelerate launch); got one for {args.n_gpu}"
            )
        self.supervision = IntermediateSupervision(kwargs["model"], self.weights, self.num_depths, self.distillation)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.supervision is not None:
            self.supervision.turn = state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.supervision is not None and not self.supervision.num_passes:
            raise ValueError(
                "the model must be given labels, to compute a loss at every depth; label_smoothing_factor, "
                "compute_loss_func and a compute_loss of one's own may take them away"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.remove()
