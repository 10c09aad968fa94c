"""The stack of layers of any model of transformers: found by what it is, whatever its family is called.

A transformer is one list of layers between embeddings and head. All that acn_hf does with depth needs that list alone,
and the config that counts its layers.
"""

import copy
import functools
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..modeling.depth import DepthError, replace_submodule


@dataclass(frozen=True)
class Stack:
    """Where the layers of a model are.

    Args:
        path (`str`): Dotted name of their list, seen from the model.
        config (`PreTrainedConfig`): The one that counts them, the model's own or one inside it.
    """

    path: str
    config: PreTrainedConfig

    @property
    def field(self) -> str:
        """What the config calls the number of layers."""
        return type(self.config).attribute_map.get("num_hidden_layers", "num_hidden_layers")


def find_stack(model: PreTrainedModel) -> Stack:
    """Return the one stack of layers of a model.

    It is the list of modules of one class, with weights, that is as long as the nearest config above it says. Of
    several it is the one whose outputs are the hidden states of the model.

    Raises:
        DepthError: There is none, or there are several; the message says which.
    """
    found: dict[str, PreTrainedConfig] = {}
    for path, layers in model.named_modules():
        if not isinstance(layers, nn.ModuleList) or any(path.startswith(f"{outer}.") for outer in found):
            continue
        config = _config_above(model, path)
        if config is not None and _are_layers(layers, config.num_hidden_layers):
            found[path] = config
    if len(found) > 1:  # others may be as long by chance
        recorded = _recorded_layers(model)
        named = {path: config for path, config in found.items() if _kinds(model.get_submodule(path)) & recorded}
        found = named if len(named) == 1 else found
    if len(found) == 1:
        return Stack(*found.popitem())
    name = type(model).__name__
    if found:
        raise DepthError(
            f"a model must have one stack of layers to have depth; {name} has {len(found)}: {', '.join(found)}. "
            "Give the part of the model that has one of them"
        )
    raise DepthError(
        f"a model must have one list of as many layers as its config says to have depth, and {name} has none: its "
        "layers share weights, stand in stages, or are of several kinds"
    )


def _config_above(model: PreTrainedModel, path: str) -> PreTrainedConfig | None:
    """Return the nearest config above a module, if it counts layers."""
    for module in reversed(modules_above(model, path)):
        config = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig):
            return config if isinstance(getattr(config, "num_hidden_layers", None), int) else None
    return None


def _are_layers(layers: nn.ModuleList, number: int) -> bool:
    if len(layers) != number or len(_kinds(layers)) > 1:
        return False
    return all(any(True for _ in layer.parameters()) for layer in layers)


def _kinds(layers: Any) -> set[type]:
    return {type(layer) for layer in layers}


def _recorded_layers(model: PreTrainedModel) -> set[type]:
    """Return the classes of modules whose outputs a model of transformers hands out as its hidden states."""
    tables = (getattr(module, "_can_record_outputs", None) or {} for module in model.modules())
    entries = (table.get("hidden_states", ()) for table in tables)
    recorders = (each for entry in entries for each in (entry if isinstance(entry, (list, tuple)) else [entry]))
    return {getattr(recorder, "target_class", recorder) for recorder in recorders}


def modules_above(model: nn.Module, path: str) -> list[nn.Module]:
    """Return the modules on the way to a submodule, the model first."""
    modules = [model]
    for name in path.split(".")[:-1]:
        modules.append(modules[-1].get_submodule(name))
    return modules


def with_layers(
    model: PreTrainedModel, stack: Stack, layers: nn.ModuleList, configs: dict[int, PreTrainedConfig]
) -> PreTrainedModel:
    """Return a view of a model with other layers, and with the configs that are true of them on the way.

    Args:
        model (`PreTrainedModel`): Is left as it is; the view shares every other module with it.
        stack (`Stack`): Where its layers are.
        layers (`nn.ModuleList`): The layers of the view.
        configs (`dict[int, PreTrainedConfig]`): See [`cut_configs`].
    """
    view = replace_submodule(model, stack.path, layers)
    for module in modules_above(view, stack.path):
        if id(config := module.__dict__.get("config")) in configs:
            module.__dict__["config"] = configs[id(config)]
    return view


def cut_configs(
    model: PreTrainedModel, stack: Stack, layers: slice, *, shared: bool = False
) -> dict[int, PreTrainedConfig]:
    """Return copies of the configs of a model that are true of some of its layers, by the `id` of each original.

    Args:
        model (`PreTrainedModel`): Its config, that of its base model and that of its stack may be three or one.
        stack (`Stack`): Where its layers are.
        layers (`slice`): Which of them.
        shared (`bool`, *optional*, defaults to `False`):
            Whether the copies may share what does not change, as those of a view may that lives for one pass.

    Raises:
        DepthError: A list with one entry a layer is shorter than that.
    """
    originals = {id(config): config for config in (model.config, model.base_model.config, stack.config)}
    copies: dict[int, Any] = {}
    for key, original in originals.items():
        if shared:
            copies[key] = copy.copy(original)
        else:
            copy.deepcopy(original, copies)
    for key, original in originals.items():
        if type(original) is type(stack.config):
            _cut(copies[key], stack.field, layers)
    return {key: value for key, value in copies.items() if isinstance(value, PreTrainedConfig)}


def _cut(config: PreTrainedConfig, field: str, layers: slice) -> None:
    """Make a config one of some of its layers."""
    number, config_class = config.num_hidden_layers, cast(Any, type(config))
    grow, are_single = _usual_lists(config_class, field, number)
    for name, entries in list(vars(config).items()):
        if not isinstance(entries, (list, tuple)):
            continue
        if name in grow and len(entries) < number:
            raise DepthError(f"{name} must hold one entry for each of the {number} layers; got {len(entries)}")
        if name in grow or (name in are_single and len(entries) == number):
            config.__dict__[name] = entries[layers]
    config.__dict__[field] = len(range(number)[layers])
    names = config.__dict__.get("stage_names")
    if isinstance(names, list) and len(names) == number + 1:
        _cut_stages(config, [names[0], *names[1:][layers]])


def _cut_stages(config: PreTrainedConfig, names: list[str]) -> None:
    """Make the config of a backbone one of these stages, the embeddings among them; what is read stays, or the last."""
    read = [name for name in config.__dict__.get("_out_features") or () if name in names] or names[-1:]
    config.__dict__.update(stage_names=names, _out_features=read, _out_indices=[names.index(name) for name in read])


def fields_by_layer(config: PreTrainedConfig) -> set[str]:
    """Return which fields of a config hold one entry for each layer, as its class itself makes them."""
    field = type(config).attribute_map.get("num_hidden_layers", "num_hidden_layers")
    number = getattr(config, field, None)
    config_class: Any = type(config)
    return _usual_lists(config_class, field, number)[0] if isinstance(number, int) else set()


@functools.cache
def _usual_lists(config_class: Any, field: str, number: int) -> tuple[set[str], set[str]]:
    """Return which fields of a class of configs hold one entry a layer.

    Returns:
        The fields that the class itself makes longer where there is one layer more; and those that hold one number or
        word for all layers, in whose place a list of that length says one for each.
    """
    try:
        plain, longer = (vars(config_class(**{field: count})) for count in (number, number + 1))
    except Exception as error:  # each class of configs has its own
        raise DepthError(f"a {config_class.__name__} must take any number of layers as {field}: {error}") from error
    grow = {
        name
        for name, value in plain.items()
        if isinstance(value, (list, tuple)) and len(value) == number and len(longer.get(name) or ()) == number + 1
    }
    return grow, {name for name, value in plain.items() if isinstance(value, (int, float, str))}
