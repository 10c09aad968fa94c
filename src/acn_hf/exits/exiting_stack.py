"""One pass through the layers of any other model in which examples leave."""

import contextlib
import inspect
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..depth.layers import is_acn
from ..depth.reading import Recording, standing_for
from ..depth.self_check import check_once
from ..depth.stack import Stack, find_stack
from ..modeling.depth import DepthError, output_logits
from .departures import Departures, Tokens
from .policies import ExitPolicy
from .rows import Path, of_examples, shapes_in

_shared: weakref.WeakKeyDictionary[PreTrainedModel, frozenset[Path]] = weakref.WeakKeyDictionary()
"""Of each model that was asked, where tensors stand that have no row for each example."""
_reads_tokens_alone: weakref.WeakKeyDictionary[PreTrainedModel, bool] = weakref.WeakKeyDictionary()
"""Of each model that was asked, whether its head reads every token by itself."""


def lowest_depth(model: PreTrainedModel, policy: ExitPolicy, inputs: dict[str, Any]) -> int:
    """Return the lowest depth that a model has.

    Raises:
        DepthError: The policy names a depth below it, or the layers of the model are not a plain stack.
    """
    lowest = 0 if is_acn(model) else check_once(model, inputs)
    if policy.depths is not None and policy.depths[0] < lowest:
        raise DepthError(f"depths must be >= {lowest} for {type(model).__name__}; got {policy.depths[0]}")
    return lowest


class ExitingStack:
    """The layers of a view, for one pass; each runs on the examples that need it.

    Args:
        model (`PreTrainedModel`): Any model but an ACN, in eval mode; its head is read at every depth at which examples
            may leave.
        policy (`ExitPolicy`): When an example leaves.
        counted (`torch.BoolTensor` of shape `(batch_size, sequence_length)`, *optional*):
            For a head that predicts tokens: those that decide.
        inputs (`Mapping`): What the model takes, without labels.
        known (`tuple[Stack, int]`, *optional*): Its stack and its lowest depth, if they were found before.

    Raises:
        DepthError: The layers of the model are not a plain stack, or the policy names a depth that it does not have.
        ValueError: There is no example.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        policy: ExitPolicy,
        counted: torch.Tensor | None,
        inputs: Mapping[str, Any],
        known: tuple[Stack, int] | None = None,
    ):
        stack, lowest = known or (find_stack(model), lowest_depth(model, policy, dict(inputs)))
        self.model, self.inputs = model, dict(inputs)
        self.all_inputs = self.inputs
        self.recording = Recording(model, stack)
        self.departures = Departures(policy, self._logits, counted, lowest)
        self.batch_size = 0
        self._before: dict[str, list[Any]] = {}
        self._read: Callable[[Any, dict[str, Any]], Any] | None = None
        self._known: Collection[Path] = ()
        """Where the first layer was given tensors."""
        self._output: Any = None
        """What the last layer returned that ran."""
        self._narrowed: dict[int, tuple[Any, Any]] = {}
        """Of what layers are given, what belongs to the examples that are here; by the `id` of the whole."""

    def answer(self, inputs: Mapping[str, Any]) -> Any:
        """Return the output of the model, of each example at the depth at which it left."""
        layers = [standing_for(layer, partial(self._step, index)) for index, layer in enumerate(self.recording.layers)]
        return self.recording.run_through(layers, dict(inputs))

    def _step(self, index: int, /, *args: Any, **kwargs: Any) -> Any:
        """Do what a layer of the model does, for the examples that need it."""
        departures, layer = self.departures, self.recording.layers[index]
        states, args, kwargs = _states_of(layer, args, kwargs)
        if index == 0:
            self._begin(states)
            self._find_shared(args, kwargs)
        elif not len(departures.examples):  # nobody is here any more
            return self._returned(index, states)
        everybody = len(departures.examples)
        stays = departures.visit(index, states)
        if stays is not None and len(stays) < everybody:
            if not len(stays):
                return self._returned(index, states, layer, args, kwargs)
            states = of_examples(states, stays, everybody)
            self._narrow()
        options = [self._here(value, place) for place, value in enumerate(args, start=1)]
        named = {name: self._here(value, name) for name, value in kwargs.items()}
        self._output = layer(states, *options, **named)
        self.recording.keep_state(index, self._output)
        return self._returned(index, _first(self._output))

    def _begin(self, states: torch.Tensor) -> None:
        main = self.inputs.get(self.model.main_input_name)
        self.batch_size = len(self.inputs["inputs_embeds"] if main is None else main)
        if not self.batch_size:
            raise ValueError("a batch must hold at least one example; got none")
        if len(states) != self.batch_size:
            raise self._refusal("states", states.shape, (self.batch_size, "..."))
        self.departures.begin(states, len(self.recording.layers))

    def _returned(self, index: int, states: torch.Tensor, *first_layer: Any) -> Any:
        """Return the states as the layer would: those of all examples, if it is the last one."""
        if index == len(self.recording.layers) - 1:
            everybody = len(self.departures.examples)
            states = self.departures.finish(states) if everybody else self.departures.states
        if self._output is None and first_layer:  # all left before a layer ran: find out what it returns
            layer, args, kwargs = first_layer
            one = torch.zeros(1, dtype=torch.long, device=states.device)
            self._output = layer(
                of_examples(states, one, self.batch_size),
                *(self._some(value, place, one) for place, value in enumerate(args, start=1)),
                **{name: self._some(value, name, one) for name, value in kwargs.items()},
            )
        return _with_first(self._output, states)

    def _here(self, value: Any, name: int | str) -> Any:
        """Return what belongs to the examples that are here of what a layer is given."""
        examples = self.departures.examples
        if len(examples) == self.batch_size:
            return value
        if id(value) not in self._narrowed:
            # The whole is kept too, so that no other value takes its id.
            self._narrowed[id(value)] = (value, self._some(value, name, examples))
        return self._narrowed[id(value)][1]

    def _refusal(self, name: Any, shape: Iterable[Any], wanted: Iterable[Any]) -> DepthError:
        return DepthError(
            f"early exit needs the examples in the first dimension of all that the layers of "
            f"{type(self.model).__name__} are given: {name} must be of shape {tuple(wanted)}; got {tuple(shape)}"
        )

    def _some(self, value: Any, name: int | str, examples: torch.Tensor) -> Any:
        for path, shape in shapes_in(value, ("given", name)).items():
            if path not in self._known and shape[:1] not in ((), (1,), (self.batch_size,)):  # layers hand it on
                raise self._refusal(name, shape, (self.batch_size, "..."))
        return of_examples(value, examples, self.batch_size, self._shared(), ("given", name))

    def _shared(self) -> frozenset[Path]:
        return _shared.get(self.model, frozenset())

    def _narrow(self) -> None:
        """Forget the examples that left: of the inputs, and of what ran before the layers."""
        self._before = self._before or self.recording.before()
        examples = self.departures.examples
        self._narrowed = {}
        self.inputs = _inputs_of(self.all_inputs, examples, self.batch_size)
        here = {
            path: [
                of_examples(output, examples, self.batch_size, self._shared(), ("before", path, place))
                for place, output in enumerate(outputs)
            ]
            for path, outputs in self._before.items()
        }
        self._read = self.recording.reading(here)

    def _find_shared(self, args: tuple, kwargs: dict[str, Any]) -> None:
        """Find the tensors that have no row for each example, by a pass of one example up to the first layer."""
        self._known = shapes_in(_given(args, kwargs, {})).keys()
        if self.model in _shared or self.batch_size == 1:
            return
        first = torch.zeros(1, dtype=torch.long, device=self.departures.states.device)
        one = _inputs_of(self.all_inputs, first, self.batch_size)
        probe, seen = Recording(self.model, self.recording.stack), []

        def stop(*args: Any, **kwargs: Any) -> None:
            _, args, kwargs = _states_of(probe.layers[0], args, kwargs)
            seen.append(_given(args, kwargs, probe.before()))
            raise _EnoughKnownError

        with contextlib.suppress(_EnoughKnownError):
            probe.run_through([standing_for(layer, stop) for layer in probe.layers], one)
        of_one, of_all = shapes_in(seen[0]), shapes_in(_given(args, kwargs, self.recording.before()))
        shared = set()
        for path in of_all.keys() & of_one.keys():  # one example without padding may need no mask
            shape, other = of_all[path], of_one[path]
            if other != shape and (*shape[:1], *other) != (self.batch_size, 1, *shape[1:]):
                raise self._refusal(path[1], shape, (self.batch_size, *other[1:]))
            if other[:1] != (1,):
                shared.add(path)
        _shared[self.model] = frozenset(shared)

    def _logits(self, depth: int, states: torch.Tensor, tokens: Tokens | None) -> torch.Tensor:
        if depth == 0:
            logits = output_logits(self.recording.read(0, self.inputs))
            return logits if tokens is None else logits[tokens]
        if self._read is None:
            self._before = self.recording.before()
            self._read = self.recording.reading(self._before)
        if tokens is None:
            return output_logits(self._read(self._output_for(states), self.inputs))
        rows, positions = (place.to(states.device) for place in tokens)
        if not len(rows) or _reads_tokens_alone.get(self.model) is False:
            return output_logits(self._read(self._output_for(states), self.inputs))[rows, positions]
        # A head of tokens reads each by itself: those that count make one sequence.
        chosen = self._output_for(states[rows, positions].unsqueeze(0))
        alone = output_logits(self._read(chosen, self.inputs)).squeeze(0)
        if self.model not in _reads_tokens_alone:
            together = output_logits(self._read(self._output_for(states), self.inputs))[rows, positions]
            # Rounding is far below this, another sequence of tokens far above.
            same = alone.shape == together.shape and torch.allclose(alone, together, rtol=1e-2, atol=1e-2)
            _reads_tokens_alone[self.model] = same
            return together
        return alone

    def _output_for(self, states: torch.Tensor) -> Any:
        """Return what the last layer returned that ran, with these states."""
        return _with_first(self._output, states)


class _EnoughKnownError(Exception):
    """Ends a pass before its layers run."""


def _states_of(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[torch.Tensor, tuple, dict[str, Any]]:
    """Return the states that a layer is given, and the other arguments."""
    if args:
        return args[0], args[1:], kwargs
    name = list(inspect.signature(type(layer).forward).parameters)[1]
    return kwargs[name], (), {other: value for other, value in kwargs.items() if other != name}


def _given(args: tuple, kwargs: dict[str, Any], before: dict[str, list[Any]]) -> dict[Any, Any]:
    """Return all that is narrowed, each where it is looked up."""
    return {"given": {**dict(enumerate(args, start=1)), **kwargs}, "before": before}


def _inputs_of(inputs: dict[str, Any], rows: torch.Tensor, batch_size: int) -> dict[str, Any]:
    """Return the inputs of some examples; what has one dimension counts places, and has no row for each example."""
    return {
        name: of_examples(value, rows, batch_size) if not isinstance(value, torch.Tensor) or value.ndim > 1 else value
        for name, value in inputs.items()
    }


def _first(output: Any) -> torch.Tensor:
    """Return the states in what a layer returns."""
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, states: torch.Tensor) -> Any:
    """Return what a layer returns, with other states."""
    return (states, *output[1:]) if isinstance(output, tuple) else states
