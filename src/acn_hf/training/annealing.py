"""Take the short connections away little by little, while a `Trainer` trains."""

import math
from typing import Any, Self

from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ..depth.layers import give_own_configs
from ..modeling.depth import short_connections
from ..support.wrappers import is_peft_model, unwrap_acn, unwrap_parallel
from .callbacks import IntermediateSupervisionCallback
from .distillation import DistillationLoss

logger = logging.get_logger(__name__)

Scales = float | list[float]
SCALE = "residual_scale"
"""What the log calls it."""
SHAPES = {"linear": lambda share: share, "cosine": lambda share: (1 - math.cos(math.pi * share)) / 2}
"""Which share of the way is gone after a share of the time."""
ORDERS = ("together", "top_down", "bottom_up")
"""Whose scale moves first."""


class ResidualAnnealingCallback(TrainerCallback):
    """Moves the residual scale of an ACN while a [`~transformers.Trainer`] trains it.

    A model that [`from_residual`] converted with `residual_scale=1.0` begins as the residual network that it was; at
    `end=0.0` it is an ACN. Every step has its scale, which follows from its number alone: a resumed run goes on at the
    right one. A checkpoint holds, in its config, the scale that it was trained with last; with
    `load_best_model_at_end` the best checkpoint's scale comes back with its weights. The Trainer's log gets
    `residual_scale` (its mean, if the layers differ).

    Args:
        start (`float` or `list[float]`, *optional*, defaults to 1.0): Scale of the first step, in [0, 1]; one number,
            or one number a layer.
        end (`float` or `list[float]`, *optional*, defaults to 0.0): Scale at the end, in [0, 1]. With a list such as
            `[1, 1, 1, 0, 0, 0]` the lower layers keep their short connections.
        fraction (`float`, *optional*, defaults to 0.5): Share of the steps, in [0, 1], after which the end is reached.
        shape (`"linear"` or `"cosine"`, *optional*, defaults to `"linear"`): Way from start to end.
        distillation (`DistillationLoss`, *optional*): What a teacher, the residual model for instance, adds to the
            loss at full depth. At several depths: give it to [`IntermediateSupervisionCallback`] instead. As there,
            the callback must be attached, `attach(trainer)`, where the Trainer computes another loss than the model.
        begin (`float`, *optional*, defaults to 0.0): Share of the steps, in [0, `fraction`], before which the scale
            stays at `start`.
        order (`str`, *optional*, defaults to `"together"`): All layers at once, or one after another, with an equal
            share of the time for each: from the last to the first, `"top_down"`, or `"bottom_up"`.

    Raises:
        ValueError: An argument is out of its range; when training begins, a list does not have one number a layer, or
            the scales are learned; in a step, what the teacher adds to is not what is trained.
        TypeError: When training begins, the model is not an ACN.
    """

    def __init__(
        self,
        start: Scales = 1.0,
        end: Scales = 0.0,
        fraction: float = 0.5,
        shape: str = "linear",
        distillation: DistillationLoss | None = None,
        begin: float = 0.0,
        order: str = "together",
    ):
        for name, scales in (("start", start), ("end", end)):
            for scale in scales if isinstance(scales, list) else [scales]:
                if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 <= scale <= 1:
                    raise ValueError(f"{name} must lie in [0, 1]; got {scale!r}")
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must lie in [0, 1]; got {fraction!r}")
        if not 0 <= begin <= fraction:
            raise ValueError(f"begin must lie in [0, {fraction}], where fraction is the end; got {begin!r}")
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}; got {shape!r}")
        if order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
        self.start = start
        self.end = end
        self.begin = begin
        self.fraction = fraction
        self.shape = shape
        self.order = order
        self.teaching = None if distillation is None else IntermediateSupervisionCallback("full", None, distillation)

    def attach(self, trainer: Trainer) -> Self:
        """Add this callback to a Trainer; the teacher then adds to whatever loss it computes."""
        if self.teaching is not None:
            self.teaching.accompany(trainer)
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def remove(self) -> None:
        """Take the teacher out of a model whose training an error or Ctrl-C ended; the end of training does this."""
        if self.teaching is not None:
            self.teaching.remove()

    def scale_at(self, step: int, max_steps: int, num_layers: int) -> Scales:
        """Return the scale of a step.

        Args:
            step (`int`): Its number, in `[1, max_steps]`.
            max_steps (`int`): Number of steps of the whole run.
            num_layers (`int`): How many layers are left; of a list, the first so many numbers count.

        Returns:
            `float` or `list[float]`: One number a layer if `start` or `end` is a list, or the layers are on their way
            one after another; else one number.
        """
        time = self._share_of_way(step, max_steps)
        if isinstance(self.start, list) or isinstance(self.end, list) or (self.order != "together" and 0 < time < 1):
            starts, ends = _per_layer(self.start, num_layers), _per_layer(self.end, num_layers)
            times = (self._time_of_layer(time, index, num_layers) for index in range(num_layers))
            return [_between(*way) for way in zip(starts, ends, map(SHAPES[self.shape], times), strict=True)]
        return _between(self.start, self.end, SHAPES[self.shape](time))

    def _time_of_layer(self, time: float, index: int, num_layers: int) -> float:
        """Return which share of its own time a layer is through, when the network is through this share of all."""
        if self.order == "together":
            return time
        turn = index if self.order == "bottom_up" else num_layers - 1 - index
        return min(1.0, max(0.0, time * num_layers - turn))

    def _share_of_way(self, step: int, max_steps: int) -> float:
        """Return which share of the time between the first step that changes the scale and the last is over."""
        first, last = math.floor(self.begin * max_steps) + 1, max(1, math.ceil(self.fraction * max_steps))
        if last <= first:  # it jumps
            return float(step >= first)
        return min(1.0, max(0.0, (step - first) / (last - first)))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = unwrap_acn(kwargs["model"])
        layers = short_connections(model)
        for name, scales in (("start", self.start), ("end", self.end)):
            if isinstance(scales, list) and len(scales) < len(layers):
                raise ValueError(f"{name} must hold one number for each of the {len(layers)} layers; got {len(scales)}")
        if model.config.learn_residual_scale:
            raise ValueError("scales that are annealed cannot be learned: learn_residual_scale must be False; got True")
        if is_peft_model(unwrap_parallel(kwargs["model"])):
            logger.warning(
                "a checkpoint of adapters does not hold the residual scale: a base model that reads them must be given "
                f"that of the end, {self.end}"
            )
        give_own_configs(kwargs["model"])
        _let_go(model)
        if self.teaching is not None:
            self.teaching.on_train_begin(args, state, control, **kwargs)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._set(unwrap_acn(kwargs["model"]), state.global_step + 1, state)
        if self.teaching is not None:
            self.teaching.on_step_begin(args, state, control, **kwargs)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.teaching is not None:
            self.teaching.on_pre_optimizer_step(args, state, control, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        scale = unwrap_acn(kwargs["model"]).config.residual_scale
        mean = sum(scale) / max(1, len(scale)) if isinstance(scale, list) else scale
        for entry in (logs, state.log_history[-1] if state.log_history else None):
            if entry is not None and "loss" in entry:
                entry[SCALE] = mean

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        best = state.best_global_step
        if args.load_best_model_at_end and best and state.best_model_checkpoint is not None:
            self._set(unwrap_acn(kwargs["model"]), best, state)
        _let_go(unwrap_acn(kwargs["model"]))
        if self.teaching is not None:
            self.teaching.on_train_end(args, state, control, **kwargs)

    def _set(self, model: PreTrainedModel, step: int, state: TrainerState) -> None:
        layers = short_connections(model)
        scale = self.scale_at(step, state.max_steps, len(layers))
        for config in (model.config, model.base_model.config):
            config.residual_scale = scale
        moves = 0 < self._share_of_way(step, state.max_steps) < 1
        for layer in layers:
            layer.move(layer.initial_scale if moves else None)


def _let_go(model: PreTrainedModel) -> None:
    """Let compiled code read the scales from the config again, after a training that an error or Ctrl-C ended too."""
    for layer in short_connections(model):
        layer.move(None)


def _per_layer(scales: Scales, num_layers: int) -> list[float]:
    return scales[:num_layers] if isinstance(scales, list) else [scales] * num_layers


def _between(start: float, end: float, share: float) -> float:
    """Return a point on the way; the ends are exact."""
    return (1 - share) * start + share * end
