"""Every depth of a model from one pass: what its layers returned is kept, and read by all that stands above them."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..modeling.depth import DepthError
from .stack import cut_configs, find_stack, modules_above, with_layers


class Recording:
    """What the modules of one pass returned: each layer, and whatever ran before the first of them.

    Args:
        model (`PreTrainedModel`): It is left as it is; the pass is that of a view.
        depth (`int`): How many of its layers run.
        inputs (`dict`): Keyword arguments of the model.

    Raises:
        DepthError: The layers do not run once each, one after the other.
    """

    def __init__(self, model: PreTrainedModel, depth: int, inputs: dict[str, Any]):
        self.model, self.depth, self.inputs = model, depth, {**inputs, "return_dict": True}
        self.stack = find_stack(model)
        self.layers = list(model.get_submodule(self.stack.path))
        self._states: list[_Kept] = []
        self._before: dict[str, list[_Kept]] = {}
        self._late: set[str] = set()
        tapped = [_tapped(layer, partial(self._keep_state, index)) for index, layer in enumerate(self.layers[:depth])]
        view = self._view(tapped, slice(depth))
        for above, path, module in self._beside(view):
            _replace(above, path, _tapped(module, partial(self._keep_beside, path)))
        self.output = view(**self.inputs)
        """What the model cut at `depth` returns."""
        if len(self._states) != depth:
            raise DepthError(
                f"each of the first {depth} layers of {type(model).__name__} must run once; {len(self._states)} did"
            )

    def read(self, depth: int) -> Any:
        """Return the output of the model cut at a depth; neither layers nor what stands before them run again.

        Raises:
            DepthError: What the layer returned was changed in place by what ran after it, so it is not known any more.
        """
        if depth == self.depth:
            return self.output
        if depth == 0:
            view = self._view([], slice(0))
        else:
            state = self._states[depth - 1]
            if not state.is_whole():
                raise DepthError(
                    f"what layer {depth} of {type(self.model).__name__} returned was changed in place by what ran "
                    "after it, so this depth cannot be read"
                )
            view = self._view([_replaying(self.layers[depth - 1], [state.output])], slice(depth - 1, depth))
        for above, path, module in self._beside(view):
            kept = [] if path in self._late else self._before.get(path, [])
            if kept and all(entry.is_whole() for entry in kept):
                _replace(above, path, _replaying(module, [entry.output for entry in kept]))
        return view(**self.inputs)

    def _view(self, layers: list[nn.Module], described: slice) -> PreTrainedModel:
        configs = cut_configs(self.model, self.stack, described, shared=True)
        return with_layers(self.model, self.stack, nn.ModuleList(layers), configs)

    def _beside(self, view: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
        """Yield what stands beside the layers and beside what holds them: its parent, its dotted name, itself."""
        names = self.stack.path.split(".")
        for number, above in enumerate(modules_above(view, self.stack.path)):
            for name, child in list(above.named_children()):
                if name != names[number] and not isinstance(child, (nn.ModuleList, nn.ModuleDict)):
                    yield above, ".".join([*names[:number], name]), child

    def _keep_state(self, index: int, output: Any) -> None:
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


def _replaying(module: nn.Module, outputs: list[Any]) -> nn.Module:
    """Return a shallow copy of a module that returns these outputs, one a call; its hooks have seen them already."""
    twin, left = copy.copy(module), iter(outputs)
    twin.__dict__.pop("_compiled_call_impl", None)
    twin.__dict__.update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict(), gradient_checkpointing=False)
    twin.__dict__["forward"] = lambda *args, **kwargs: next(left)
    return twin
