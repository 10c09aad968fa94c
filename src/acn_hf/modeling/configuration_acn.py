"""The config fields that every ACN family adds to those of its upstream family."""

import copy
import math
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

NOT_UPSTREAM = "experts_implementation"
"""The entry of a `config.json` that keeps upstream's classes from reading an ACN as if it were a residual network.

Every model class of transformers refuses an implementation of experts that it does not know, with what is written
there, before it reads a weight. No ACN has experts. Configs, tokenizers and trainers pass over the entry.
"""
WHAT_IT_IS = "an Auto-Compressing Network"
"""How that entry begins."""


@strict
class AcnConfig(PreTrainedConfig):
    r"""
    Fields and rules shared by all ACN configs.

    Args:
        residual_scale (`float` or `list[float]`, *optional*, defaults to 0.0):
            How much of a layer's input is added back to its output, in [0, 1]: 0 is the ACN, 1 the residual
            network. One number, or one number a layer.
        learn_residual_scale (`bool`, *optional*, defaults to `False`):
            Whether each layer's scale is a trained parameter that starts at `residual_scale`.
        attention_residual (`bool`, *optional*, defaults to `True` for BERT and `False` for ViT):
            Whether to keep the short connection around attention inside a block (`skipattn` of the paper's authors).
        readout (`"auto"` or `"sum"`, *optional*, defaults to `"auto"`):
            What the long connections add up. `"auto"` tends to the residual network as the scale tends to 1;
            `"sum"` adds every layer's whole output, whatever the scale is.
        direct_gradient_only (`bool`, *optional*, defaults to `False`):
            Whether a layer learns through its own long connection alone: what it reads from the layer below carries no
            gradient. The outputs are the same. An ablation of the paper, for the gradient that a layer gets through
            those above it. Two things do not learn then: the embeddings of tokens that the head does not read, and
            where norms stand after the additions (BERT), layers below one of scale 1, which has no long connection.
        original_num_hidden_layers (`int`, *optional*):
            Number of layers before the first truncation; `None` for a model that was never cut.
    """

    auto_classes: ClassVar[dict[str, str]] = {}
    """The class that each Auto class serves."""
    second_classes: ClassVar[dict[str, str]] = {}
    """Where an Auto class serves two: the other, for configs whose `architectures` name it."""

    num_hidden_layers: int = 12
    residual_scale: float | int | list[float | int] = 0.0
    learn_residual_scale: bool = False
    attention_residual: bool = False
    readout: Literal["auto", "sum"] = "auto"
    direct_gradient_only: bool = False
    original_num_hidden_layers: int | None = None

    def __post_init__(self, **kwargs):
        """Like upstream; but `label2id` alone names the classes too, where upstream calls them LABEL_0 and so on."""
        if str(kwargs.get(NOT_UPSTREAM)).startswith(WHAT_IT_IS):
            del kwargs[NOT_UPSTREAM]
        if self.__dict__.get("id2label") is None and self.label2id:
            names = {int(number): name for name, number in self.label2id.items()}
            if sorted(names) != list(range(len(self.label2id))):
                raise ValueError(f"label2id must give each class an id of its own, from 0 on; got {self.label2id!r}")
            if kwargs.get("num_labels", len(names)) != len(names):
                raise ValueError(
                    f"num_labels must be the number of classes in label2id, {len(names)}; got {kwargs['num_labels']}"
                )
            self.id2label = names
        super().__post_init__(**kwargs)

    @property
    def num_depth_states(self) -> int:
        """Number of depth states, `y_0` to `y_L`."""
        return self.num_hidden_layers + 1

    @property
    def is_upstream(self) -> bool:
        """Whether upstream's class computes the same outputs from the same weights, whatever they are."""
        scales = self.residual_scale if isinstance(self.residual_scale, list) else [self.residual_scale]
        reads_cls = getattr(self, "pooling", "cls") == "cls"
        is_residual = all(scale == 1 for scale in scales) and not self.learn_residual_scale and self.readout == "auto"
        return is_residual and reads_cls

    def to_diff_dict(self) -> dict[str, Any]:
        """Like upstream, for a `config.json`; that of an ACN also says what it is to who reads it as another model."""
        fields = super().to_diff_dict()
        if not self.is_upstream:
            fields[NOT_UPSTREAM] = (
                f"{WHAT_IT_IS} ({self.model_type}), whose layers other classes connect in another way; load it with an "
                "Auto class of transformers, after `import acn_hf` (0.2 or newer) or with trust_remote_code=True"
            )
        return fields

    @classmethod
    def auto_class_of(cls, model_name: str) -> str | None:
        """Return the name of the Auto class that serves a model class of this family."""
        served = [*cls.auto_classes.items(), *cls.second_classes.items()]
        return next((auto for auto, reference in served if reference.endswith(f".{model_name}")), None)

    def validate_num_hidden_layers(self) -> None:
        if isinstance(self.num_hidden_layers, bool) or self.num_hidden_layers < 0:
            raise ValueError(f"num_hidden_layers must be a whole number >= 0; got {self.num_hidden_layers!r}")

    def validate_original_num_hidden_layers(self) -> None:
        if self.original_num_hidden_layers is not None and self.original_num_hidden_layers < 0:
            raise ValueError(f"original_num_hidden_layers must be None or >= 0; got {self.original_num_hidden_layers}")

    def validate_residual_scale(self) -> None:
        scales = self.residual_scale
        if isinstance(scales, list) and len(scales) != self.num_hidden_layers:
            raise ValueError(
                f"residual_scale must hold one number for each of the {self.num_hidden_layers} layers; "
                f"got {len(scales)}: {scales!r}"
            )
        for scale in scales if isinstance(scales, list) else [scales]:
            if isinstance(scale, bool) or not math.isfinite(scale) or not 0 <= scale <= 1:
                raise ValueError(f"residual_scale must lie in [0, 1]; got {scale!r}")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """Like upstream; `num_hidden_layers` below the stored number describes that prefix of the stored model."""
        wanted, stored = kwargs.get("num_hidden_layers"), config_dict.get("num_hidden_layers")
        if isinstance(wanted, int) and isinstance(stored, int) and 0 <= wanted < stored:
            config_dict = config_dict | prefix_fields(config_dict, wanted)
        return super().from_dict(config_dict, **kwargs)

    def prefix(self, depth: int) -> "AcnConfig":
        """Return the config of the first `depth` layers, a copy."""
        config = copy.deepcopy(self)
        config.cut_to(depth)
        return config

    def cut_to(self, depth: int) -> None:
        """Make this the config of its first `depth` layers."""
        for name, value in prefix_fields(self.__dict__, depth).items():
            setattr(self, name, value)


def prefix_fields(fields: dict[str, Any], depth: int) -> dict[str, Any]:
    """Return the entries of a config dictionary that change when only the first `depth` layers stay."""
    stored = fields["num_hidden_layers"]
    changed: dict[str, Any] = {"num_hidden_layers": depth}
    if depth != stored and fields.get("original_num_hidden_layers") is None:
        changed["original_num_hidden_layers"] = stored
    if isinstance(fields.get("residual_scale"), list):
        changed["residual_scale"] = fields["residual_scale"][:depth]
    return changed
