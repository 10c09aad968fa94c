"""Configuration of AC-DeiT."""

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import DeiTConfig

from .configuration_acn import AcnConfig


@strict
class AcnDeiTConfig(AcnConfig, DeiTConfig):
    r"""
    Configuration of AC-DeiT: the fields of [`~transformers.DeiTConfig`] and those of [`AcnConfig`].

    `attention_residual` defaults to `False`, as in [`AcnViTConfig`], whose layers these are.

    Example:

    ```python
    >>> from acn_hf import AcnDeiTConfig, AcnDeiTForImageClassification

    >>> config = AcnDeiTConfig(image_size=8, patch_size=2, num_channels=1, hidden_size=64, num_attention_heads=4)
    >>> AcnDeiTForImageClassification(config).config.residual_scale
    0.0

    ```
    """

    model_type: ClassVar[str] = "acn_deit"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["hidden_states", "layer_outputs"]
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_acn_deit.AcnDeiTConfig",
        "AutoModel": "modeling_acn_deit.AcnDeiTModel",
        "AutoModelForImageClassification": "modeling_acn_deit.AcnDeiTForImageClassification",
        "AutoModelForMaskedImageModeling": "modeling_acn_deit.AcnDeiTForMaskedImageModeling",
    }
    second_classes: ClassVar[dict[str, str]] = {
        "AutoModelForImageClassification": "modeling_acn_deit.AcnDeiTForImageClassificationWithTeacher",
    }

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        # An Auto class that serves two classes looks through these names, also where there are none.
        self.architectures: list[str] = self.architectures or []
