"""The networks that are compared: a family (what the layers are) and an architecture (how they are connected)."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback

from acn_hf import (
    AcnBertConfig,
    AcnBertForSequenceClassification,
    AcnMixerConfig,
    AcnMixerForImageClassification,
    AcnViTConfig,
    AcnViTForImageClassification,
    ResidualAnnealingCallback,
)
from acn_hf.exits import long_connection_path
from acn_hf.modeling.connectivity import LongConnection
from acn_hf.scripts import fitting_initializer_range

from .relatives import DenseFormerConnection, DenseNetConnection, FeedForwardConnection, LayerSkipConnection


@dataclass(frozen=True)
class Architecture:
    """How layers are connected.

    Args:
        fields (`dict`): Fields of the config.
        connection (`type`, *optional*): What takes the place of the long connection.
        is_scaled (`bool`, *optional*, defaults to `False`): Whether the first weights fit the width, as `--recipe
            annealed` of the scripts has them.
        annealing (`dict`, *optional*): How the residual scale falls from 1 while a network learns from scratch; see
            `acn_hf.ResidualAnnealingCallback`.
    """

    fields: dict[str, Any]
    connection: type[LongConnection] | None = None
    is_scaled: bool = False
    annealing: dict[str, Any] | None = None


ARCHITECTURES = {
    "acn": Architecture({"residual_scale": 0.0}),
    "residual": Architecture({"residual_scale": 1.0}),
    "feedforward": Architecture({"residual_scale": 0.0}, FeedForwardConnection),
    "direct": Architecture({"residual_scale": 0.0, "direct_gradient_only": True}),
    "hybrid": Architecture({"residual_scale": 0.5, "learn_residual_scale": True}),
    "layerskip": Architecture({"residual_scale": 1.0}, LayerSkipConnection),
    "denseformer": Architecture({"residual_scale": 1.0}, DenseFormerConnection),
    "densenet": Architecture({"residual_scale": 0.0}, DenseNetConnection),
    "acn-annealed": Architecture(
        {"residual_scale": 0.0, "attention_residual": True},
        is_scaled=True,
        annealing={"begin": 0.1, "fraction": 0.6},
    ),
    "residual-scaled": Architecture({"residual_scale": 1.0}, is_scaled=True),
}
OURS = {"acn": "the ACN", "acn-annealed": "the annealed ACN"}
"""The ACNs that claims are about, and what sentences call them."""

RIVALS = {"acn": "residual", "acn-annealed": "residual-scaled"}
"""The residual network that each is compared with: that of the same first weights."""

ADDED = ("acn-annealed", "residual-scaled")
"""Those that came to the page later; they are compared with each other alone."""

COMPARED = ("acn", "residual", *ADDED)
"""What most claims are looked at with."""


def are_compared(name: str, other: str) -> bool:
    """Return whether two architectures, or methods that are called like them, came to the page together."""
    return (name in ADDED) == (other in ADDED)


MODELS = {
    "vit": (AcnViTConfig, AcnViTForImageClassification),
    "mixer": (AcnMixerConfig, AcnMixerForImageClassification),
    "bert": (AcnBertConfig, AcnBertForSequenceClassification),
}
LAYERS = {
    "vit": {"intermediate_size": 256, "num_attention_heads": 4, "pooling": "mean"},
    "mixer": {"token_intermediate_size": 32, "intermediate_size": 256},
    "bert": {"intermediate_size": 256, "num_attention_heads": 4, "pooling": "mean"},
}


@dataclass(frozen=True)
class Network:
    """What is built: everything that decides it, the data's part (classes, pixels, vocabulary) and the seed aside.

    Args:
        family (`str`): `"vit"`, `"mixer"` or `"bert"`.
        arch (`str`): A name in `ARCHITECTURES`.
        num_hidden_layers (`int`): Its depth.
        hidden_size (`int`, *optional*, defaults to 64): Its width.

    Raises:
        ValueError: The family or the architecture is not known.
    """

    family: str
    arch: str
    num_hidden_layers: int
    hidden_size: int = 64

    def __post_init__(self):
        if self.family not in MODELS:
            raise ValueError(f"family must be one of {', '.join(MODELS)}; got {self.family!r}")
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"--arch must be any of {', '.join(ARCHITECTURES)}; got {self.arch!r}")

    @property
    def name(self) -> str:
        """A name for tables and files."""
        return f"{self.family}-{self.arch}-{self.num_hidden_layers}"

    def build(self, data_fields: dict[str, Any], seed: int) -> PreTrainedModel:
        """Return the untrained network.

        Args:
            data_fields (`dict`): The fields of the config that follow from the data.
            seed (`int`): Of its first weights.
        """
        config_class, model_class = MODELS[self.family]
        architecture = ARCHITECTURES[self.arch]
        torch.manual_seed(seed)
        first = {"initializer_range": fitting_initializer_range(self.hidden_size)} if architecture.is_scaled else {}
        config = config_class(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            **LAYERS[self.family],
            **data_fields,
            **architecture.fields,
            **first,
        )
        model = model_class(config)
        if architecture.connection is not None:
            model.set_submodule(long_connection_path(model), architecture.connection(config))
        return model

    def annealing(self) -> ResidualAnnealingCallback | None:
        """Return what moves the residual scale while the network learns from scratch."""
        annealing = ARCHITECTURES[self.arch].annealing
        return None if annealing is None else ResidualAnnealingCallback(**annealing)

    def callbacks(self) -> list[TrainerCallback]:
        """Return what a training from scratch needs besides."""
        annealing = self.annealing()
        return [] if annealing is None else [annealing]
