"""Load an ACN with the head that its checkpoint was saved with."""

import transformers
from transformers import AutoConfig, PreTrainedModel

from .modeling.configuration_acn import AcnConfig


class NotAnAcnError(ValueError):
    """A checkpoint of another architecture."""


def load_model(source: str) -> PreTrainedModel:
    """Load a checkpoint of acn_hf with its own head.

    Args:
        source (`str`): A folder, or a name on the Hub.

    Raises:
        NotAnAcnError: It is a checkpoint of another architecture.
        OSError: There is no checkpoint.
    """
    try:
        config = AutoConfig.from_pretrained(source)
    except OSError as error:
        raise OSError(f"{source} must be a checkpoint: {error}") from error
    if not isinstance(config, AcnConfig):
        raise NotAnAcnError(
            f"only checkpoints of acn_hf can be cut without retraining; {source} is of model_type {config.model_type!r}"
        )
    saved_as = (config.architectures or [""])[0]
    for auto_name, reference in config.auto_classes.items():
        if reference.endswith(f".{saved_as}") and reference != config.auto_classes["AutoModel"]:
            return getattr(transformers, auto_name).from_pretrained(source)
    raise NotAnAcnError(f"{source} must hold a model with a head; it was saved as {saved_as or 'an unnamed class'}")
