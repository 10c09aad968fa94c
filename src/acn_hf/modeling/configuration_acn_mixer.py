"""Configuration of AC-Mixer."""

import math
from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from .configuration_acn import AcnConfig


@strict
class AcnMixerConfig(AcnConfig):
    r"""
    Configuration of AC-Mixer: an MLP-Mixer, by default of the size of Mixer-B/16, with the fields of [`AcnConfig`].

    `attention_residual` keeps the short connection around token mixing, which is to a Mixer what attention is to a ViT.
    It defaults to `False`, as in [`AcnViTConfig`].

    Args:
        image_size (`int`, *optional*, defaults to 224):
            Height and width of the images, in pixels; a Mixer reads no other size.
        patch_size (`int`, *optional*, defaults to 16):
            Height and width of a patch, in pixels, of which each becomes one token. It divides `image_size`.
        num_channels (`int`, *optional*, defaults to 3):
            Number of colour channels.
        hidden_size (`int`, *optional*, defaults to 768):
            Size of a token.
        token_intermediate_size (`int`, *optional*, defaults to 384):
            Number of neurons of the MLP that mixes the tokens, which reads one channel of all of them.
        intermediate_size (`int`, *optional*, defaults to 3072):
            Number of neurons of the MLP that mixes the channels, which reads one token.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of both MLPs.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout after the activation and at the end of each MLP.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of new weights.
        layer_norm_eps (`float`, *optional*, defaults to 1e-6):
            What the norms add to a variance.
        block_type (`"standard"` or `"paper"`, *optional*, defaults to `"standard"`):
            The block of a layer: that of MLP-Mixer, or that of the paper's authors, see [`AcnMixerModel`]. The latter
            has no short connection around token mixing, so `attention_residual` must be `False` there.

    Source: arXiv 2105.01601, table 1, for the sizes; arXiv 2506.09714 for `block_type="paper"`.

    Example:

    ```python
    >>> from acn_hf import AcnMixerConfig, AcnMixerForImageClassification

    >>> config = AcnMixerConfig(
    ...     image_size=8, patch_size=2, num_channels=1, hidden_size=32, token_intermediate_size=16, intermediate_size=64
    ... )
    >>> AcnMixerForImageClassification(config).config.num_patches
    16

    ```
    """

    model_type: ClassVar[str] = "acn_mixer"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["hidden_states", "layer_outputs"]
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_acn_mixer.AcnMixerConfig",
        "AutoModel": "modeling_acn_mixer.AcnMixerModel",
        "AutoModelForImageClassification": "modeling_acn_mixer.AcnMixerForImageClassification",
    }

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    hidden_size: int = 768
    token_intermediate_size: int = 384
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    block_type: Literal["standard", "paper"] = "standard"

    @property
    def num_patches(self) -> int:
        """Number of tokens."""
        return (self.image_size // self.patch_size) ** 2

    def validate_sizes(self) -> None:
        for name in ("patch_size", "num_channels", "hidden_size", "token_intermediate_size", "intermediate_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1; got {value!r}")
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise ValueError(
                "image_size must be a multiple of patch_size, since each token is a whole patch; "
                f"got image_size={self.image_size}, patch_size={self.patch_size}"
            )

    def validate_numbers(self) -> None:
        if not 0 <= self.hidden_dropout_prob <= 1:
            raise ValueError(f"hidden_dropout_prob must lie in [0, 1]; got {self.hidden_dropout_prob!r}")
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number > 0; got {value!r}")

    def validate_block_type(self) -> None:
        if self.block_type == "paper" and self.attention_residual:
            raise ValueError(
                "attention_residual must be False with block_type='paper', which has no short connection around token "
                f"mixing; got {self.attention_residual}"
            )
