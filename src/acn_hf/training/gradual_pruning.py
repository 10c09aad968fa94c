"""Pruning while a network is fine-tuned: weights go step by step, and those that are left learn to do without."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..smaller.pruning import check_sparsity, count_zeros, prunable_weights, warn_of_empty, zero_lowest
from ..support.wrappers import unwrap

METHODS = ("magnitude", "movement")
SHAPES: dict[str, Callable[[float], float]] = {
    "cubic": lambda progress: 1 - (1 - progress) ** 3,
    "linear": lambda progress: progress,
}
SCORES = "movement_scores"
"""Under this key the first group of the optimiser holds the scores, so that its checkpoints hold them too."""


class PruningCallback(TrainerCallback):
    """Prunes a network while a [`~transformers.Trainer`] fine-tunes it.

    The share of zeros among the weights grows from `start` to `end`; with the `cubic` shape it is
    `sparsity * (1 - (1 - p)^3)` at the part `p` of this way. What is zero stays exactly zero through every step of the
    optimiser, momentum and weight decay included, and so do the zeros that the model has when training begins: of a
    model that [`prune_model`] returned they are kept. Checkpoints are ordinary ones with zeros in them.

    Which weights go next: by `magnitude` those closest to zero, by `movement` those with the lowest score
    `S = -sum of w * dL/dw` over all steps so far, that is those that were pushed towards zero most.

    The zeros of a checkpoint say which weights were pruned, and the scores lie in its optimiser state: a run that is
    resumed goes on with the same weights. The log holds the present `sparsity` with every loss of training.

    Args:
        sparsity (`float`): Share of the weights that are zero in the end, in [0, 1).
        method (`"magnitude"` or `"movement"`, *optional*, defaults to `"magnitude"`): Which weights go.
        start (`float`, *optional*, defaults to 0.1): Share of the training steps, in [0, 1], after which weights go.
        end (`float`, *optional*, defaults to 0.7): Share of the training steps, in [start, 1], after which no more go.
        shape (`"cubic"` or `"linear"`, *optional*, defaults to `"cubic"`): How the sparsity grows.
        every (`int`, *optional*, defaults to 1): Let weights go every so many steps; to rank them costs time.
        modules (sequence of `str`, *optional*): See [`prune_model`].

    Raises:
        ValueError: An argument is out of its range; when training begins, see [`prune_model`], or
            `load_best_model_at_end` is set although the best checkpoint may not be pruned yet, DeepSpeed holds the
            gradients, movement pruning in float16 has no `max_grad_norm`, without which the gradients stay scaled, it
            is to rank frozen weights, or a checkpoint to go on from holds no scores.
        DepthError: When training begins, the model has no stack of layers, or several.
        TypeError: When training begins, the model is not one of transformers, its weights are sharded over processes,
            it holds adapters, or it is quantised.

    Source: Zhu & Gupta 2017, arXiv 1710.01878 (the cubic schedule); Sanh et al. 2020, arXiv 2005.07683, equations 2 to
    4 (movement); both methods prune an ACN in arXiv 2506.09714.

    Differs from the paper: in Sanh et al. the scores are parameters that an optimiser of their own trains with the same
    gradient, `dL/dS = dL/dw * w`, by the straight-through estimator; here they are its plain sum, which is that of SGD
    with a constant rate. There a pruned weight keeps its value and may come back; here it is zero for good, so that
    the model is at every step what its checkpoint says. The gradients are those that the optimiser sees, after the sum
    over processes and after clipping.
    """

    def __init__(
        self,
        sparsity: float,
        *,
        method: str = "magnitude",
        start: float = 0.1,
        end: float = 0.7,
        shape: str = "cubic",
        every: int = 1,
        modules: Sequence[str] | None = None,
    ):
        check_sparsity(sparsity)
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}; got {shape!r}")
        if not 0 <= start <= end <= 1:
            raise ValueError(f"start and end must be shares of the steps, 0 <= start <= end <= 1; got {start}, {end}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of steps >= 1; got {every!r}")
        self.sparsity = sparsity
        self.method = method
        self.start = start
        self.end = end
        self.shape = shape
        self.every = every
        self.modules = modules
        self._names: list[str] = []
        self._zeros: dict[str, torch.Tensor] = {}
        self._empty: list[str] = []

    def attach(self, trainer: Trainer) -> Self:
        """Add this callback to a Trainer, before those that write its log to TensorBoard and the like.

        A callback given to `Trainer(callbacks=[...])` writes into `trainer.state.log_history` alone.
        """
        if self not in trainer.callback_handler.callbacks:
            trainer.callback_handler.callbacks.insert(0, self)
        return self

    def sparsity_at(self, step: int, max_steps: int) -> float:
        """Return the share of weights that are to be zero after so many steps.

        Args:
            step (`int`): Number of steps of the optimiser so far, in `[0, max_steps]`.
            max_steps (`int`): Steps of the whole run.
        """
        first, last = self.start * max_steps, self.end * max_steps
        if step < first or step == 0:
            return 0.0
        return self.sparsity * SHAPES[self.shape](1.0 if step >= last else (step - first) / (last - first))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        weights = prunable_weights(kwargs["model"], self.modules)
        if args.load_best_model_at_end and self.end > 0:
            raise ValueError(
                "load_best_model_at_end must be False while weights go: the best checkpoint may be one before the "
                "last of them went; got True"
            )
        if args.deepspeed is not None:
            raise ValueError("gradients must lie at the parameters, and DeepSpeed keeps them; got deepspeed")
        self._names = list(weights)
        self._empty = warn_of_empty(weights, ())
        if self.method == "movement":
            self._check_scores(args, state, kwargs["optimizer"], weights)

    def _check_scores(
        self, args: TrainingArguments, state: TrainerState, optimizer: Any, weights: dict[str, nn.Parameter]
    ) -> None:
        frozen = [name for name, weight in weights.items() if not weight.requires_grad]
        if frozen:
            raise ValueError(f"movement pruning ranks weights that are trained; got {frozen[0]}, which is frozen")
        if args.fp16 and args.max_grad_norm <= 0:
            raise ValueError(
                "movement pruning in float16 needs max_grad_norm > 0, since a Trainer takes the scale out of the "
                f"gradients when it clips them; got {args.max_grad_norm}"
            )
        if state.global_step == 0:
            zeros = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
            optimizer.param_groups[0][SCORES] = zeros
        held = optimizer.param_groups[0].get(SCORES, {})
        if weights.keys() - held.keys():
            raise ValueError(
                "a checkpoint that movement pruning goes on from must hold a score for each of its weights; the one of "
                f"step {state.global_step} holds scores of {len(held)} matrices and the model has {len(weights)}"
            )

    @torch.no_grad()
    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add to the scores, and keep the gradients of pruned weights out of the optimiser's state."""
        weights = self._weights(kwargs["model"])
        if self.method == "movement":
            self._add_to_scores(weights, kwargs["optimizer"], args)
        self._zeros = {name: weight == 0 for name, weight in weights.items()}
        for name, weight in weights.items():
            if weight.grad is not None:
                weight.grad.masked_fill_(self._zeros[name], 0)

    def _weights(self, model: Any) -> dict[str, nn.Parameter]:
        """Return the weights that are pruned; layers that left have taken theirs along."""
        parameters = dict(unwrap(model).named_parameters())
        return {name: parameters[name] for name in self._names if name in parameters}

    @staticmethod
    def _add_to_scores(weights: dict[str, nn.Parameter], optimizer: Any, args: TrainingArguments) -> None:
        held = optimizer.param_groups[0][SCORES]
        steps = {name: _movement(weight) for name, weight in weights.items()}
        # A step whose gradients overflow is skipped by the scaler of float16 as a whole.
        if not args.fp16 or all(bool(torch.isfinite(step).all()) for step in steps.values()):
            for name, step in steps.items():
                held[name] = held[name].to(step.device).add_(step)
        for name in held.keys() - weights.keys():  # of layers that left
            del held[name]

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the zeros back that the optimiser moved, and let the next weights go."""
        weights = self._weights(kwargs["model"])
        for name, weight in weights.items():
            weight.masked_fill_(self._zeros[name], 0)
        self._zeros = {}
        step = state.global_step + 1  # the Trainer counts this step after the event
        wanted = self.sparsity_at(step, state.max_steps)
        if wanted > 0 and self._is_due(step, state.max_steps) and _sparsity(weights) < wanted:
            zero_lowest(weights, self._scores(weights, kwargs["optimizer"]), wanted)
            self._empty = warn_of_empty(weights, self._empty)

    def _is_due(self, step: int, max_steps: int) -> bool:
        since = step - max(1, math.ceil(self.start * max_steps))
        return since % self.every == 0 or step >= self.end * max_steps

    def _scores(self, weights: dict[str, nn.Parameter], optimizer: Any) -> dict[str, torch.Tensor]:
        if self.method == "magnitude":
            return {name: weight.abs() for name, weight in weights.items()}
        held: dict[str, torch.Tensor] = optimizer.param_groups[0][SCORES]
        return held

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is not None and "loss" in logs:
            logs["sparsity"] = _sparsity(self._weights(kwargs["model"]))
            state.log_history[-1]["sparsity"] = logs["sparsity"]


def _movement(weight: nn.Parameter) -> torch.Tensor:
    """Return how far one gradient pushes weights away from zero; held in float32 whatever the weights are in."""
    if weight.grad is None:  # where no example of this step reached the layer
        return torch.zeros_like(weight, dtype=torch.float32)
    return -weight.float() * weight.grad.float()


def _sparsity(weights: dict[str, nn.Parameter]) -> float:
    number = sum(weight.numel() for weight in weights.values())
    return sum(map(count_zeros, weights.values())) / number if number else 0.0
