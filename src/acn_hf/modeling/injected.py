"""What PEFT puts into a model, handled without importing it: this file travels with checkpoints."""

import copy
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

NO_MODULE = "dummy-target-modules"
"""What peft takes as the `target_modules` of an adapter that targets no module."""


def adapter_configs(model: nn.Module) -> dict[str, Any]:
    """Return the configs of the adapters inside a model, by their names."""
    return model.__dict__.get("peft_config", {})


def prefix_adapter_configs(model: nn.Module, layers: str, depth: int) -> dict[str, Any]:
    """Return copies of the adapters' configs that are true of the first `depth` layers.

    Args:
        model (`nn.Module`): Holds the adapters, in all of its layers.
        layers (`str`): Dotted name of the list of layers.
        depth (`int`): Number of layers that stay.
    """
    beyond = re.compile(rf"{re.escape(layers)}\.(\d+)(?:\.|$)")
    kept: dict[str, nn.Module] = {}
    cut: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        match = beyond.match(name)
        (cut if match and int(match[1]) >= depth else kept)[name] = module
    return {name: _prefix(config, name, depth, kept, cut) for name, config in adapter_configs(model).items()}


def _prefix(config: Any, adapter: str, depth: int, kept: dict[str, nn.Module], cut: dict[str, nn.Module]) -> Any:
    config = copy.deepcopy(config)

    left, gone = (adapted_names(part, adapter) for part in (kept, cut))

    def stays(entry: str, left: Iterable[str], gone: Iterable[str]) -> bool:
        """Whether an entry, as peft matches it, names a module that is left, or none that is gone."""
        pattern = re.compile(rf"(?:.*\.)?(?:{entry})$")
        return any(map(pattern.match, left)) or not any(map(pattern.match, gone))

    for field in ("target_modules", "exclude_modules", "modules_to_save", "feedforward_modules"):
        value = getattr(config, field, None)
        if isinstance(value, (list, set)):
            setattr(config, field, type(value)(entry for entry in value if stays(re.escape(entry), kept, cut)))
    if parameters := getattr(config, "target_parameters", None):
        modules = {entry: re.escape(entry.rpartition(".")[0]) for entry in parameters}
        config.target_parameters = [entry for entry in parameters if stays(modules[entry], kept, cut)]
    for field in ("rank_pattern", "alpha_pattern", "n_frequency_pattern"):
        if patterns := getattr(config, field, None):
            setattr(config, field, {entry: rank for entry, rank in patterns.items() if stays(entry, left, gone)})
    if not left:
        # An empty list of layers would mean every layer, and an entry that matches nothing is refused by peft.
        nothing: dict[str, Any] = {"layers_to_transform": None, "layers_pattern": None, "exclude_modules": None}
        nothing |= {"target_modules": NO_MODULE, "target_parameters": None, "rank_pattern": {}, "alpha_pattern": {}}
        for field in nothing.keys() & vars(config).keys():
            setattr(config, field, nothing[field])
    elif transformed := layers_to_transform(config):
        config.layers_to_transform = [index for index in transformed if index < depth]
    if ranges := getattr(config, "layer_replication", None):
        config.layer_replication = _first_of(ranges, depth)
    return config


def _first_of(ranges: list[tuple[int, int]], depth: int) -> list[tuple[int, int]] | None:
    """Return the first `depth` of the layers that some ranges name one after the other, as ranges."""
    first = []
    for start, end in ranges:
        length = min(end - start, depth)
        depth -= length
        first.append((start, start + length))
    return [pair for pair in first if pair[0] < pair[1]] or None


def adapted_names(modules: dict[str, nn.Module], adapter: str) -> list[str]:
    """Return the names of the modules that hold an adapter, and those of its parameters, with its name and without.

    Some of these parameters is what AdaLoRA gives a rank to. Trained tokens and modules that are trained whole are
    none of them: they are named by other fields of a config.
    """
    whole = tuple(f"{name}." for name, module in modules.items() if hasattr(module, "original_module"))
    names = [name for name, module in modules.items() if not name.startswith(whole) and _is_adapted(module, adapter)]
    parameters = [f"{name}.{own}" for name in names for own, _ in modules[name].named_parameters()]
    return [*names, *parameters, *(name.removesuffix(f".{adapter}") for name in parameters)]


def layers_to_transform(config: Any) -> list[int]:
    """Return the layer indices that the config of an adapter names; none mean every layer."""
    indices = getattr(config, "layers_to_transform", None)
    return [indices] if isinstance(indices, int) else list(indices or [])


def _is_adapted(module: nn.Module, adapter: str) -> bool:
    return hasattr(module, "base_layer") and any(adapter in name.split(".") for name in module.state_dict())


def remove_adapters(model: nn.Module, *, merge: bool) -> None:
    """Make a model with adapters an ordinary one, whose parameters all get gradients.

    Args:
        model (`nn.Module`): Changed in place.
        merge (`bool`): Whether what the active adapters learned is kept, in the weights.

    Raises:
        ValueError: The adapters are to be merged, and layers that were replicated share weights, each with an adapter
            of its own.
    """
    if merge and any(getattr(config, "layer_replication", None) for config in adapter_configs(model).values()):
        raise ValueError("layers of layer_replication share their weights: what each one learned cannot be merged")
    _replace_adapted(model, merge)
    model.__dict__.pop("peft_config", None)
    model.__dict__.pop("_hf_peft_config_loaded", None)
    model.requires_grad_(True)  # peft froze them, and a model fresh from a checkpoint has none that is frozen


def _replace_adapted(module: nn.Module, merge: bool) -> None:
    children: list[tuple[str, Any]] = list(module.named_children())
    for name, child in children:
        active = merge and not getattr(child, "disable_adapters", False)
        if hasattr(child, "unload_and_optionally_merge_module"):  # such as heads, which are trained whole
            is_whole = hasattr(child, "original_module")
            if is_whole and not active:
                setattr(module, name, child.original_module)
                continue
            is_merged = not is_whole and child.merged
            if is_merged and not active:
                child.unmerge()
            options = {"merge": active and not is_merged, "safe_merge": False, "adapter_names": None}
            setattr(module, name, child.unload_and_optionally_merge_module(**options))
        elif hasattr(child, "base_layer"):
            if active and not child.merged:  # merged in place, it computes with what is in the weights alone
                child.merge()
            elif child.merged and not active:
                child.unmerge()
            setattr(module, name, child.get_base_layer())
        else:
            _replace_adapted(child, merge)


def layers_named(weights: Iterable[str], layers: str) -> list[int]:
    """Return the indices of the layers, ascending, that some of the named weights lie in."""
    pattern = re.compile(rf"(?:^|\.){re.escape(layers)}\.(\d+)\.")
    return sorted({int(match[1]) for name in weights if (match := pattern.search(name))})


@contextmanager
def put_back_on_error(model: nn.Module) -> Iterator[None]:
    """Leave a model as it was, modules and flags, if the block that adds an adapter to it ends with an error."""
    before = [(module, {name: _copy(value) for name, value in vars(module).items()}) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for module, attributes in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for parameter, requires_grad in trained:
            parameter.requires_grad = requires_grad
        raise


def _copy(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, (dict, list, set)) else value
