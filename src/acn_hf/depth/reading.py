"""Every depth of a model from one pass: what its layers returned is kept, and read by all that stands above them."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import Cache, PreTrainedModel

from ..modeling.depth import DepthError
from .stack import Stack, cut_configs, find_stack, modules_above, with_layers


class Recording:
    """What the modules of one pass returned: each layer, and whatever ran before the first of them.

    Args:
        model (`PreTrainedModel`): Any model but an ACN.

    Raises:
        DepthError: The model has no stack of layers; later, that its layers do not run once each, one after the other.
    """

    def __init__(self, model: PreTrainedModel, stack: Stack | None = None):
        self.model, self.stack = model, find_stack(model) if stack is None else stack
        self.layers = list(model.get_submodule(self.stack.path))
        self.is_listening = False
        """Whether a pass of the model itself is recorded, by the hooks of `listen`."""
        self._states: list[_Kept] = []
        self._before: dict[str, list[_Kept]] = {}
        self._late: set[str] = set()

    def run(self, depth: int, inputs: dict[str, Any]) -> Any:
        """Record a pass through the first `depth` layers, that of a view, and return its output.

        Args:
            depth (`int`): In `[0, L]`.
            inputs (`dict`): Keyword arguments of the model. A cache among them is read, and not added to.
        """
        tapped = [_tapped(layer, partial(self.keep_state, index)) for index, layer in enumerate(self.layers[:depth])]
        output = self.run_through(tapped, uncached(inputs))
        if len(self._states) != depth:
            raise DepthError(
                f"each of the first {depth} layers of {type(self.model).__name__} must run once; "
                f"{len(self._states)} did"
            )
        return output

    def run_through(self, layers: list[nn.Module], inputs: dict[str, Any]) -> Any:
        """Return the output of a view with other layers, which call `keep_state`; record what runs before them."""
        view = self._view(layers, slice(len(layers)))
        for above, path, module in self._beside(view):
            _replace(above, path, _tapped(module, partial(self._keep_beside, path)))
        return view(**inputs)

    def before(self) -> dict[str, list[Any]]:
        """Return what the modules returned that ran before the first layer, by their dotted names."""
        return {
            path: [entry.output for entry in kept]
            for path, kept in self._before.items()
            if all(entry.is_whole() for entry in kept)
        }

    def reading(self, before: dict[str, list[Any]]) -> Callable[[Any, dict[str, Any]], Any]:
        """Return a function of what a layer returned and the inputs, to what the model cut above that layer returns.

        Unlike `read` it takes any examples, those of the states, and may be called many times.

        Args:
            before (`dict`): What the modules returned that ran before the first layer, of these examples.
        """
        state: list[Any] = []
        left = {path: list(outputs) for path, outputs in before.items()}
        view = self._view([_replaying(self.layers[0], state)], slice(1))
        for above, path, module in self._beside(view):
            if path in left:
                _replace(above, path, _replaying(module, left[path]))

        def read(output: Any, inputs: dict[str, Any]) -> Any:
            state[:] = [output]
            for path, outputs in before.items():
                left[path][:] = outputs
            return view(**uncached(inputs, layers_run=False))

        return read

    def listen(self) -> list[Any]:
        """Record the passes of the model itself while `is_listening`, and return the handles that end it."""
        # Bound methods, not closures: a copy of the model listens to itself.
        hooked = [(layer, partial(self._hear_state, index)) for index, layer in enumerate(self.layers)]
        hooked += [(module, partial(self._hear_beside, path)) for _, path, module in self._beside(self.model)]
        return [module.register_forward_hook(hook) for module, hook in hooked]

    def _hear_state(self, index: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self.is_listening:
            self.keep_state(index, output)

    def _hear_beside(self, path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self.is_listening:
            self._keep_beside(path, output)

    def forget(self) -> None:
        """Be ready for the next pass."""
        self._states, self._before, self._late = [], {}, set()

    def read(self, depth: int, inputs: dict[str, Any], watch: Callable[[Any], Any] | None = None) -> Any:
        """Return the output of the model cut at a depth; neither layers nor what stands before them run again.

        Args:
            depth (`int`): At most the depth of the pass.
            inputs (`dict`): Keyword arguments of the model, those of the pass.
            watch (`Callable`, *optional*): Is given what the part of the model returns that holds the layers; what it
                returns, if anything, takes its place.

        Raises:
            DepthError: What the layer returned was changed in place by what ran after it, so it is not known any more.
        """
        view = self._view(self._standing_in(depth), slice(depth - 1, depth) if depth else slice(0))
        for above, path, module in self._beside(view):
            kept = [] if path in self._late else self._before.get(path, [])
            if kept and all(entry.is_whole() for entry in kept):
                _replace(above, path, _replaying(module, [entry.output for entry in kept]))
        if watch is not None:
            body(view, self.stack).register_forward_hook(lambda _module, _inputs, output: watch(output))
        return view(**uncached(inputs, layers_run=False))

    def _standing_in(self, depth: int) -> list[nn.Module]:
        """Return the one layer that returns what the layers up to a depth returned, or none."""
        if depth == 0:
            return []
        state = self._states[depth - 1]
        if not state.is_whole():
            raise DepthError(
                f"what layer {depth} of {type(self.model).__name__} returned was changed in place by what ran after "
                "it, so this depth cannot be read"
            )
        return [_replaying(self.layers[depth - 1], [state.output])]

    def _view(self, layers: list[nn.Module], described: slice) -> PreTrainedModel:
        configs = cut_configs(self.model, self.stack, described, shared=True)
        for config in configs.values():
            if "use_cache" in vars(config):  # keys and values of every layer, which nobody reads
                config.__dict__["use_cache"] = False
        return with_layers(self.model, self.stack, nn.ModuleList(layers), configs)

    def _beside(self, view: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
        """Yield what stands beside the layers and beside what holds them: its parent, its dotted name, itself."""
        names = self.stack.path.split(".")
        for number, above in enumerate(modules_above(view, self.stack.path)):
            for name, child in list(above.named_children()):
                if name != names[number] and not isinstance(child, (nn.ModuleList, nn.ModuleDict)):
                    yield above, ".".join([*names[:number], name]), child

    def keep_state(self, index: int, output: Any) -> None:
        """Take what a layer returned.

        Raises:
            DepthError: It is not the turn of this layer.
        """
        if index != len(self._states):
            raise DepthError(
                f"the layers of {type(self.model).__name__} must run once each, one after the other; layer {index + 1} "
                f"ran when {len(self._states)} layers had run"
            )
        self._states.append(_Kept(output))

    def _keep_beside(self, path: str, output: Any) -> None:
        if self._states:
            self._late.add(path)  # it may read what the layers returned
        else:
            self._before.setdefault(path, []).append(_Kept(output))


def uncached(inputs: dict[str, Any], layers_run: bool = True) -> dict[str, Any]:
    """Return the keyword arguments of a pass that leaves no trace in a cache, and makes none.

    Args:
        inputs (`dict`): Keyword arguments of a model.
        layers_run (`bool`, *optional*, defaults to `True`):
            Whether layers run, which would add to the cache that they read.
    """
    kept = {
        name: copy.deepcopy(value) if layers_run and isinstance(value, Cache) else value
        for name, value in inputs.items()
    }
    return {**kept, **({"use_cache": False} if "use_cache" in inputs else {}), "return_dict": True}


def body(model: PreTrainedModel, stack: Stack) -> nn.Module:
    """Return the part of a model that holds the layers, below the head; the model itself where there is none."""
    above = modules_above(model, stack.path)
    return above[min(1, len(above) - 1)]


class _Kept:
    """An output, and whether it is still what it was: later modules may work in place."""

    def __init__(self, output: Any):
        self.output, self.versions = output, _versions(output)

    def is_whole(self) -> bool:
        return _versions(self.output) == self.versions


def _versions(output: Any) -> list[int]:
    """Return how often each tensor of an output was changed in place; tensors of inference mode do not count that."""
    if isinstance(output, torch.Tensor):
        return [] if output.is_inference() else [output._version]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [version for part in parts for version in _versions(part)]


def _replace(above: nn.Module, path: str, replacement: nn.Module) -> None:
    """Put a module in the place of a child of a module of a view, whose table of children is its own."""
    above._modules[path.rpartition(".")[2]] = replacement


def _tapped(module: nn.Module, take: Callable[[Any], None]) -> nn.Module:
    """Return a shallow copy of a module that hands over whatever it returns."""
    twin = copy.copy(module)
    twin.__dict__.pop("_compiled_call_impl", None)  # bound to the module itself
    twin.__dict__["_forward_hooks"] = OrderedDict(module._forward_hooks)
    twin.register_forward_hook(lambda _module, _inputs, output: take(output))
    return twin


def standing_for(module: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    """Return a shallow copy of a module that does something else; what watches the module does not watch the copy."""
    twin = copy.copy(module)
    twin.__dict__.pop("_compiled_call_impl", None)  # bound to the module itself
    twin.__dict__.update(
        _forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict(), gradient_checkpointing=False, forward=forward
    )
    return twin


def _replaying(module: nn.Module, outputs: list[Any]) -> nn.Module:
    """Return a shallow copy of a module that returns these outputs and takes them out of the list, one a call.

       Its hooks have seen them already.
    Where it is called once more, as one may be that stands behind the layers too, it does what
       it does.
    """
    return standing_for(module, lambda *args, **kwargs: outputs.pop(0) if outputs else module(*args, **kwargs))
