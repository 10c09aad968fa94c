"""The way back: an ACN of scale 1 as the model of transformers that computes the same."""

import os
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from ..depth.layers import is_acn
from ..modeling.depth import check_acn, short_connections
from ..support.wrappers import unwrap_parallel
from .convert import convertible_classes, retyped
from .layouts import ConversionError, Layout, family_of, layout_of
from .weights import LEARNED_SCALE, check_plain, check_whole, empty, filled


def to_residual(model: nn.Module, *, architecture: str | None = None) -> PreTrainedModel:
    """Return the model of transformers that computes what an ACN of scale 1 computes, with the same weights.

    It is the way back of [`from_residual`]: an `AcnBertForSequenceClassification` becomes a
    `BertForSequenceClassification`, and what was a RoBERTa becomes one again. The result needs neither acn_hf nor
    `trust_remote_code`. Outputs, hidden states, loss and gradients are the same, bit for bit; up to rounding where
    scales are learned, or where a DistilBERT learned a segment, which then is in its positions.

    Of RoBERTa's table of positions, the rows for padding come back as zeros, so outputs of padding differ from those of
    the model that was converted once, and no others. Texts must be padded on the right until then.

    Args:
        model (`PreTrainedModel`): An ACN with any head or none, which is left as it is: every layer of scale 1, the
            automatic readout, and a head that reads what upstream's head reads.
        architecture (`str`, *optional*): Class of transformers that is made, such as
            `"RobertaForSequenceClassification"`. Defaults to that of the family that the config names as the original
            one (`original_model_type`), else to that of the same name, `"BertForSequenceClassification"`.

    Returns:
        `PreTrainedModel`: A new, independent model, and a config without fields of acn_hf; on the same device, in the
        same dtype and the same mode.

    Raises:
        ConversionError: The model does not compute what a class of transformers computes, `architecture` is not one
            that these weights map to, or the weights are offloaded, quantised, under adapters or not finite.
        TypeError: `model` is no ACN, or was wrapped by PEFT or FSDP.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, to_residual

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4, residual_scale=1.0)
    >>> type(to_residual(AcnBertForSequenceClassification(config))).__name__
    'BertForSequenceClassification'

    ```
    """
    acn = _checked_acn(unwrap_parallel(model))
    name = _class_for(acn, architecture)
    _check_computes_the_same(acn)
    model_class, layout = getattr(transformers, name), layout_of(name)
    config = retyped(acn.config, model_class.config_class, **layout.own_fields(acn.config))
    layout.check(config, name)
    return check_whole(_with_weights(acn, empty(model_class, config, like=acn), layout))


def _with_weights(acn: Any, original: Any, layout: Layout) -> PreTrainedModel:
    """Return an empty model of transformers with copies of the weights of an ACN."""
    theirs = {
        name: weight.detach().clone() for name, weight in acn.state_dict().items() if not name.endswith(LEARNED_SCALE)
    }
    theirs = layout.own_weights(theirs, original.config)
    names = {name: layout.rename(name) for name in original.state_dict()}
    weights = {name: theirs[bert] for name, bert in names.items() if bert in theirs}
    weights |= {bert: weight for bert, weight in theirs.items() if bert not in names.values()}  # refused by `filled`
    # A tied weight has a name of its own at each of its places, and either may come first.
    asked = {name: weight.requires_grad for name, weight in acn.named_parameters(remove_duplicate=False)}
    trained = {name: asked[bert] for name, bert in names.items() if bert in asked}
    return filled(original, weights, trained, like=acn)


def _checked_acn(model: Any) -> Any:
    """Return an ACN whose weights can be taken as they are."""
    if isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"the model of a checkpoint must be given: load {os.fspath(model)!r} with its Auto class first; got a "
            f"{type(model).__name__}"
        )
    if not is_acn(model):
        peft = ": merge its adapters, merge_and_unload()" if hasattr(model, "merge_and_unload") else ""
        already = ", which is one of transformers already" if isinstance(model, PreTrainedModel) else peft
        raise TypeError(f"a model of acn_hf must be given; got {type(model).__name__}{already}")
    check_acn(model)  # refuses views
    check_plain(model)
    held, said = len(short_connections(model)), model.config.num_hidden_layers
    if held != said:
        raise ConversionError(f"the model holds {held} layers and its config says {said}")
    return model


def _class_for(model: Any, architecture: str | None) -> str:
    """Return the name of the class of transformers that an ACN becomes."""
    name = type(model).__name__
    classes = sorted(other for other, acn in convertible_classes().items() if acn.__name__ == name)
    if not classes:
        raise ConversionError(f"transformers has no class that computes what an {name} computes")
    if architecture is not None:
        if architecture not in classes:
            raise ConversionError(
                f"architecture must be a class that the weights of {name} map to ({', '.join(classes)}); got "
                f"{architecture!r}"
            )
        return architecture
    of_its_name, family = name.removeprefix("Acn"), getattr(model.config, "original_model_type", None)
    if family is None:
        return of_its_name
    for other in classes:
        prefix = family_of(other)
        if prefix is not None and getattr(transformers, f"{prefix}Config").model_type == family:
            return other
    raise ConversionError(
        f"the original_model_type of {name} must have a class with this head whose weights map; got {family!r}: "
        f"architecture={of_its_name!r} makes a model of BERT"
    )


def _check_computes_the_same(model: Any) -> None:
    """Raise `ConversionError` unless an ACN computes what upstream's class computes with these weights."""
    config, name, shorts = model.config, type(model).__name__, short_connections(model)
    for number, short in enumerate(shorts, start=1):
        scale = short.scale
        if isinstance(scale, torch.Tensor):
            if scale.is_meta:
                raise ConversionError(f"learned scales must be numbers; those of this {name} are on the meta device")
            scale = scale.item()
        if scale != 1:
            raise ConversionError(
                f"the residual scale must be 1 in every layer, as it is in transformers; in layer {number} of this "
                f"{name} it is {scale:g}"
            )
    if shorts and config.readout != "auto":
        raise ConversionError(
            "readout must be 'auto', since heads of transformers read what the last layer returns, and not a sum over "
            f"the layers; got {config.readout!r}"
        )
    if config.direct_gradient_only:
        raise ConversionError(
            "direct_gradient_only must be False, since gradients pass through all layers in transformers; got True"
        )
    is_classifier = name.endswith(("ForSequenceClassification", "ForImageClassification"))
    if is_classifier and getattr(config, "pooling", "cls") == "mean":
        raise ConversionError(
            "pooling must be 'cls', since no classifier of transformers has a head that reads the mean of all tokens; "
            "got 'mean'"
        )
