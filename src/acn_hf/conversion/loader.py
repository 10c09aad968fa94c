"""Load an ACN as its checkpoint was saved, or a residual network as the ACN that it can be."""

import os
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from ..depth.stack import find_stack
from ..modeling.configuration_acn import AcnConfig
from ..support.auto_classes import auto_class_of
from .convert import from_residual
from .timm_mixers import is_timm_checkpoint


class NotAnAcnError(ValueError):
    """A checkpoint of another architecture, or without what is needed of it."""


def load_model(
    source: str | os.PathLike, *, residual_scale: float | list[float] | None = None, needs_head: bool = True
) -> PreTrainedModel:
    """Load a checkpoint of acn_hf or of transformers with its own head, and whole.

    Args:
        source (`str` or `os.PathLike`): A folder, or a name on the Hub.
        residual_scale (`float` or `list[float]`, *optional*): If given, the checkpoint is that of a residual network,
            and converted with this scale; see [`from_residual`].
        needs_head (`bool`, *optional*, defaults to `True`): Whether a model without a head is refused.

    Raises:
        ConversionError: The residual network cannot be converted.
        DepthError: The checkpoint lacks weights of some layer, or the model has no one stack of layers.
        NotAnAcnError: It is a checkpoint of another library, is an ACN though a residual network is asked for, has no
            head, or lacks weights or a part of their file.
        OSError: There is no checkpoint.
    """
    source = os.fspath(source)
    from_timm = is_timm_checkpoint(source)
    if from_timm and residual_scale is None:
        raise NotAnAcnError(
            f"only checkpoints of acn_hf and of transformers can be cut; timm wrote {source} (its MLP-Mixers can be "
            "converted: acn-hf convert)"
        )
    config = None if from_timm else _config_of(source)
    if residual_scale is None:
        model = _load_whole(source, config)
    elif isinstance(config, AcnConfig):
        raise NotAnAcnError(f"only residual networks can be converted; {source} is an ACN already, {config.model_type}")
    else:
        model = from_residual(source, residual_scale=residual_scale)
    if needs_head and not _has_head(model):
        saved_as = next(iter(getattr(config, "architectures", None) or [type(model).__name__]))
        raise NotAnAcnError(
            f"{source} must hold a model with a head; it was saved as {saved_as}. "
            f"`acn-hf compress {source} DATA OUT --teach TRAIN` puts one on it that is made for the data"
        )
    return model


def _has_head(model: PreTrainedModel) -> bool:
    if isinstance(model.config, AcnConfig):
        return model.base_model is not model
    return auto_class_of(type(model).__name__) not in (None, "AutoModel")


def _config_of(source: str) -> Any:
    if Path(source).is_file():
        raise NotADirectoryError(f"a checkpoint must be a folder or a name on the Hub; {source} is a file")
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise OSError(f"{source} must be a checkpoint: {error}") from error


def _load_whole(source: str, config: Any) -> PreTrainedModel:
    """Load a checkpoint with the class that it was saved as, and refuse it if weights would stay random."""
    saved_as = (config.architectures or ["an unnamed class"])[0]
    is_acn = isinstance(config, AcnConfig)
    auto_name = config.auto_class_of(saved_as) if is_acn else saved_as
    reader = None if auto_name is None else getattr(transformers, auto_name, None)
    if reader is None:
        raise NotAnAcnError(f"{source} must say the class that it was saved as; it says {saved_as}")
    try:
        model, info = reader.from_pretrained(source, output_loading_info=True)
    except SafetensorError as error:
        raise NotAnAcnError(f"the weights in {source} must be whole: {error}") from error
    # What a config asks to be learned may be new.
    missing = sorted(name for name in info["missing_keys"] if "short_connection." not in name)
    if missing:
        raise NotAnAcnError(
            f"{source} must hold every weight of {saved_as}; it lacks {len(missing)}, which would stay random: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
    if not is_acn:
        find_stack(model)  # refused before any data are read
    return model
