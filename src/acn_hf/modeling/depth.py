"""What every ACN can do with its depth: read it at every depth from one pass, and be cut to a prefix."""

import copy
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .injected import adapter_configs, prefix_adapter_configs
from .upstream import maybe_install_capturing_hooks


class DepthError(ValueError):
    """A depth that a model does not have, or a model whose layers and config disagree."""


def check_depth(depth: Any, num_hidden_layers: int) -> int:
    """Return `depth` as an int if it is a whole number in `[0, num_hidden_layers]`.

    Raises:
        DepthError: It is not; the message names the range and the value.
    """
    try:
        if isinstance(depth, bool):
            raise TypeError
        number = operator.index(depth)
    except TypeError:
        raise DepthError(f"depth must be a whole number in [0, {num_hidden_layers}]; got {depth!r}") from None
    if not 0 <= number <= num_hidden_layers:
        raise DepthError(f"depth must lie in [0, {num_hidden_layers}] for this model; got {number}")
    return number


def truncate(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """Return the first `depth` layers of `model` as a new, independent model of the same class.

    `acn_hf.truncate`, which is for users, takes wrapped and adapted models too.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`.
        TypeError: `model` is not an ACN.
    """
    view = prefix_view(model, depth)
    return independent_copy(view, model, view.config)


def independent_copy(view: Any, model: PreTrainedModel, config: Any) -> Any:
    """Return a copy of a view of `model` that shares nothing with it, and in which `config` is the only config."""
    # Every submodule's reference to the long config becomes one to the short config, which is not copied again.
    memo = {id(long): config for long in (model.config, model.base_model.config, config)}
    return copy.deepcopy(view, memo)


def depth_logits(model: PreTrainedModel, **inputs: Any) -> torch.Tensor:
    """Return the logits at every depth, of shape `(L + 1, batch_size, ...)`, from one pass through the layers.

    `acn_hf.depth_logits`, which is for users, takes wrapped and adapted models too.

    Raises:
        TypeError: `model` is not an ACN, or has no head.
    """
    return torch.stack([output_logits(output) for _, output in depth_outputs(model, inputs)])


def depth_outputs(
    model: PreTrainedModel, inputs: dict[str, Any], depths: Iterable[int] | None = None
) -> Iterator[tuple[int, ModelOutput]]:
    """Yield `(depth, output)` for ascending depths, where `output` is what `truncate(model, depth)` would return.

    The layers run once, up to the largest depth; the head runs once a depth, when its output is asked for.

    Args:
        model (`PreTrainedModel`): An ACN with a head.
        inputs (`dict`): Keyword arguments of the model; with labels, every output holds its loss.
        depths (iterable of `int`, *optional*): Defaults to all, `0..L`.

    Raises:
        DepthError: A depth is not a whole number in `[0, L]`.
        TypeError: `model` is not an ACN, or has no head.
    """
    check_acn(model)
    if model.base_model is model:
        raise TypeError(
            f"logits at a depth need a model with a head, and {type(model).__name__} has none; "
            "its depth states are in output_hidden_states=True"
        )
    num_layers = len(encoder_layers(model))
    chosen = sorted({check_depth(depth, num_layers) for depth in (range(num_layers + 1) if depths is None else depths)})
    if not chosen:
        raise DepthError(f"depths must name at least one depth in [0, {num_layers}]; got none")
    # Views share their modules with the model: a view that installed the recording hooks would install them twice.
    maybe_install_capturing_hooks(model.base_model)
    inputs = {**inputs, "return_dict": True}
    # A view even at full depth: a `forward` that accelerate bound to the model, with autocast, would run there alone.
    last = prefix_view(model, chosen[-1])(**{**inputs, "output_hidden_states": True})
    for depth in chosen[:-1]:
        yield depth, head_output(model, last.hidden_states[depth], inputs)
    yield chosen[-1], last


def head_output(
    model: PreTrainedModel,
    depth_state: torch.Tensor,
    inputs: dict[str, Any],
    shown: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> ModelOutput:
    """Return the output of the model whose last depth state is `depth_state`; no layer runs.

    Args:
        model (`PreTrainedModel`): An ACN with a head.
        depth_state (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`): Any `y_k`.
        inputs (`dict`): Keyword arguments of the model; with labels, the output holds the loss.
        shown (`Callable`, *optional*): From the last hidden state to what the head is shown of it. Defaults to all.
    """
    output = model.base_model.readout(depth_state)
    if shown is not None:
        output["last_hidden_state"] = shown(output["last_hidden_state"])
    read = _Replay(output)
    return replace_submodule(model, model.base_model_prefix, read)(**{**inputs, "return_dict": True})


def output_logits(output: ModelOutput) -> torch.Tensor:
    """Return the logits of a model output of any head; see [`depth_logits`] for heads that have several."""
    if "start_logits" in output:
        return torch.stack((output["start_logits"], output["end_logits"]), dim=-1)
    for name in ("logits", "prediction_logits", "reconstruction"):
        if name in output:
            return output[name]
    raise TypeError(f"the output of a model with a head must hold logits; got {', '.join(output)}")


class _Replay(nn.Module):
    """Stands in for the base model below a head and returns one output, whatever the inputs are."""

    def __init__(self, output: ModelOutput):
        super().__init__()
        self.output = output

    def forward(self, *args, **kwargs) -> ModelOutput:
        return self.output


def check_acn(model: Any) -> None:
    """Raise `TypeError` unless `model` is an ACN, and not a wrapper around one."""
    if isinstance(model, PreTrainedModel) and hasattr(model, "layers_name"):
        return
    message = f"only the models of acn_hf work at every depth; got {type(model).__name__}"
    if isinstance(model, nn.Module) and any(hasattr(module, "layers_name") for module in model.children()):
        message += ": give the model inside (_orig_mod if compiled, module if distributed, merge_and_unload() of peft)"
    raise TypeError(message)


def check_layers_match_config(model: PreTrainedModel) -> None:
    """Raise `DepthError` if the model holds more or fewer layers than its config says."""
    held = len(encoder_layers(model))
    if held != model.config.num_hidden_layers:
        raise DepthError(
            f"the model holds {held} layers and its config says num_hidden_layers={model.config.num_hidden_layers}; "
            "cut a model with acn_hf.truncate(model, depth), which keeps them equal"
        )


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of layers of an ACN."""
    return model.get_submodule(layers_path(model))


def short_connections(model: PreTrainedModel) -> list[Any]:
    """Return what is left of each layer's residual connections, a `ShortConnection` each."""
    return [layer.short_connection for layer in encoder_layers(model)]


def layers_path(model: PreTrainedModel) -> str:
    """Return the dotted name of the list of layers, seen from `model`."""
    return model.layers_name if model.base_model is model else f"{model.base_model_prefix}.{model.layers_name}"


def _layers_and_depth(model: PreTrainedModel, depth: int) -> tuple[nn.ModuleList, int]:
    """Return the layers of a model, and the depth if it is one of them."""
    check_acn(model)
    check_layers_match_config(model)
    layers = encoder_layers(model)
    return layers, check_depth(depth, len(layers))


def prefix_view(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """Return a view of the first `depth` layers: another model object that shares every weight with `model`.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or layers and config disagree.
        TypeError: `model` is not an ACN.
    """
    layers, depth = _layers_and_depth(model, depth)
    kept = layers[:depth]
    kept.training = layers.training
    view = replace_submodule(model, layers_path(model), kept, config=model.config.prefix(depth))
    if adapter_configs(model) and depth < len(layers):
        view.__dict__["peft_config"] = prefix_adapter_configs(model, layers_path(model), depth)
    return view


def replace_submodule(module: nn.Module, path: str, replacement: nn.Module, config: Any = None) -> Any:
    """Return a view of `module` with one submodule replaced; all others are shared, and `module` is not touched.

    The modules on the way have no hooks of a forward pass in the view: these belong to the passes of `module`.

    Args:
        path (`str`): Dotted name of the submodule.
        config (*optional*): What the modules on the way to it have as their config from now on.
    """
    name, _, rest = path.partition(".")
    view = copy.copy(module)
    # A `forward` bound to the instance (by accelerate, say) would run the module that it was bound to, and accelerate
    # must not believe that the view has one already. What a module was compiled to does not come along: torch leaves it
    # out of copies.
    for name_of_wrapper in ("forward", "_original_forward", "_is_accelerate_prepared"):
        view.__dict__.pop(name_of_wrapper, None)
    view.__dict__.update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
    if config is not None and "config" in view.__dict__:
        view.__dict__["config"] = config
    child = replace_submodule(module.get_submodule(name), rest, replacement, config) if rest else replacement
    view.__dict__["_modules"] = {**module._modules, name: child}
    return view
