"""The layers of a model, an ACN or any other of transformers: where they are, and the first of them as a model.

An ACN knows where its layers are, and its config how to be cut; of every other model both are found.
"""

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..modeling import depth as acn
from ..modeling.depth import DepthError, check_depth
from ..modeling.injected import adapter_configs, prefix_adapter_configs
from ..support.eval_mode import fixed_randomness
from ..support.wrappers import is_peft_model, unwrap_parallel
from .stack import cut_configs, find_stack, with_layers
from .tuners import fit_tuner


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


def shed_layers(model: PreTrainedModel, depth: int, outer: nn.Module | None = None) -> list[nn.Module]:
    """Remove the layers above `depth` from the model itself, and return them.

    Unlike [`truncate`] this changes `model`: it is for the middle of a training run, whose optimiser, wrappers and
    callbacks hold on to this very object. It gets other configs, since other models may hold its own.

    Args:
        model (`PreTrainedModel`): Is changed in place.
        depth (`int`): Number of layers to keep, in `[0, L]`.
        outer (`nn.Module`, *optional*): What is wrapped around the model, and holds its config too.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the model has no stack of layers.
    """
    layers = layers_of(model)
    view, configs = prefix(model, depth)
    adapter_configs(model).update(adapter_configs(view))
    removed = list(layers[depth:])
    del layers[depth:]
    put_configs(model if outer is None else outer, configs)
    if is_peft_model(peft_model := unwrap_parallel(outer)):
        fit_tuner(peft_model.base_model, model)
    return removed


def grow_layers(model: PreTrainedModel, config: PreTrainedConfig) -> list[nn.Module]:
    """Add to the model itself the layers that a deeper model of its class has, and return them; their weights are new.

    Args:
        model (`PreTrainedModel`): Is changed in place.
        config (`PreTrainedConfig`): That of the deeper model. The model gets it in the place of its own.

    Raises:
        DepthError: The config describes a model with fewer layers.
    """
    attention = model.config._attn_implementation
    with fixed_randomness():
        deep = type(model)._from_config(copy.deepcopy(config), dtype=model.dtype, attn_implementation=attention)
    deep.config._name_or_path = model.config._name_or_path
    layers, wanted = layers_of(model), layers_of(deep)
    if len(wanted) < len(layers):
        raise DepthError(f"a model of {len(layers)} layers cannot grow to {len(wanted)}")
    added = [layer.to(model.device).train(layers.training) for layer in wanted[len(layers) :]]
    configs = dict(zip(map(id, _configs_above(model)), _configs_above(deep), strict=True))
    layers.extend(added)
    put_configs(model, configs)
    return added


def _configs_above(model: PreTrainedModel) -> list[PreTrainedConfig]:
    """Return the configs of a model, of its base model, and of its stack; two of them may be one."""
    own = [model.config, model.base_model.config]
    return own if is_acn(model) else [*own, find_stack(model).config]


def give_own_configs(model: nn.Module) -> None:
    """Put copies in the place of all configs that the modules of a model hold, since others may hold them too."""
    configs = [value for module in model.modules() for value in vars(module).values() if _is_config(value)]
    copies: dict[int, Any] = {}
    put_configs(model, {id(config): copy.deepcopy(config, copies) for config in configs})


def put_configs(model: nn.Module, configs: dict[int, PreTrainedConfig]) -> None:
    """Give the modules of a model other configs, in the place of those with these `id`s, whatever their names are."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if id(value) in configs and _is_config(value):
                module.__dict__[name] = configs[id(value)]


def _is_config(value: Any) -> bool:
    return isinstance(value, PreTrainedConfig)
