"""A pass of a model that is kept with what it would have returned at other depths."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..support.eval_mode import RandomState
from .distillation import Lesson


@dataclass
class Pass:
    """One pass of a model, read at every depth that takes part, of which somebody else computes the losses.

    Args:
        inputs (`dict`): Keyword arguments of the model.
        is_trained (`bool`): Whether gradients may flow back through it.
        lesson (`Lesson`, *optional*): What the teacher says about it.
        outputs (`dict[int, ModelOutput or tuple]`): By depth, in the form in which the model returned that of full
            depth.
        states (`dict[int, Callable]`): Functions that return the state which the head read, by depth.
        after (`RandomState`, *optional*): The random numbers that were to come when it was over.
    """

    inputs: dict[str, Any]
    is_trained: bool
    lesson: Lesson | None = None
    outputs: dict[int, Any] = field(default_factory=dict)
    states: dict[int, Callable[[], torch.Tensor]] = field(default_factory=dict)
    after: RandomState | None = None

    def complete(self, output: Any, full: int) -> None:
        """Take the output at full depth, and give those at other depths its form.

        Args:
            output (`ModelOutput` or `tuple`): What the model returned.
            full (`int`): Its number of layers.
        """
        for depth, short in self.outputs.items():
            for name, value in ({} if isinstance(output, tuple) else self._layers_up_to(depth, output, full)).items():
                short[name] = value
            self.outputs[depth] = in_the_form_of(output, short)
        self.outputs[full] = output
        self.after = RandomState.now()

    def _layers_up_to(self, depth: int, output: ModelOutput, full: int) -> dict[str, tuple]:
        """Return what an output holds of each layer, hidden states or attentions, for a model of some of the layers."""
        kept = {
            name: value[:depth] for name, value in output.items() if isinstance(value, tuple) and len(value) == full
        }
        hidden = output.get("hidden_states")
        if hidden is not None and len(hidden) == full + 1:
            # Where the last one is what the head reads, as of most models of transformers, it may have been normed.
            read = self.states[full]().to(hidden[full].dtype)
            last = self.states[depth]().to(read.dtype) if torch.equal(hidden[full], read) else hidden[depth]
            kept["hidden_states"] = (*hidden[:depth], last)
        return kept


def is_trained(model: PreTrainedModel) -> bool:
    """Return whether a pass of a model that begins now is one of training."""
    return model.training and torch.is_grad_enabled()


def named_inputs(model: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of a model by their names."""
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def in_the_form_of(output: Any, short: ModelOutput) -> Any:
    """Return the output at another depth as the model returned its own: as a tuple, and of its precision.

    Under autocast accelerate makes float32 of what the whole model returns, and of nothing inside.
    """
    own = dict(zip(short.keys(), output, strict=False)) if isinstance(output, tuple) else output
    for name, value in short.items():
        like = own.get(name)
        if isinstance(value, torch.Tensor) and isinstance(like, torch.Tensor):
            short[name] = value.to(like.dtype)
    return short.to_tuple() if isinstance(output, tuple) else short
