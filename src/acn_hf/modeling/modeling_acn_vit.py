"""AC-ViT: the ViT of transformers with auto-compressing connections.

Only the additions around attention and MLP and the loop over the layers are ours; the weights, their names and
the heads are upstream's.
"""

from typing import ClassVar

import torch
from torch import nn
from transformers import ViTForImageClassification, ViTForMaskedImageModeling, ViTModel, ViTPreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .configuration_acn_vit import AcnViTConfig
from .connectivity import LongConnection, PreNormLongConnection, ShortConnection
from .modeling_acn import AcnHead, AcnPreTrainedModel
from .upstream import (
    OutputRecorder,
    ViTAttention,
    ViTLayer,
    capture_outputs,
    create_bidirectional_mask,
    depth_state_recorder,
    get_checkpoint_conversion_mapping,
    merge_with_config_defaults,
    register_checkpoint_conversion_mapping,
)


class AcnViTLayer(ViTLayer):
    """One block: `u = A(LN1(h)) + c * h`, `h' = M(LN2(u)) + alpha * u`."""

    def __init__(self, config: AcnViTConfig, layer_index: int):
        super().__init__(config)
        self.short_connection = ShortConnection(config, layer_index)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        attention, _ = self.attention(self.layernorm_before(hidden_states), attention_mask, **kwargs)
        hidden_states = self.short_connection.around_attention(self.dropout(attention), hidden_states)
        mlp = self.mlp(self.layernorm_after(hidden_states))
        return self.short_connection.around_mlp(self.dropout(mlp), hidden_states)


class AcnViTPreTrainedModel(AcnPreTrainedModel, ViTPreTrainedModel):
    """Base of all AC-ViT classes."""

    config: AcnViTConfig
    config_class = AcnViTConfig
    layers_name: ClassVar[str] = "layers"
    _no_split_modules: ClassVar[list[str]] = ["ViTEmbeddings", "AcnViTLayer"]
    _can_record_outputs: ClassVar[dict] = {
        "hidden_states": depth_state_recorder(LongConnection),
        "layer_outputs": OutputRecorder(LongConnection, index=1),
        "attentions": ViTAttention,
    }


class AcnPatchModel(AcnPreTrainedModel):
    """What AC-ViT and AC-DeiT without a head share: the layers, the loop over them, and the readout."""

    def __init__(self, config, add_pooling_layer: bool = True, use_mask_token: bool = False):
        super().__init__(config, add_pooling_layer=add_pooling_layer, use_mask_token=use_mask_token)
        self.layers = nn.ModuleList([AcnViTLayer(config, index) for index in range(config.num_hidden_layers)])
        self.long_connection = PreNormLongConnection(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.BoolTensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Like upstream; with the loop over the layers that keeps the long connections."""
        if pixel_values is None:
            raise ValueError("pixel_values must be given")
        embeddings = self.embeddings(
            pixel_values.to(self.embeddings.patch_embeddings.projection.weight.dtype),
            bool_masked_pos=bool_masked_pos,
            interpolate_pos_encoding=interpolate_pos_encoding,
        )
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=embeddings, attention_mask=attention_mask
        )
        layers = self.layers[: self.config.num_hidden_layers]
        return self.readout(self.long_connection.run(layers, embeddings, attention_mask, **kwargs))

    def readout(self, depth_state: torch.Tensor) -> BaseModelOutputWithPooling:
        """Return the output of the model whose last depth state is `depth_state`."""
        normed = self.layernorm(depth_state)
        pooled = self.pooler(normed) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=normed, pooler_output=pooled)


class AcnViTModel(AcnPatchModel, AcnViTPreTrainedModel, ViTModel):
    """AC-ViT without a head.

    `hidden_states[k]` is the depth state `y_k`, before the final LayerNorm; with `output_layer_outputs=True` the
    output also holds `layer_outputs`, where `layer_outputs[i]` is `x_i`. Both have `L + 1` entries of shape
    `(batch_size, sequence_length, hidden_size)`.

    Source: arXiv 2506.09714, section 2 and its AC-ViT.
    """


class AcnViTHead(AcnHead, AcnViTPreTrainedModel):
    """Base of AC-ViT with a head."""

    base_model_class = AcnViTModel


class AcnViTForMaskedImageModeling(AcnViTHead, ViTForMaskedImageModeling):
    """AC-ViT with a decoder for masked image modelling."""


class AcnViTForImageClassification(AcnViTHead, ViTForImageClassification):
    """AC-ViT with an image classifier, which reads the CLS token or the mean of all tokens (`config.pooling`)."""

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        """Like upstream, with `config.pooling`."""
        outputs = self.vit(
            pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
            attention_mask=attention_mask,
            return_dict=True,
            **kwargs,
        )
        tokens = outputs.last_hidden_state
        logits = self.classifier(tokens.mean(dim=1) if self.config.pooling == "mean" else tokens[:, 0])
        loss = self.loss_function(labels, logits, self.config, **kwargs) if labels is not None else None
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def read_old_names(*class_names: str) -> None:
    """Let classes read the checkpoints of upstream, which are stored under old names.

    Without this every layer would stay random after loading. The heads are named too, since the oldest release looks
    for the name of the outermost class alone.
    """
    for name in class_names:
        register_checkpoint_conversion_mapping(name, get_checkpoint_conversion_mapping("ViTModel"), overwrite=True)


read_old_names("AcnViTModel", "AcnViTForImageClassification", "AcnViTForMaskedImageModeling")
