"""Adapters of PEFT for models whose head is new."""

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

from ..modeling.checkpoint import check_adapter_configs
from ..support.wrappers import unwrap_acn

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(model: PreTrainedModel, **options: Any) -> "LoraConfig":
    """Return the config of a LoRA adapter for a model with a new head: the head is trained and saved with it.

    A new head has random weights, and an adapter that does not hold them is useless after loading. `modules_to_save`
    therefore names the head, and the pooler if the head reads one, which a checkpoint of masked language modelling
    does not hold. The heads for pretraining are tied to the embeddings and come with the checkpoint: they stay frozen.

    Args:
        model (`PreTrainedModel`): The ACN to adapt; it is left as it is.
        options: Fields of [`~peft.LoraConfig`]. `target_modules` defaults to the queries and values of every layer;
            `modules_to_save`, if given, replaces what stands above.

    Returns:
        `peft.LoraConfig`: For `peft.get_peft_model(model, config)` or `model.add_adapter(config)`.

    Raises:
        DepthError: `layers_to_transform` names a layer that the model does not have.
        TypeError: `model` is not an ACN, or `options` holds no field of `LoraConfig`.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertForTokenClassification, lora_config

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> adapter = lora_config(AcnBertForTokenClassification(config), r=4)
    >>> adapter.r, sorted(adapter.target_modules), adapter.modules_to_save
    (4, ['query', 'value'], ['classifier'])

    ```
    """
    from peft import LoraConfig
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    inner = unwrap_acn(model)
    targets = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[inner.config.model_type]
    config = LoraConfig(**{"target_modules": list(targets), "modules_to_save": _new_modules(inner)} | options)
    check_adapter_configs(inner, {"new": config})
    return config


def _new_modules(model: PreTrainedModel) -> list[str] | None:
    """Return the names of the modules that a checkpoint of another head leaves random."""
    if model.base_model is model:
        return None
    heads = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]
    if any(name.split(".")[0] in heads for name in model.all_tied_weights_keys):
        return None
    return heads if model.base_model.pooler is None else [*heads, "pooler"]
