"""AC-DeiT: the DeiT of transformers, a ViT with a second special token that a teacher taught, as an ACN.

Its layers are those of AC-ViT; the weights, their names and the heads are upstream's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import (
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTForMaskedImageModeling,
    DeiTModel,
    DeiTPreTrainedModel,
)
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple

from .configuration_acn_deit import AcnDeiTConfig
from .modeling_acn import AcnHead, AcnPreTrainedModel
from .modeling_acn_vit import AcnPatchModel, AcnViTPreTrainedModel, read_old_names


class AcnDeiTPreTrainedModel(AcnPreTrainedModel, DeiTPreTrainedModel):
    """Base of all AC-DeiT classes."""

    config: AcnDeiTConfig
    config_class = AcnDeiTConfig
    layers_name: ClassVar[str] = "layers"
    _no_split_modules: ClassVar[list[str]] = ["DeiTEmbeddings", "AcnViTLayer"]
    _can_record_outputs: ClassVar[dict] = AcnViTPreTrainedModel._can_record_outputs


class AcnDeiTModel(AcnPatchModel, AcnDeiTPreTrainedModel, DeiTModel):
    """AC-DeiT without a head; its `hidden_states` and `layer_outputs` are those of [`AcnViTModel`].

    Source: arXiv 2506.09714, section 2, on the network of arXiv 2012.12877.
    """


class AcnDeiTHead(AcnHead, AcnDeiTPreTrainedModel):
    """Base of AC-DeiT with a head."""

    base_model_class = AcnDeiTModel


class AcnDeiTForMaskedImageModeling(AcnDeiTHead, DeiTForMaskedImageModeling):
    """AC-DeiT with a decoder for masked image modelling."""


class AcnDeiTForImageClassification(AcnDeiTHead, DeiTForImageClassification):
    """AC-DeiT with an image classifier, which reads the CLS token."""


@dataclass
class AcnDeiTWithTeacherOutput(ModelOutput):
    """Output of [`AcnDeiTForImageClassificationWithTeacher`]: upstream's, and a loss."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    cls_logits: torch.Tensor | None = None
    distillation_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class AcnDeiTForImageClassificationWithTeacher(AcnDeiTHead, DeiTForImageClassificationWithTeacher):
    """AC-DeiT with two image classifiers, of the CLS token and of the distillation token, and their mean as `logits`.

    Where `AutoModelForImageClassification` reads checkpoints with `trust_remote_code`, upstream remembers one class for
    all of the same code in folders of the same name: read checkpoints of this class and of
    `AcnDeiTForImageClassification` from folders of different names, or import acn_hf.
    """

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> AcnDeiTWithTeacherOutput:
        """Like upstream, which takes no labels: with them, the output holds the loss of `logits`."""
        images = (pixel_values, interpolate_pos_encoding, attention_mask)
        output = super().forward(*images, return_dict=True, **kwargs)
        loss = None if labels is None else self.loss_function(labels, output.logits, self.config, **kwargs)
        return AcnDeiTWithTeacherOutput(loss=loss, **output)


read_old_names(
    "AcnDeiTModel",
    "AcnDeiTForImageClassification",
    "AcnDeiTForImageClassificationWithTeacher",
    "AcnDeiTForMaskedImageModeling",
)
