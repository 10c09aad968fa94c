"""From a residual checkpoint that people already have to an ACN with the same weights."""

import dataclasses
import os
from typing import Any

import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from .. import auto
from ..modeling.modeling_acn import AcnPreTrainedModel
from ..support.wrappers import unwrap_parallel
from .layouts import REASONS, ConversionError, family_of, layout_of, mapped_classes
from .timm_mixers import (
    HUB_OPTIONS,
    TimmMixer,
    is_timm_checkpoint,
    is_timm_model,
    read_timm_checkpoint,
    read_timm_model,
)
from .weights import check_plain, check_whole, empty, filled

OWN_FIELDS = ("model_type", "architectures", "auto_map", "transformers_version")
"""Fields that say which class a config belongs to."""


def from_residual(
    model_or_path: nn.Module | TimmMixer | str | os.PathLike,
    *,
    residual_scale: float | list[float] = 0.0,
    attention_residual: bool | None = None,
    readout: str = "auto",
    learn_residual_scale: bool = False,
    pooling: str | None = None,
    architecture: str | None = None,
    **options: Any,
) -> PreTrainedModel:
    """Return the ACN with the same head and the same weights as a residual model.

    Models of BERT, ViT and DeiT are converted, and those of families that compute what BERT computes under other names
    (they become an `AcnBert`): CamemBERT, RoBERTa and XLM-RoBERTa; DistilBERT, but for its classifier of sequences; and
    ELECTRA, without a head or with that for tokens or answers, if its embeddings are as wide as its layers.
    The MLP-Mixers of timm, `mixer_*`, become an `AcnMixer`, without the stochastic depth and the dropout before the
    classifier that they may have in training.

    With `residual_scale=1.0` and the automatic readout it computes what the original computes, bit for bit. With 0.0
    it is an ACN that starts from trained weights, and has to be trained: without its short connections a layer reads
    what it never read before. `docs/conversion.md` says which way there is the best.

    The way back is [`to_residual`].

    With weights of the RoBERTa family, texts must be padded on the right; outputs of the padding itself then differ,
    and no others. In training, dropout stands where it stands in BERT.

    Args:
        model_or_path (`nn.Module`, `str` or `os.PathLike`): A residual model of transformers, with any head or none, or
            a Mixer of timm, which is left as it is; or a folder or a name on the Hub where one lies.
        residual_scale (`float` or `list[float]`, *optional*, defaults to 0.0):
            In [0, 1]; one number, or one number a layer, so `[1, 1, 1, 0, 0, 0]` converts the upper layers alone.
        attention_residual (`bool`, *optional*): Whether to keep the short connection around attention. Defaults to
            what the family does: `True` for BERT, `False` for ViT and for Mixer, where it is that around token mixing.
        readout (`"auto"` or `"sum"`, *optional*, defaults to `"auto"`): What the long connections add up; see
            [`AcnBertConfig`].
        learn_residual_scale (`bool`, *optional*, defaults to `False`): Whether each layer's scale is a parameter that
            starts at `residual_scale`.
        pooling (`"cls"` or `"mean"`, *optional*): What a classifier of texts or images reads. Defaults to what the
            original reads, `"cls"`; `"mean"` is for a new head on a checkpoint of sentence embeddings.
        architecture (`str`, *optional*): Class of transformers to read a checkpoint with, for one that does not say it
            (`"BertForMaskedLM"`), or to put a new head on it (`"BertForSequenceClassification"`). Defaults to the one
            that the checkpoint was saved as.
        options: What `from_pretrained` takes, for a path: `revision`, `token`, `dtype`, `num_labels`, ... For what timm
            wrote: `revision`, `token`, `cache_dir`, `subfolder`.

    Returns:
        `PreTrainedModel`: A new, independent model; on the same device, in the same dtype and the same mode.

    Raises:
        ConversionError: The weights do not map to an ACN: another architecture, layers that are missing or too many,
            weights that a checkpoint lacks or that are not whole, quantised or offloaded weights, adapters beside them,
            or weights that are not finite. Or `pooling` is given for a class that has no choice.
        OSError: There is no such checkpoint.
        StrictDataclassError: A field of the config is out of range.
        TypeError: `model_or_path` is neither a model nor a path, or is an ACN already.

    Example:

    ```python
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> from acn_hf import from_residual

    >>> config = BertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> model = from_residual(BertForSequenceClassification(config), residual_scale=1.0)
    >>> type(model).__name__, model.config.residual_scale
    ('AcnBertForSequenceClassification', 1.0)

    ```
    """
    if isinstance(model_or_path, (str, os.PathLike)):
        original, _ = load_residual(os.fspath(model_or_path), architecture, **options)
    elif architecture is not None or options:
        given = ", ".join([*(["architecture"] if architecture else []), *options])
        raise TypeError(f"a model is taken as it is, so only a path takes {given}")
    else:
        original = _checked_model(unwrap_parallel(model_or_path))
    acn_class = original.acn_class if isinstance(original, TimmMixer) else acn_class_of(type(original).__name__)
    if pooling is not None and "pooling" not in _fields_of(acn_class.config_class):
        raise ConversionError(f"pooling is for classes that have the choice; got {pooling!r} for {acn_class.__name__}")
    fields: dict[str, Any] = {
        "residual_scale": residual_scale,
        "readout": readout,
        "learn_residual_scale": learn_residual_scale,
    }
    asked = {"attention_residual": attention_residual, "pooling": pooling}
    fields |= {name: value for name, value in asked.items() if value is not None}
    if isinstance(original, TimmMixer):
        return check_whole(original.build(**fields))
    layout = layout_of(type(original).__name__)
    layout.check(original.config, type(original).__name__)
    fields = {**layout.fields(original.config), **fields}
    if family_of(type(original).__name__) is not None:
        fields["original_model_type"] = original.config.model_type
    config = retyped(original.config, acn_class.config_class, **fields)
    return check_whole(_with_weights(original, acn_class, config))


def acn_class_of(name: str) -> type[PreTrainedModel]:
    """Return the ACN class whose weights are those of a class of transformers.

    Raises:
        ConversionError: There is none; the message names those that have one.
    """
    classes = convertible_classes()
    if name not in classes:
        reason = f", {REASONS[name]}" if name in REASONS else ""
        raise ConversionError(
            "only models whose weights are those of an ACN can be converted "
            f"({', '.join(sorted(classes))}); got {name}{reason}"
        )
    return classes[name]


def convertible_classes() -> dict[str, type[PreTrainedModel]]:
    """Return the ACN class of every class of transformers that has one, by its name."""
    residual = {acn_name.removeprefix("Acn"): acn for acn_name, acn in auto.model_classes().items()}
    classes = {other: acn for other, acn in residual.items() if hasattr(transformers, other)}  # it has no Mixer
    return classes | {other: classes[bert] for other, bert in mapped_classes().items()}


def retyped(config: PreTrainedConfig, kind: type[PreTrainedConfig], **fields: Any) -> Any:
    """Return a config of the class `kind` with all fields of `config` that it may have, and those that are given.

    Raises:
        StrictDataclassError: A field is out of range for `kind`.
    """
    dropped = _fields_of(type(config)) - _fields_of(kind) | set(OWN_FIELDS)
    kept = {name: value for name, value in config.to_dict().items() if name not in dropped}
    new = kind.from_dict(kept | fields)
    new.name_or_path = config.name_or_path
    new._attn_implementation = config._attn_implementation
    return new


def _fields_of(kind: type[PreTrainedConfig]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def load_residual(
    source: str, architecture: str | None = None, **options: Any
) -> tuple[PreTrainedModel | TimmMixer, list[str]]:
    """Return the residual model of a checkpoint, and the weights that are new: of a head that was asked for, or none.

    Raises:
        ConversionError: See [`from_residual`].
        OSError: There is no such checkpoint.
        TypeError: It holds an ACN already.
    """
    if is_timm_checkpoint(source, **options):
        if architecture is not None:
            raise TypeError(f"architecture is a class of transformers, and timm wrote {source}; got {architecture}")
        return read_timm_checkpoint(source, **options), []
    name = architecture or saved_as(source, **options)
    _check_stored(source, name, options)
    acn_class_of(name)
    try:
        model, info = getattr(transformers, name).from_pretrained(source, **options, output_loading_info=True)
    except SafetensorError as error:
        raise ConversionError(f"the weights in {source} must be whole: {error}") from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ConversionError(
            f"{source} must have the shapes that are listed above; ignore_mismatched_sizes=True starts those weights "
            "anew, for a head with other classes"
        ) from None
    missing = sorted(info["missing_keys"])
    _check_nothing_random(model, missing, source, new_head=architecture is not None)
    return _checked_model(model), missing


def _check_stored(source: str, name: str, options: dict[str, Any]) -> None:
    """Refuse a checkpoint of an ACN, or of weights that are quantised or are to be, before the weights are read."""
    stored, _ = PreTrainedConfig.get_config_dict(source, **{key: options[key] for key in HUB_OPTIONS if key in options})
    acn_types = {kind.model_type for kind in auto.FAMILIES}
    if stored.get("model_type") in acn_types or name in auto.model_classes():
        held = (stored.get("architectures") or [name])[0]
        raise TypeError(
            f"a residual checkpoint is converted, and {source} holds an ACN already, an {held}; its from_pretrained "
            "takes residual_scale"
        )
    asked = options.get("quantization_config")
    if (quantised := stored.get("quantization_config")) is not None or asked is not None:
        method = (quantised or {}).get("quant_method") or type(asked).__name__
        raise ConversionError(f"weights must be plain numbers; those of {source} are quantised: {method}")


def _check_nothing_random(model: PreTrainedModel, missing: list[str], source: str, *, new_head: bool) -> None:
    """Raise `ConversionError` if a checkpoint lacks weights; a new head and its pooler may be random."""
    body = "" if model.base_model is model else f"{model.base_model_prefix}."
    if new_head:
        missing = [name for name in missing if name.startswith(body) and "pooler" not in name]
    if not missing:
        return
    message = (
        f"{source} must hold every weight of {type(model).__name__}; it lacks {len(missing)}, which would stay random: "
        f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
    )
    without_pooler = not body and all(name.startswith("pooler.") for name in missing)
    raise ConversionError(message + ("; add_pooling_layer=False leaves them out" if without_pooler else ""))


def saved_as(source: str, **options: Any) -> str:
    """Return the name of the class that a checkpoint was saved as.

    Raises:
        ConversionError: It does not say.
        OSError: There is no such checkpoint.
    """
    hub = {name: options[name] for name in HUB_OPTIONS if name in options}
    try:
        config = AutoConfig.from_pretrained(source, **hub)
    except ValueError as error:  # transformers does not know what it is
        raise ConversionError(
            f"{source} must say what it is, or architecture must, for example 'BertForMaskedLM': {error}"
        ) from error
    if not config.architectures:
        raise ConversionError(
            f"{source} must say the class that it was saved as, or architecture must, for example "
            f"'BertForMaskedLM'; its config is a {type(config).__name__} without architectures"
        )
    return config.architectures[0]


def _checked_model(model: Any) -> PreTrainedModel | TimmMixer:
    """Return a residual model, if it is one that is whole."""
    if isinstance(model, TimmMixer):
        return model
    if is_timm_model(model):
        return read_timm_model(model)
    if isinstance(model, AcnPreTrainedModel):
        raise TypeError(
            f"a residual model is converted, and {type(model).__name__} is an ACN already; its config.residual_scale "
            "may be set as it is"
        )
    if not isinstance(model, PreTrainedModel):
        peft = ": merge its adapters, merge_and_unload()" if hasattr(model, "merge_and_unload") else ""
        raise TypeError(f"a model of transformers or a path must be given; got {type(model).__name__}{peft}")
    acn_class_of(type(model).__name__)
    check_plain(model)
    return model


def _with_weights(original: PreTrainedModel, acn_class: Any, config: Any) -> PreTrainedModel:
    """Return a model of `acn_class` with copies of the weights of `original`."""
    model, layout = empty(acn_class, config, like=original), layout_of(type(original).__name__)
    held = len(original.base_model.get_submodule(layout.layers or model.layers_name))
    if held != config.num_hidden_layers:
        raise ConversionError(f"the model holds {held} layers and its config says {config.num_hidden_layers}")
    weights = {layout.rename(name): weight.detach().clone() for name, weight in original.state_dict().items()}
    weights = layout.complete(weights, original.config)
    if model.base_model.pooler is None:  # the mean of the tokens is read in its place
        weights = {name: weight for name, weight in weights.items() if ".pooler." not in name}
    # A tied weight has a name of its own at each of its places, and either may come first.
    named = original.named_parameters(remove_duplicate=False)
    trained = {layout.rename(name): parameter.requires_grad for name, parameter in named}
    return filled(model, weights, trained, like=original)
