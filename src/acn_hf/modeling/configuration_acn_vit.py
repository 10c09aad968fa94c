"""Configuration of AC-ViT."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import ViTConfig

from .configuration_acn import AcnConfig


@strict
class AcnViTConfig(AcnConfig, ViTConfig):
    r"""
    Configuration of AC-ViT: the fields of [`~transformers.ViTConfig`], those of [`AcnConfig`], and one more.

    `attention_residual` defaults to `False`: fewer layers reached full accuracy without it.

    Args:
        pooling (`"cls"` or `"mean"`, *optional*, defaults to `"cls"`):
            What the image classifier reads: the CLS token, as upstream, or the mean of all tokens (CLS included),
            as the ViT of the paper's authors does.

    Example:

    ```python
    >>> from acn_hf import AcnViTConfig, AcnViTForImageClassification

    >>> config = AcnViTConfig(image_size=8, patch_size=2, num_channels=1, hidden_size=64, num_attention_heads=4)
    >>> AcnViTForImageClassification(config).config.pooling
    'cls'

    ```
    """

    model_type: ClassVar[str] = "acn_vit"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["hidden_states", "layer_outputs"]
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_acn_vit.AcnViTConfig",
        "AutoModel": "modeling_acn_vit.AcnViTModel",
        "AutoModelForImageClassification": "modeling_acn_vit.AcnViTForImageClassification",
        "AutoModelForMaskedImageModeling": "modeling_acn_vit.AcnViTForMaskedImageModeling",
    }

    pooling: Literal["cls", "mean"] = "cls"
