"""Layers that leave while training: the run gets cheaper as the network compresses itself."""

import copy
import weakref
from collections.abc import Callable
from itertools import pairwise, takewhile
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ..depth.layers import grow_layers, layers_of, layers_path, shed_layers
from ..depth.profile import DepthProfile
from ..depth.tuners import check_can_be_cut
from ..modeling.checkpoint import check_layers_held, layers_held
from ..modeling.injected import adapter_configs
from ..support.wrappers import unwrap
from .measuring_callback import MeasuringCallback

logger = logging.get_logger(__name__)

DEPTH, EFFECTIVE_DEPTH, SAVED = "shedding_depth", "shedding_effective_depth", "shedding_saved_layer_steps"


class LayerSheddingCallback(MeasuringCallback):
    """Removes the layers that a network has stopped to need, from the model and from the optimiser, while it trains.

    When the effective depth plus a margin stays below the present depth for several measurements in a row, the layers
    above the largest of these are removed, and training goes on with the shorter network. The checkpoints are those of
    the shorter network from then on. A run that is resumed from one may build its model at either depth. With
    `load_best_model_at_end` the best checkpoint is loaded at its own depth: if layers left after it, they come back.

    The model gets a config of its own when layers leave; the one that it was made from stays as it is.

    The Trainer's log says at every measurement how deep the network is (`eval_shedding_depth`) and needs to be
    (`eval_shedding_effective_depth`), and which share of all layer-steps was saved (`eval_shedding_saved_layer_steps`).
    It is the only state: a resumed run reads it from its checkpoint.

    Args:
        data (*optional*): What the depth is chosen on. Defaults to the set that the Trainer evaluates on.
        metric (`str` or `Callable`, *optional*, defaults to `"accuracy"`): See [`measure_depth_profile`].
        tolerance (`float`, *optional*, defaults to 0.005): See [`DepthProfile.effective_depth`].
        margin (`int`, *optional*, defaults to 1): Number of layers to keep above the effective depth.
        patience (`int`, *optional*, defaults to 2): Number of measurements in a row that must agree.
        start (`float`, *optional*, defaults to 0.1): Share of the training steps, in [0, 1], before which measurements
            do not count: a network that has learnt little is as good at every depth.
        every (`int`, *optional*): Measure every so many steps. Defaults to every evaluation of the Trainer.
        collate_fn (`Callable`, *optional*): Makes a batch of rows of `data`.

    Raises:
        DepthError: The model has no stack of layers, or a run is resumed from a checkpoint of more layers.
        ValueError: An argument is out of its range; when training begins, `load_best_model_at_end` is set for a model
            with adapters, whose checkpoints do not hold the layers that left, its adapters are of a type that cannot be
            cut (FROD, UniLoRA without `save_indices`), or there are several processes and the
            callback is not attached to its Trainer; later, the Trainer evaluates on several sets and no `data` are
            given.
        TypeError: When training begins, the model is not one of transformers, or its weights are sharded over
            processes.
    """

    def __init__(
        self,
        data: Any = None,
        metric: Any = "accuracy",
        tolerance: float = 0.005,
        *,
        margin: int = 1,
        patience: int = 2,
        start: float = 0.1,
        every: int | None = None,
        collate_fn: Callable | None = None,
    ):
        super().__init__(data, metric, every=every, tolerance=tolerance, collate_fn=collate_fn)
        if margin < 0 or patience < 1:
            raise ValueError(f"margin must be >= 0 and patience >= 1; got {margin!r} and {patience!r}")
        self.margin = margin
        if not 0 <= start <= 1:
            raise ValueError(f"start must lie in [0, 1]; got {start!r}")
        self.patience = patience
        self.start = start
        self._loading: RemovableHandle | None = None
        self._is_training = False

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Before training begins the Trainer may load a checkpoint whose layers have left.
        if self._loading is None:
            inner = unwrap(kwargs["model"])
            self._loading = inner.register_load_state_dict_pre_hook(_shed_to_fit(inner, kwargs["model"]))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self._loading is not None:
            self._loading.remove()
            self._loading = None
        inner = unwrap(kwargs["model"])
        check_can_be_cut(inner)
        if args.load_best_model_at_end and adapter_configs(inner):
            raise ValueError(
                "load_best_model_at_end must be False where layers of an adapted model leave: a checkpoint of adapters "
                "does not hold the layers, which may have to come back; got True"
            )
        if args.world_size > 1 and self.trainer is None:
            raise ValueError(
                "with several processes a LayerSheddingCallback must be attached, attach(trainer), so that nobody "
                f"waits for gradients of layers that left; there are {args.world_size} processes"
            )
        self._is_training = True
        if not _depths(state):
            self.log({f"eval_{DEPTH}": len(layers_of(inner))}, state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        # The last entry of a run, and the last event before the Trainer loads its best checkpoint.
        if self._is_training and logs is not None and "train_runtime" in logs:
            self._is_training = False
            if args.load_best_model_at_end and state.best_model_checkpoint is not None:
                self._fit_to_best(kwargs["model"], state.best_model_checkpoint, kwargs["optimizer"])

    def _fit_to_best(self, model: Any, checkpoint: str, optimizer: Any) -> None:
        """Give the model as many layers as the best checkpoint holds."""
        inner = unwrap(model)
        config = type(inner.config).from_pretrained(checkpoint)
        with torch.device("meta"):
            wanted = len(layers_of(type(inner)(copy.deepcopy(config))))
        layers = layers_of(inner)
        if wanted < len(layers):
            self._shed(inner, wanted, optimizer, model)
        elif wanted > len(layers):
            logger.info(f"layers {len(layers) + 1} to {wanted} come back: {checkpoint} holds them")
            _hand_over(grow_layers(inner, config), layers, optimizer)
            self._rebuild_reducer()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._is_training = False
        self.log({f"eval_{SAVED}": saved_layer_steps(state)}, state)

    def measure_and_take(
        self, args: TrainingArguments, state: TrainerState, *, prefix: str, model: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Measure once a step, and never outside training: to evaluate a trained model does not change it."""
        if not self._is_training or any(f"eval_{EFFECTIVE_DEPTH}" in entry for entry in _entries_at(state)):
            return {}
        if prefix != "eval" and self.data is None:
            raise ValueError(
                "the depth must be chosen on one set: give LayerSheddingCallback data, since the Trainer evaluates on "
                f"several; got {prefix.removeprefix('eval_')}"
            )
        return super().measure_and_take(args, state, prefix="eval", model=model, outer=model, **kwargs)

    def take(
        self, profile: DepthProfile, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, **kwargs: Any
    ) -> dict[str, float]:
        """Let layers leave if they may, and return the depths for the log."""
        present, effective = profile.depths[-1], profile.effective_depth(self.tolerance)
        target = self._target(state, present, effective)
        if target < present:
            self._shed(model, target, kwargs["optimizer"], kwargs["outer"])
            logger.info(
                f"step {state.global_step}: layers {target + 1} to {present} left; "
                f"every further step runs {target} of {_depths(state)[0][1]} layers"
            )
        return {EFFECTIVE_DEPTH: effective, DEPTH: target, SAVED: saved_layer_steps(state)}

    def _target(self, state: TrainerState, present: int, effective: int) -> int:
        """Return the depth to go on with: what the last measurements since the last removal agree on."""
        first = self.start * state.max_steps
        entries = [entry for entry in state.log_history if f"eval_{EFFECTIVE_DEPTH}" in entry and entry["step"] > first]
        since_removal = list(takewhile(lambda entry: entry[f"eval_{DEPTH}"] == present, reversed(entries)))
        # The entry of the removal itself names the depth after it, and was measured before.
        before = [entry for entry in since_removal if entry["step"] != _last_removal(state)]
        now = [effective] if state.global_step > first else []
        wanted = [*now, *(entry[f"eval_{EFFECTIVE_DEPTH}"] for entry in before)][: self.patience]
        return min(present, max(wanted) + self.margin) if len(wanted) == self.patience else present

    def _shed(self, model: PreTrainedModel, depth: int, optimizer: Any, outer: nn.Module) -> None:
        removed = {id(parameter) for layer in shed_layers(model, depth, outer) for parameter in layer.parameters()}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in removed:
                    optimizer.state.pop(parameter, None)
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in removed]
        self._rebuild_reducer()

    def _rebuild_reducer(self) -> None:
        wrapper = None if self.trainer is None else self.trainer.model_wrapped
        if isinstance(wrapper, DistributedDataParallel):
            # Builds the reducer anew, as after unpickling: the old one would wait for gradients of removed layers.
            wrapper.__setstate__(wrapper.__getstate__())


def _hand_over(added: list[nn.Module], layers: nn.ModuleList, optimizer: Any) -> None:
    """Let an optimiser train new layers, should the run go on, as it trains the first layer."""
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    like = dict(layers[0].named_parameters())
    for layer in added:
        for name, parameter in layer.named_parameters():
            groups.get(id(like.get(name)), optimizer.param_groups[0])["params"].append(parameter)


def saved_layer_steps(state: TrainerState) -> float:
    """Return which share, in [0, 1], of the layers times steps a run has not needed so far."""
    depths = _depths(state)
    if not depths or depths[0][1] * state.global_step == 0:
        return 0.0
    ends = [*(step for step, _ in depths[1:]), state.global_step]
    spent = sum((end - start) * depth for (start, depth), end in zip(depths, ends, strict=True))
    return 1 - spent / (depths[0][1] * state.global_step)


def _entries_at(state: TrainerState) -> list[dict[str, float]]:
    """Return what was logged at the present step."""
    return [entry for entry in state.log_history if entry["step"] == state.global_step]


def _depths(state: TrainerState) -> list[tuple[int, int]]:
    """Return `(step, depth from that step on)` in the order of the log."""
    name = f"eval_{DEPTH}"
    return [(entry["step"], entry[name]) for entry in state.log_history if name in entry]


def _last_removal(state: TrainerState) -> int | None:
    """Return the step at which layers left for the last time."""
    depths = _depths(state)
    steps = [step for (_, before), (step, after) in pairwise(depths) if after < before]
    return steps[-1] if steps else None


def _shed_to_fit(model: PreTrainedModel, outer: nn.Module) -> Callable[..., None]:
    """Return a hook that cuts a model to the layers that it is given weights of; in copies of the model it is idle."""
    own, whole = weakref.ref(model), weakref.ref(outer)

    def fit(model: PreTrainedModel, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if model is not own():
            return
        layers = layers_of(model)
        held = layers_held(layers, prefix + layers_path(model), state_dict)
        if held < len(layers):
            logger.info(f"the checkpoint holds {held} layers; the others left before it was written")
            shed_layers(model, held, whole())
        check_layers_held(held, len(layers))

    return fit
