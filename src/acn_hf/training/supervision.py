"""Intermediate supervision: the loss through the shared head at several depths, from labels and from a teacher.

It is the strongest rival of auto-compressing connections, and combines with them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from ..depth.layers import is_acn, layers_of
from ..support.wrappers import unwrap, unwrap_parallel
from .depth_reader import reader_of
from .distillation import DistillationLoss, Lesson
from .labelled_tokens import labelled_tokens
from .passes import Pass, is_trained, named_inputs

Weights = str | Sequence[float]
BY_NAME = "distillation reads the outputs by their names: return_dict must be True; got False"
KINDS = "weights must be 'linear', 'uniform', 'full' or a list of numbers"


def depth_weights(weights: Weights, num_layers: int) -> tuple[float, ...]:
    """Return the weight of the loss at every depth, `0..L`.

    Args:
        weights (`"linear"`, `"uniform"`, `"full"` or sequence of `float`): `linear` gives depth `k` the weight
            `2 * k / (L * (L + 1))`, `uniform` gives each depth from 1 on `1 / L`, `full` gives full depth 1; all add up
            to 1. A sequence holds one number for each of the `L + 1` depths, 0 included, and is taken as it is.
        num_layers (`int`): `L`.

    Raises:
        ValueError: The name is not known, or the numbers are not `L + 1` finite ones >= 0 of which one is positive.

    Source: arXiv 2506.09714, appendix H (`linear`).
    """
    if isinstance(weights, str):
        if num_layers == 0:  # the loss of the embeddings alone is all there is
            return (1.0,)
        if weights == "linear":
            return tuple(2 * depth / (num_layers * (num_layers + 1)) for depth in range(num_layers + 1))
        if weights == "uniform":
            return (0.0, *[1 / num_layers] * num_layers)
        if weights == "full":
            return (*[0.0] * num_layers, 1.0)
        raise ValueError(f"{KINDS}; got {weights!r}")
    try:
        numbers = torch.as_tensor(weights, dtype=torch.float64)
    except (TypeError, ValueError):
        numbers = torch.empty(())
    if numbers.ndim != 1:
        raise ValueError(f"{KINDS}; got {weights!r}")
    if numbers.shape != (num_layers + 1,):
        raise ValueError(
            f"weights must hold one number for each of the {num_layers + 1} depths of this model, 0 included; "
            f"got {len(weights)}: {list(weights)}"
        )
    if not torch.isfinite(numbers).all() or (numbers < 0).any() or numbers.sum() == 0:
        raise ValueError(f"weights must be finite numbers >= 0, at least one of them positive; got {list(weights)}")
    return tuple(numbers.tolist())


class IntermediateSupervision:
    """Adds the losses at other depths to the loss that a model in train mode returns.

    Evaluation, and passes without labels, are left as they are. The layers run once; the head runs once for each depth
    that takes part.

    Args:
        model (`PreTrainedModel`): With a head and one stack of layers, an ACN or any other, or what wraps one.
        weights (`"linear"`, `"uniform"`, `"full"` or sequence of `float`, *optional*, defaults to `"linear"`):
            See [`depth_weights`].
        num_depths (`int`, *optional*):
            Number of depths beside full depth that take part in a step, for heads that are expensive. They rotate:
            every depth has its turn, and its weight is scaled up so that the mean over a turn is the whole sum.
            Defaults to all.
        distillation (`DistillationLoss`, *optional*): What a teacher adds at every depth that takes part.

    Raises:
        DepthError: `model` has no one stack of layers.
        TypeError: `model` is not one of transformers, or is an ACN without a head.
        ValueError: `weights` or `num_depths` is out of range, the model is supervised already or is its own teacher, or
            its config lets layers be skipped at random (`layerdrop`).
    """

    def __init__(
        self,
        model: Any,
        weights: Weights = "linear",
        num_depths: int | None = None,
        distillation: DistillationLoss | None = None,
    ):
        self.model: PreTrainedModel = unwrap(model)
        if is_acn(self.model) and self.model.base_model is self.model:
            raise TypeError(f"a loss needs a model with a head, and {type(self.model).__name__} has none")
        if num_depths is not None and (type(num_depths) is not int or num_depths < 1):
            raise ValueError(f"num_depths must be a whole number >= 1; got {num_depths!r}")
        depth_weights(weights, len(layers_of(self.model)))
        hooks = self.model._forward_hooks.values()
        if any(isinstance(getattr(hook, "__self__", None), IntermediateSupervision) for hook in hooks):
            raise ValueError(
                f"a model is supervised once, with one set of weights; {type(self.model).__name__} is so, maybe by a "
                "callback whose training was interrupted: callback.remove()"
            )
        if distillation is not None and unwrap_parallel(distillation.teacher) is self.model:
            raise ValueError("the teacher must be another model than the student; give it a copy, copy.deepcopy(model)")
        self.weights = weights
        self.num_depths = num_depths
        self.distillation = distillation
        self.turn = 0
        """Which depths take part; set it to the number of the optimiser step."""
        self.num_passes = 0
        """How many losses were made of several depths so far."""
        self.num_used = 0
        """Through how many of them a gradient came back: these were trained with."""
        self._inputs: dict[str, Any] | None = None
        self._recorded: list[Pass] | None = None
        self._told: Lesson | None = None
        self._present: Pass | None = None
        self._is_replayed = False
        self._others: torch.Tensor | None = None
        self._lesson: tuple[Lesson, torch.Tensor, dict[str, Any]] | None = None
        self._reader = reader_of(self.model, self._is_supervised_pass, self._add_depths)
        self._handles = [
            self.model.register_forward_pre_hook(self._remember_inputs, with_kwargs=True),
            self.model.register_forward_hook(self._add_losses, always_call=True),
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        self._reader.remove()
        for handle in self._handles:
            handle.remove()

    def chosen(self) -> dict[int, float]:
        """Return the depths that take part in this turn, with their weights; full depth is always there."""
        num_layers = len(layers_of(self.model))
        weights = self._present_weights(num_layers)
        others = [depth for depth in range(num_layers) if weights[depth] > 0]
        chosen = {num_layers: weights[num_layers]}
        number = len(others) if self.num_depths is None else min(self.num_depths, len(others))
        for place in range(number):
            depth = others[(self.turn * number + place) % len(others)]
            chosen[depth] = weights[depth] * len(others) / number
        return chosen

    def _present_weights(self, num_layers: int) -> tuple[float, ...]:
        """Return the weights of the depths that are left; full depth takes over those of layers that left."""
        if isinstance(self.weights, str):
            return depth_weights(self.weights, num_layers)
        numbers = depth_weights(self.weights, len(self.weights) - 1)
        return (*numbers[:num_layers], sum(numbers[num_layers:]))

    @contextmanager
    def recording(self, passes: list[Pass]) -> Iterator[None]:
        """Keep what the passes of this block return at every depth, and leave their losses alone."""
        self._recorded = passes
        try:
            yield
        finally:
            self._recorded = None

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Let the model itself not run in this block: what recorded passes returned is read in its place."""
        self._is_replayed = True
        try:
            yield
        finally:
            self._is_replayed = False

    @contextmanager
    def told(self, lesson: Lesson | None) -> Iterator[None]:
        """Do not ask the teacher about the passes of this block, if it is known what it says."""
        self._told = lesson
        try:
            yield
        finally:
            self._told = None

    def watch(self, loss: torch.Tensor) -> None:
        """Notice it when a gradient comes back through a loss of several depths."""
        self.num_passes += 1
        _when_differentiated(loss, self._note_gradient)

    def _note_gradient(self, gradient: torch.Tensor | None) -> None:
        self.num_used += gradient is not None

    def _remember_inputs(self, model: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> None:
        self._check_not_replayed()
        if self._recorded is not None or is_trained(model):
            self._inputs = named_inputs(model, args, kwargs)

    def _is_supervised_pass(self) -> bool:
        self._check_not_replayed()
        return self._inputs is not None

    def _check_not_replayed(self) -> None:
        if self._is_replayed:
            raise ValueError(
                "compute_loss must call the model that it is given, its argument model, as a whole, to be the loss of "
                f"another depth too; it called this {type(self.model).__name__} itself, or a part of it"
            )

    @torch.compiler.disable  # a compiled model would be compiled anew with the view of each depth
    def _add_depths(self, state: torch.Tensor) -> None:
        """Add up the losses at all depths but the last, whose head is still to run; `state` is what it will read."""
        if self._inputs is None:
            return
        inputs, self._inputs = self._inputs, None
        if self._recorded is not None:
            self._present = self._record(state, inputs)
            return
        if self.distillation is not None:
            self._lesson = (self._told or self._ask(self.distillation, inputs, state), state, inputs)
        full, chosen = len(layers_of(self.model)), self.chosen()
        for depth, weight in chosen.items():
            if depth == full and len(chosen) > 1:  # alone, it shows whether this pass has a loss
                continue
            if depth == full:  # whose loss the head itself is going to compute, and the teacher to add to
                loss, weight = self._reader.read(depth, inputs)[0].get("loss"), 0.0
            else:
                loss = self._loss_at(depth, inputs)
            if loss is not None:
                self._others = weight * loss if self._others is None else self._others + weight * loss

    def _record(self, state: torch.Tensor, inputs: dict[str, Any]) -> Pass:
        """Read every depth but the last, whose head is still to run."""
        seen = Pass(inputs, torch.is_grad_enabled())
        if self.distillation is not None and seen.is_trained:
            seen.lesson = self._told or self._ask(self.distillation, inputs, state)
        full = len(layers_of(self.model))
        for depth in self.chosen():
            if depth == full:
                seen.states[full] = lambda: state
            else:
                seen.outputs[depth], seen.states[depth] = self._reader.read(depth, inputs)
        return seen

    def _ask(self, distillation: DistillationLoss, inputs: dict[str, Any], state: torch.Tensor) -> Lesson:
        """Return what the teacher says about a pass, of the tokens that the student's head is shown."""
        labelled = labelled_tokens(self.model)
        with nullcontext() if labelled is None else labelled.also_in(distillation.teacher):
            return distillation.ask(inputs, state.device)

    def _loss_at(self, depth: int, inputs: dict[str, Any]) -> torch.Tensor | None:
        """Return the loss at a depth, if there are labels."""
        output, state = self._reader.read(depth, inputs)
        loss = output.get("loss")
        if loss is None or self.distillation is None or self._lesson is None:
            return loss
        return self.distillation(output, state(), self._lesson[0], inputs, self.problem_type())

    def problem_type(self) -> str | None:
        """Return what the config says about the labels, or what upstream has found out when it computed a loss."""
        return getattr(self.model.config, "problem_type", None)

    def _add_losses(self, model: PreTrainedModel, args: tuple, output: Any) -> Any:
        others, self._others, self._inputs = self._others, None, None
        taught, self._lesson = self._lesson, None
        seen, self._present = self._present, None
        if output is None:
            return None
        if seen is not None and self._recorded is not None:
            seen.complete(output, len(layers_of(model)))
            self._recorded.append(seen)
        if others is None:
            return None
        own = self.chosen()[len(layers_of(self.model))]
        if taught is not None and self.distillation is not None:
            if isinstance(output, tuple):
                raise TypeError(BY_NAME)
            lesson, state, inputs = taught
            output["loss"] = self.distillation(output, state, lesson, inputs, self.problem_type())
        loss = own * (output[0] if isinstance(output, tuple) else output["loss"]) + others
        self.watch(loss)
        if isinstance(output, tuple):
            return (loss, *output[1:])
        output["loss"] = loss
        return output


@torch.compiler.disable
def _when_differentiated(loss: torch.Tensor, note: Callable[[torch.Tensor | None], None]) -> None:
    if loss.requires_grad:
        loss.register_hook(note)


@contextmanager
def intermediate_supervision(
    model: Any,
    weights: Weights = "linear",
    *,
    num_depths: int | None = None,
    distillation: DistillationLoss | None = None,
) -> Iterator[IntermediateSupervision]:
    """Train with the loss through the shared head at several depths, for as long as the block lasts.

    With [`~transformers.Trainer`] use [`IntermediateSupervisionCallback`] instead.

    Args:
        model (`PreTrainedModel`): With a head and one stack of layers, an ACN or any other.
        weights (`"linear"`, `"uniform"`, `"full"` or sequence of `float`, *optional*, defaults to `"linear"`):
            Weight of each depth's loss: `2 * k / (L * (L + 1))`, `1 / L`, that of full depth alone, or `L + 1` given
            numbers.
        num_depths (`int`, *optional*): Number of depths beside full depth in a pass; they rotate. Defaults to all.
        distillation (`DistillationLoss`, *optional*): What a teacher adds at every depth that takes part.

    Returns:
        Context manager of an [`IntermediateSupervision`], whose `turn` chooses the depths of a rotating subset.

    Raises:
        DepthError: `model` has no one stack of layers.
        TypeError: `model` is not one of transformers, or is an ACN without a head.
        ValueError: `weights` or `num_depths` is out of range, or the model is supervised already.

    Source: arXiv 2506.09714, appendix H.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, intermediate_supervision

    >>> model = AcnBertForSequenceClassification(AcnBertConfig(num_hidden_layers=4, hidden_size=48)).train()
    >>> with intermediate_supervision(model, "uniform"):
    ...     model(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([0])).loss.backward()

    ```
    """
    supervision = IntermediateSupervision(model, weights, num_depths, distillation)
    try:
        yield supervision
    finally:
        supervision.remove()
