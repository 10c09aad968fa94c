"""The outputs of a model at other depths, read inside of its own pass: between its body and its head.

There they run under the same autocast, and under the same hooks of distributed training, as the head itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..depth.layers import is_acn
from ..depth.reading import Recording, body
from ..modeling.depth import head_output
from ..modeling.upstream import maybe_install_capturing_hooks
from .labelled_tokens import labelled_tokens


class DepthReader(ABC):
    """Reads one pass of a model at other depths.

    Args:
        model (`PreTrainedModel`): Gets hooks, which `remove` takes away.
        wanted (`Callable`): Returns whether the pass that begins is to be read.
        ready (`Callable`): Called when the layers have run, with the state that the head is going to read.
    """

    def __init__(self, model: PreTrainedModel, wanted: Callable[[], bool], ready: Callable[[torch.Tensor], None]):
        self.model, self.wanted, self.ready = model, wanted, ready
        self.handles: list[Any] = []

    def remove(self) -> None:
        """Leave the model as it was."""
        for handle in self.handles:
            handle.remove()

    @abstractmethod
    def read(self, depth: int, inputs: dict[str, Any]) -> tuple[ModelOutput, Callable[[], torch.Tensor]]:
        """Return the output at a depth, and a function that returns the state which the head read there."""


class AcnReader(DepthReader):
    """Asks an ACN for its depth states, which it knows how to record."""

    def __init__(self, model: PreTrainedModel, wanted: Callable[[], bool], ready: Callable[[torch.Tensor], None]):
        super().__init__(model, wanted, ready)
        self._states: Any = ()
        maybe_install_capturing_hooks(model.base_model)
        self.handles = [
            model.base_model.register_forward_pre_hook(self._ask, with_kwargs=True),
            model.base_model.register_forward_hook(self._take, with_kwargs=True),
        ]

    def _ask(self, base: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not self.wanted():
            return None
        self._are_asked_for = bool(kwargs.get("output_hidden_states", base.config.output_hidden_states))
        return args, {**kwargs, "output_hidden_states": True}

    def _take(self, base: PreTrainedModel, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        if not self.wanted():
            return None
        self._states = output.hidden_states
        self.ready(output.last_hidden_state)
        self._states = ()
        if not self._are_asked_for:
            output["hidden_states"] = None
        return output

    def read(self, depth: int, inputs: dict[str, Any]) -> tuple[ModelOutput, Callable[[], torch.Tensor]]:
        state, readout = self._states[depth], self.model.base_model.readout
        labelled = labelled_tokens(self.model)
        shown = None if labelled is None else labelled.of
        output = head_output(self.model, state, {**inputs, "output_hidden_states": False}, shown)
        return output, lambda: readout(state).last_hidden_state


class StackReader(DepthReader):
    """Listens to the layers of any other model."""

    def __init__(self, model: PreTrainedModel, wanted: Callable[[], bool], ready: Callable[[torch.Tensor], None]):
        super().__init__(model, wanted, ready)
        self.recording = Recording(model)
        skipping = [name for name, value in vars(self.recording.stack.config).items() if "layerdrop" in name and value]
        if skipping:
            raise ValueError(
                f"every layer must run in every step to be supervised: config.{skipping[0]} must be 0; got "
                f"{getattr(self.recording.stack.config, skipping[0])}"
            )
        inside = body(model, self.recording.stack)
        self.handles = [
            *self.recording.listen(),
            inside.register_forward_pre_hook(self._begin),
            inside.register_forward_hook(self._end),
        ]

    def _begin(self, inside: Any, args: tuple) -> None:
        self.recording.forget()
        self.recording.is_listening = self.wanted()

    def _end(self, inside: Any, args: tuple, output: Any) -> None:
        if not self.recording.is_listening:
            return
        self.recording.is_listening = False
        self.ready(output[0])
        self.recording.forget()

    def read(self, depth: int, inputs: dict[str, Any]) -> tuple[ModelOutput, Callable[[], torch.Tensor]]:
        seen: list[torch.Tensor] = []
        labelled = labelled_tokens(self.model)

        def watch(body_output: Any) -> Any:
            seen.append(body_output[0])
            return None if labelled is None else labelled.shown(body_output)

        return self.recording.read(depth, inputs, watch), lambda: seen[0]


def reader_of(model: PreTrainedModel, wanted: Callable[[], bool], ready: Callable[[torch.Tensor], None]) -> DepthReader:
    """Return what reads a model at other depths inside of its own pass.

    Raises:
        DepthError: The model has no stack of layers.
    """
    return (AcnReader if is_acn(model) else StackReader)(model, wanted, ready)
