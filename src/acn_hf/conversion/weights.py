"""The weights that a conversion takes from one model and puts into another."""

from inspect import signature
from typing import Any

import torch
from transformers import PreTrainedModel

from ..depth.layers import is_acn
from ..modeling.depth import short_connections
from ..modeling.injected import adapter_configs
from ..modeling.upstream import no_init_weights
from ..support.weights import absent_weights, is_offloaded
from .layouts import ConversionError, Weights

LEARNED_SCALE = "short_connection.residual_scale"
"""The end of the name of the only weight that an ACN has and no other model."""


def check_plain(model: PreTrainedModel) -> None:
    """Raise `ConversionError` unless the weights of a model are numbers in memory, and its own."""
    name = type(model).__name__
    if adapter_configs(model):
        raise ConversionError(
            f"adapters must be merged before a conversion; {name} holds {', '.join(adapter_configs(model))}"
        )
    if getattr(model, "hf_quantizer", None) is not None or getattr(model.config, "quantization_config", None):
        raise ConversionError(f"weights must be plain numbers; those of this {name} are quantised")
    if is_offloaded(model):
        raise ConversionError(
            f"weights must be in memory to be converted; {absent_weights(model)}. Load the model without device_map, "
            "and give device_map when you load what was converted"
        )


def check_whole(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model whose weights are numbers.

    Raises:
        ConversionError: One is nan or infinite.
    """
    for name, weight in model.named_parameters():
        if not weight.is_meta and not torch.isfinite(weight).all():
            raise ConversionError(f"weights must be finite numbers; {name} holds nan or infinity")
    return model


def empty(model_class: Any, config: Any, like: PreTrainedModel) -> Any:
    """Return a model whose weights are still to come, with the parts of `like` if that has no head."""
    options = _parts(like, model_class) if like.base_model is like else {}
    # ViT draws its embeddings where nothing keeps it from that; what the caller draws next is not to depend on it.
    with no_init_weights(), torch.random.fork_rng(devices=[]):
        return model_class(config, **options)


def filled(model: Any, weights: Weights, trained: dict[str, bool], like: PreTrainedModel) -> PreTrainedModel:
    """Put weights into an empty model, and put it on the device of another and in its mode.

    Args:
        model (`PreTrainedModel`): Is changed.
        weights (`dict`): By their names in it: all but learned scales, which start where the config says.
        trained (`dict[str, bool]`): Whether a gradient is asked for, by the same names; new ones are trained.
        like (`PreTrainedModel`): The other, that the weights were taken from.

    Raises:
        ConversionError: Weights are missing, have no place, or are of another shape.
    """
    taken, made = type(like).__name__, type(model).__name__
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:
        raise ConversionError(f"the weights of {taken} must have the shapes of {made}: {error}") from None
    if wrong := [name for name in missing if not name.endswith(LEARNED_SCALE)] + unexpected:
        raise ConversionError(f"the weights of {taken} do not map to {made}: {wrong[:3]}")
    model.tie_weights()
    if is_acn(model):
        for short in short_connections(model):  # learned scales, which no original has
            model._init_weights(short.to(like.dtype))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained.get(name, True))
    model.to(like.device)
    return model.train(like.training)


def _parts(base_model: Any, model_class: Any) -> dict[str, bool]:
    """Return the options by which a class without head has the parts that a model without head has."""
    has = {
        "add_pooling_layer": getattr(base_model, "pooler", None) is not None,
        "use_mask_token": getattr(base_model.embeddings, "mask_token", None) is not None,
    }
    # A class without such an option always has the part, or never; whether that fits shows in the weights.
    return {name: value for name, value in has.items() if name in signature(model_class.__init__).parameters}
