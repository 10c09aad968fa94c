"""The loss that a Trainer computes, at every depth: with label smoothing, class weights, or a `compute_loss` of one's
own.

Such a loss is made outside of the model, from what it returns. So the model runs once, what it would return at the
other depths is kept, and `compute_loss` is asked again with a stand-in for the model that returns this.
"""

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from ..depth.layers import layers_of
from ..depth.metrics import IGNORED_LABEL
from ..depth.predicted_labels import predicted_labels
from ..support.eval_mode import RandomState
from .answers import ROW, Answers
from .passes import Pass, is_trained, named_inputs
from .supervision import BY_NAME, IntermediateSupervision

EQUALLY_OFTEN = "compute_loss must call the model equally often for every depth"


@dataclass
class _Call:
    """One call of `compute_loss`, and what the model did in it.

    Args:
        model (`nn.Module`): What it was given to call, maybe wrapped.
        inputs (`Any`): A batch as it was before.
        args, kwargs: The other arguments.
        start (`RandomState`): The random numbers that were to come.
        passes (`list[Pass]`): Those of the model.
    """

    model: nn.Module
    inputs: Any
    args: tuple
    kwargs: dict[str, Any]
    start: RandomState
    passes: list[Pass]

    @property
    def labels(self) -> torch.Tensor | None:
        return self.inputs.get("labels") if isinstance(self.inputs, Mapping) else None

    @property
    def num_items_in_batch(self) -> torch.Tensor | int | None:
        return self.kwargs.get("num_items_in_batch", self.args[1] if len(self.args) > 1 else None)


class LossAtEveryDepth:
    """What a Trainer has in the place of its `compute_loss` while a supervised model is trained.

    Where the loss is the one that the model itself computes from its labels, the model's own pass adds the other
    depths, and nothing is asked twice.

    Args:
        trainer (`Trainer`): Whose `compute_loss` it calls.
        supervision (`IntermediateSupervision`): Of the model that is trained.
        answers (`Answers`, *optional*): What its teacher says, where batches tell the numbers of their rows.
    """

    def __init__(self, trainer: Trainer, supervision: IntermediateSupervision, answers: Answers | None = None):
        self.trainer, self.supervision, self.answers = trainer, supervision, answers
        self.compute_loss = trainer.compute_loss
        self._before = {name: value for name, value in trainer.__dict__.items() if name == "compute_loss"}
        functools.update_wrapper(self, self.compute_loss)
        trainer.__dict__["compute_loss"] = self

    def remove(self) -> None:
        """Give the Trainer back what it had."""
        if self.trainer.__dict__.get("compute_loss") is self:
            del self.trainer.__dict__["compute_loss"]
            self.trainer.__dict__.update(self._before)

    def __call__(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the weighted sum of the losses at the depths that take part, in the form that was asked for.

        Raises:
            ValueError: `compute_loss` does not call the model as a whole, or is not the same function for every depth.
            TypeError: A teacher is to read the outputs, and `compute_loss` asks for tuples.
        """
        rows = inputs.pop(ROW, None) if isinstance(inputs, MutableMapping) else None
        lesson = None if rows is None or self.answers is None else self.answers.lesson(rows)
        with self.supervision.told(lesson):
            return self._loss(model, inputs, *args, **kwargs)

    def _loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_trained(self.supervision.model) or is_usual(self.trainer, self.compute_loss):
            return self.compute_loss(model, inputs, *args, **kwargs)
        before = _versions(inputs)
        call = _Call(model, copy.copy(inputs), args, kwargs, RandomState.now(), [])  # some take the labels out
        with self.supervision.recording(call.passes):
            returned = self.compute_loss(model, inputs, *args, **kwargs)
        self._check(call, before)
        full, chosen = len(layers_of(self.supervision.model)), self.supervision.chosen()
        others = [
            weight * self._taught(self._ask_again(call, depth), call, depth)
            for depth, weight in chosen.items()
            if depth != full
        ]
        loss, *rest = returned if isinstance(returned, tuple) else (returned,)
        total = chosen[full] * self._taught(loss, call, full) + sum(others)
        self.supervision.watch(total)
        return (total, *rest) if isinstance(returned, tuple) else total

    def _check(self, call: _Call, before: dict[str, int]) -> None:
        trained = sum(one.is_trained for one in call.passes)
        if not trained:
            raise ValueError(
                "compute_loss must call the model as a whole, as model(**inputs), and with gradients, to have a loss "
                "at every depth; it did not"
            )
        if self.supervision.distillation is not None and trained != 1:
            raise ValueError(f"a teacher needs one pass of the model in compute_loss to add to; got {trained}")
        if changed := [name for name, version in before.items() if call.inputs[name]._version != version]:
            raise ValueError(
                "compute_loss must not change its inputs in place, since it is asked again for other depths; it "
                f"changed {', '.join(changed)}: clone() them first"
            )

    def _ask_again(self, call: _Call, depth: int) -> torch.Tensor:
        """Return what `compute_loss` says of another depth."""
        call.start.restore()
        left = iter(call.passes)
        view = stand_in(call.model, self.supervision.model, functools.partial(self._answer, depth, left))
        with self.supervision.replaying():
            returned = self.compute_loss(view, copy.copy(call.inputs), *call.args, **call.kwargs)
        if next(left, None) is not None:
            raise ValueError(f"{EQUALLY_OFTEN}; got fewer calls at depth {depth}")
        return returned[0] if isinstance(returned, tuple) else returned

    def _answer(self, depth: int, left: Iterator[Pass], *args: Any, **kwargs: Any) -> Any:
        """Return what the model would return at a depth, instead of running it."""
        seen = next(left, None)
        if seen is None:
            raise ValueError(f"{EQUALLY_OFTEN}; got more calls at depth {depth}")
        for name, value in named_inputs(self.supervision.model, args, kwargs).items():
            known = seen.inputs.get(name)
            if isinstance(value, torch.Tensor) and isinstance(known, torch.Tensor) and not _are_same(value, known):
                raise ValueError(
                    f"compute_loss must give the model the same inputs for every depth; {name} changed at depth {depth}"
                )
        if seen.after is not None:
            seen.after.restore()
        return copy.copy(seen.outputs[depth])

    def _taught(self, loss: torch.Tensor, call: _Call, depth: int) -> torch.Tensor:
        """Return the loss of a depth with what the teacher adds."""
        distillation = self.supervision.distillation
        if distillation is None:
            return loss
        seen = next(one for one in call.passes if one.is_trained)
        output, lesson = seen.outputs[depth], seen.lesson
        if isinstance(output, tuple) or lesson is None:
            raise TypeError(BY_NAME)
        inputs = seen.inputs if call.labels is None else {"labels": call.labels, **seen.inputs}
        named, problem_type = {**output, "loss": loss}, self.supervision.problem_type()
        return distillation(named, seen.states[depth](), lesson, inputs, problem_type, self._share(call))

    def _share(self, call: _Call) -> torch.Tensor | float:
        """Return which share of its step a batch is, if the Trainer leaves it to the loss to be one.

        The Trainer divides a loss by the number of batches of a step, unless it is made for the whole step; then it
        multiplies it by the number of processes, whose gradients are averaged.
        """
        trainer, items = self.trainer, call.num_items_in_batch
        counts = trainer.model_accepts_loss_kwargs or trainer.compute_loss_func is not None
        is_scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
        if is_scaled is None:
            is_scaled = trainer.compute_loss_func is not None or (counts and items is not None)
        if not is_scaled:
            return 1.0
        if items is None or call.labels is None:
            return 1.0 / trainer.current_gradient_accumulation_steps
        processes = trainer.accelerator.num_processes if trainer.args.average_tokens_across_devices and counts else 1
        predicted = predicted_labels(self.supervision.model, call.labels)
        return processes * (predicted != IGNORED_LABEL).sum() / items


def is_usual(trainer: Trainer, compute_loss: Callable) -> bool:
    """Return whether the loss of a Trainer is the one that the model computes."""
    is_own = getattr(compute_loss, "__func__", compute_loss) is not Trainer.compute_loss
    return not is_own and trainer.label_smoother is None and trainer.compute_loss_func is None


def ending_with(trainer: Trainer, end: Callable[[], None]) -> None:
    """Have something done whenever a training of a Trainer is over, also by an error or Ctrl-C."""
    train = trainer.train

    @functools.wraps(train)
    def train_and_end(*args: Any, **kwargs: Any) -> Any:
        try:
            return train(*args, **kwargs)
        finally:
            end()

    trainer.__dict__["train"] = train_and_end


def stand_in(model: nn.Module, inner: PreTrainedModel, answer: Callable) -> Any:
    """Return a view of a model, and of what is wrapped around it, that answers by itself; no layer runs.

    Args:
        model (`nn.Module`): `inner`, or what data parallelism, `torch.compile` and PEFT made of it.
        inner (`PreTrainedModel`): The model inside.
        answer (`Callable`): Called in the place of each of them.
    """
    path = next((path for path, module in model.named_modules() if module is inner), None)
    if path is None:
        raise ValueError(
            f"compute_loss must be given the supervised {type(inner).__name__}; got {type(model).__name__}"
        )
    return _view(model, path.split(".") if path else [], answer)


def _view(module: nn.Module, names: list[str], answer: Callable) -> Any:
    view = type(module).__new__(type(module))  # what distributes a model would begin to do so anew in a copy
    view.__dict__.update(module.__dict__)
    for name in ("_compiled_call_impl", "_original_forward"):
        view.__dict__.pop(name, None)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    view.__dict__.update({name: OrderedDict() for name in hooks}, forward=answer)
    view.__dict__["_modules"] = dict(module._modules)
    if names:
        child: Any = module._modules[names[0]]
        view.__dict__["_modules"][names[0]] = _view(child, names[1:], answer)
    return view


def _are_same(value: torch.Tensor, known: torch.Tensor) -> bool:
    return value is known or (value.shape == known.shape and torch.equal(value, known))


def _versions(inputs: Any) -> dict[str, int]:
    """Return how often each tensor of a batch was changed in place."""
    items = inputs.items() if isinstance(inputs, Mapping) else ()
    tensors = {name: value for name, value in items if isinstance(value, torch.Tensor)}
    return {name: value._version for name, value in tensors.items() if not value.is_inference()}  # those count nothing
