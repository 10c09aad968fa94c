"""Callbacks for `Trainer`: measure every depth while training, and supervise at several depths."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..depth.profile import DepthProfile
from .answers import Answers
from .depth_log import entries_of
from .distillation import DistillationLoss
from .measuring_callback import MeasuringCallback
from .profile_display import ProfileDisplay
from .supervision import IntermediateSupervision, Weights
from .trainer_loss import LossAtEveryDepth, ending_with

PROFILE_NAME = "depth_profile.json"


class DepthProfileCallback(MeasuringCallback):
    """Measures a metric at every depth while a [`~transformers.Trainer`] trains, for the price of one evaluation.

    The Trainer's log gets the metric at every depth (`eval_accuracy_at_depth_3`) and the effective depth
    (`eval_effective_depth`); with `TrainingArguments(metric_for_best_model="eval_accuracy_at_depth_3")` the best
    checkpoint is that of depth 3. Beside every checkpoint lies its profile, `depth_profile.json`; the newest is
    `callback.profile`.

    Each profile is drawn too (extra `plots`): as a figure in TensorBoard, if the callback is attached to a Trainer that
    reports to it, and in a notebook as one live picture, with the earlier profiles paler behind the newest.

    Args:
        data (*optional*): See [`measure_depth_profile`]. Defaults to the set that the Trainer evaluates on.
        metric (`str` or `Callable`, *optional*, defaults to `"accuracy"`): See [`measure_depth_profile`].
        every (`int`, *optional*): Measure every so many steps. Defaults to every evaluation of the Trainer. A
            checkpoint that falls between is measured too.
        tolerance (`float`, *optional*, defaults to 0.005): See [`DepthProfile.effective_depth`].
        collate_fn (`Callable`, *optional*): Makes a batch of rows of `data`.
        figures (`bool`, *optional*): Whether profiles are drawn. By default wherever there is a place for it; with
            `True` a warning says if there is none.

    Raises:
        ValueError: `every`, `tolerance` or `figures` is out of its range, or, when training begins, nobody can say what
            the data are.
        TypeError: When training begins, the model is not one of transformers, or its weights are sharded over
            processes.
    """

    profile: DepthProfile | None = None
    _measured_at: int | None = None

    def __init__(
        self,
        data: Any = None,
        metric: Any = "accuracy",
        *,
        every: int | None = None,
        tolerance: float = 0.005,
        collate_fn: Callable | None = None,
        figures: bool | None = None,
    ):
        super().__init__(data, metric, every=every, tolerance=tolerance, collate_fn=collate_fn)
        self._display = ProfileDisplay(figures)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        self._display.begin(args, state, self.trainer)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._display.end()

    def measure_and_take(
        self, args: TrainingArguments, state: TrainerState, *, prefix: str, model: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Measure, log and show."""
        entries = super().measure_and_take(args, state, prefix=prefix, model=model, **kwargs)
        if self.profile is not None:
            self._display.show(self.profile, prefix, self.tolerance, state, self.trainer)
        return entries

    def take(
        self, profile: DepthProfile, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, **kwargs: Any
    ) -> dict[str, float]:
        """Keep the profile, and return its values for the log."""
        self.profile, self._measured_at = profile, state.global_step
        return entries_of(profile, self.tolerance)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._measured_at != state.global_step and self.knows_data(kwargs.get("eval_dataloader")):
            self.measure_and_take(args, state, prefix="eval", **kwargs)
        fresh = self.profile is not None and self._measured_at == state.global_step
        if self.profile is not None and fresh and args.should_save and checkpoint.is_dir():
            self.profile.save(checkpoint / PROFILE_NAME)


class IntermediateSupervisionCallback(TrainerCallback):
    """Trains with the loss through the shared head at several depths; see [`intermediate_supervision`].

    Attached to its Trainer, `callback.attach(trainer)`, it takes the loss that the Trainer computes, whatever it is:
    the model's own, one with `label_smoothing_factor`, a `compute_loss_func`, or the `compute_loss` of a subclass. The
    layers run once in any case. But for the model's own loss, `compute_loss` is called once for each depth that takes
    part, with the same inputs and random numbers; what it does besides, such as logging, it does as often.

    Given to `Trainer(callbacks=[...])` it cannot see the Trainer, and only the loss that the model itself computes from
    its labels is there at every depth. Where another one is trained, the first step says so, before a weight changes.

    Args:
        weights (`"linear"`, `"uniform"`, `"full"` or sequence of `float`, *optional*, defaults to `"linear"`):
            Weight of each depth's loss: `2 * k / (L * (L + 1))`, `1 / L`, that of full depth alone (for distillation
            without supervision), or `L + 1` given numbers.
        num_depths (`int`, *optional*): Number of depths beside full depth in a step, for heads that are expensive, as
            in masked language modelling. They rotate from step to step. Defaults to all.
        distillation (`DistillationLoss`, *optional*): What a teacher adds at every depth that takes part.
        until (`float`, *optional*, defaults to 1.0): Share of the steps, in (0, 1], after which full depth alone is
            trained.

    Raises:
        TypeError: When training begins, the model is an ACN without a head.
        ValueError: `until` is out of range; when training begins, `weights` or `num_depths` is out of range, the model
            is supervised already, or `DataParallel` spreads it over several GPUs; in a step, the loss at every depth is
            not what is trained, or `compute_loss` is not a function of what the model returns.
    """

    def __init__(
        self,
        weights: Weights = "linear",
        num_depths: int | None = None,
        distillation: DistillationLoss | None = None,
        until: float = 1.0,
    ):
        if isinstance(until, bool) or not isinstance(until, (int, float)) or not 0 < until <= 1:
            raise ValueError(f"until must lie in (0, 1]; got {until!r}")
        self.weights = weights
        self.until = until
        self.num_depths = num_depths
        self.distillation = distillation
        self.supervision: IntermediateSupervision | None = None
        self.answers: Answers | None = None
        """What the teacher says about the rows of the Trainer, where batches tell their numbers."""
        self._trainers: weakref.WeakSet[Trainer] = weakref.WeakSet()
        self._loss: LossAtEveryDepth | None = None
        self._counts = (0, 0)

    def attach(self, trainer: Trainer) -> Self:
        """Add this callback to a Trainer, and supervise the loss that it computes.

        For the time of training, and no longer, the Trainer gets another `compute_loss`.
        """
        self.accompany(trainer)
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def accompany(self, trainer: Trainer) -> None:
        """Supervise the loss of a Trainer which tells its events to another callback."""
        if trainer not in self._trainers:
            self._trainers.add(trainer)
            ending_with(trainer, self.remove)

    def remove(self) -> None:
        """Leave model and Trainer as they were.

        The end of training does this, but for one that an error or Ctrl-C ends without the callback being attached.
        """
        if self._loss is not None:
            self._loss.remove()
            self._loss = None
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
        for trainer in self._trainers:
            if trainer.state is state:  # it is this one that begins
                self._loss = LossAtEveryDepth(trainer, self.supervision, self.answers)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.supervision is not None:
            self.supervision.turn = state.global_step
            if state.global_step >= self.until * state.max_steps:
                self.supervision.weights = "full"
            self._counts = (self.supervision.num_passes, self.supervision.num_used)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.supervision is None:
            return
        num_passes, num_used = self._counts
        made = self.supervision.num_passes > num_passes
        # A step without labels is one without supervision, if there was another before.
        if self.supervision.num_used == num_used and (made or not num_used):
            raise ValueError(_unused(made, self._loss is not None, args))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.remove()


def _unused(made: bool, attached: bool, args: TrainingArguments) -> str:
    """Return what to say when a step was made without the loss at every depth."""
    if made:
        what = "another one than the model returned was trained"
    else:
        what = "in train mode and with gradients the model was given no labels"
    if attached:
        how = "train with what compute_loss returns"
    else:
        how = (
            "attach it, callback.attach(trainer), and it takes the loss that the Trainer computes: with "
            "label_smoothing_factor, compute_loss_func, or a compute_loss of your own"
        )
        if args.label_smoothing_factor:
            how += f"; label_smoothing_factor is {args.label_smoothing_factor}"
    return f"the loss at every depth must be what is trained, and {what}: {how}"
