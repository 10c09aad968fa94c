"""The layers of a model, an ACN or any other of transformers: where they are, and the first of them as a model.

An ACN knows where its layers are, and its config how to be cut; of every other model both are found.
"""

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..modeling import depth as acn
from ..modeling.depth import check_depth
from ..modeling.injected import adapter_configs, prefix_adapter_configs
from .stack import cut_configs, find_stack, with_layers


def is_acn(model: Any) -> bool:
    """Return whether a model is one of acn_hf, whose depth states are sums."""
    return isinstance(model, PreTrainedModel) and hasattr(model, "layers_name")


def layers_path(model: PreTrainedModel) -> str:
    """Return the dotted name of the list of layers, seen from `model`.

    Raises:
        DepthError: The model has no such list, or several.
    """
    return acn.layers_path(model) if is_acn(model) else find_stack(model).path


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of layers of a model.

    Raises:
        DepthError: The model has no such list, or several.
    """
    return model.get_submodule(layers_path(model))


def prefix_view(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """Return a view of the first `depth` layers: another model object that shares every weight with `model`.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the model has no stack of layers.
    """
    return prefix(model, depth)[0]


def prefix(model: PreTrainedModel, depth: int) -> tuple[PreTrainedModel, dict[int, PreTrainedConfig]]:
    """Return a view of the first `depth` layers, and its configs by the `id` of those in whose place they stand.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the model has no stack of layers.
    """
    if is_acn(model):
        view = acn.prefix_view(model, depth)
        return view, {id(config): view.config for config in (model.config, model.base_model.config)}
    stack = find_stack(model)
    layers: Any = model.get_submodule(stack.path)
    depth = check_depth(depth, len(layers))
    kept = layers[:depth]
    kept.training = layers.training
    configs = cut_configs(model, stack, slice(depth))
    view = with_layers(model, stack, kept, configs)
    if adapter_configs(model) and depth < len(layers):
        view.__dict__["peft_config"] = prefix_adapter_configs(model, stack.path, depth)
    return view, configs


def truncate(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """Return the first `depth` layers of `model` as a new, independent model of the same class.

    `acn_hf.truncate`, which is for users, takes wrapped and adapted models too.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the model has no stack of layers.
    """
    return independent_copy(*prefix(model, depth))


def independent_copy(view: Any, configs: dict[int, PreTrainedConfig]) -> Any:
    """Return a copy of a view that shares nothing with what it shows, and in which only the given configs are.

    Args:
        view (`nn.Module`): A view of a model, or of what is wrapped around one.
        configs (`dict[int, PreTrainedConfig]`): By the `id` of each config that they replace, in every module.
    """
    return copy.deepcopy(view, {**configs, **{id(config): config for config in configs.values()}})
