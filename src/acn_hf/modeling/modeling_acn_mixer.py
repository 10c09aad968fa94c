"""AC-Mixer: an MLP-Mixer with auto-compressing connections.

transformers has no MLP-Mixer, so the whole network stands here. At residual scale 1 its standard block computes what
the `mixer_*` models of timm compute.
"""

from typing import ClassVar

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .configuration_acn_mixer import AcnMixerConfig
from .connectivity import LongConnection, PostNormLongConnection, PreNormLongConnection, ShortConnection
from .modeling_acn import AcnPreTrainedModel
from .upstream import (
    ACT2FN,
    GradientCheckpointingLayer,
    OutputRecorder,
    capture_outputs,
    depth_state_recorder,
    merge_with_config_defaults,
)


class AcnMixerEmbeddings(nn.Module):
    """One token of every patch of an image, row by row; there are no positions, since the tokens keep their places."""

    def __init__(self, config: AcnMixerConfig):
        super().__init__()
        self.image_shape = (config.num_channels, config.image_size, config.image_size)
        self.patch_embeddings = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if tuple(pixel_values.shape[1:]) != self.image_shape:
            raise ValueError(
                f"pixel_values must be of shape (batch_size, {', '.join(map(str, self.image_shape))}), since a Mixer "
                f"reads images of one size; got {tuple(pixel_values.shape)}"
            )
        embeddings = self.patch_embeddings(pixel_values.to(self.patch_embeddings.weight.dtype))
        return embeddings.flatten(2).transpose(1, 2)


class AcnMixerMLP(nn.Module):
    """The two linear layers that mix the channels of each token, `C`."""

    def __init__(self, config: AcnMixerConfig, size: int, intermediate_size: int):
        super().__init__()
        self.fc1 = nn.Linear(size, intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(intermediate_size, size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.fc2(self.dropout(self.activation(self.fc1(hidden_states)))))


class AcnMixerTokenMLP(AcnMixerMLP):
    """The two linear layers that mix the tokens of each channel, `T`."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states.transpose(1, 2)).transpose(1, 2)


class AcnMixerLayer(GradientCheckpointingLayer):
    """The block of MLP-Mixer: `u = T(LN1(h)) + c * h`, `h' = C(LN2(u)) + alpha * u`."""

    def __init__(self, config: AcnMixerConfig, layer_index: int):
        super().__init__()
        self.short_connection = ShortConnection(config, layer_index)
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.token_mlp = AcnMixerTokenMLP(config, config.num_patches, config.token_intermediate_size)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.channel_mlp = AcnMixerMLP(config, config.hidden_size, config.intermediate_size)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        tokens = self.token_mlp(self.layernorm_before(hidden_states))
        hidden_states = self.short_connection.around_attention(tokens, hidden_states)
        channels = self.channel_mlp(self.layernorm_after(hidden_states))
        return self.short_connection.around_mlp(channels, hidden_states)


class AcnMixerPaperLayer(GradientCheckpointingLayer):
    """The block of the paper's authors: `h' = LN(ReLU(Linear(C(T(h))) + alpha * h))`."""

    def __init__(self, config: AcnMixerConfig, layer_index: int):
        super().__init__()
        self.short_connection = ShortConnection(config, layer_index)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # As in every family, the MLP whose size is `intermediate_size` is the last: `prune_width` looks for it there.
        self.token_mlp = AcnMixerTokenMLP(config, config.num_patches, config.token_intermediate_size)
        self.channel_mlp = AcnMixerMLP(config, config.hidden_size, config.intermediate_size)

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        mixed = self.dense(self.channel_mlp(self.token_mlp(hidden_states)))
        return self.layernorm(self.short_connection.around_mlp(mixed, hidden_states).relu())


class AcnMixerPreTrainedModel(AcnPreTrainedModel):
    """Base of all AC-Mixer classes."""

    config: AcnMixerConfig
    config_class = AcnMixerConfig
    base_model_prefix = "mixer"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    layers_name: ClassVar[str] = "layers"
    supports_gradient_checkpointing = True
    _supports_sdpa = True  # as any other: there is no attention to implement
    _can_compile_fullgraph = True
    _input_embed_layer = "embeddings"  # whose output the first layer reads; that of the convolution is no sequence
    _can_record_outputs: ClassVar[dict] = {
        "hidden_states": depth_state_recorder(LongConnection),
        "layer_outputs": OutputRecorder(LongConnection, index=1),
    }


class AcnMixerModel(AcnMixerPreTrainedModel):
    """AC-Mixer without a head.

    `hidden_states[k]` is the depth state `y_k`, before the final LayerNorm; with `output_layer_outputs=True` the
    output also holds `layer_outputs`, where `layer_outputs[i]` is `x_i`. Both have `L + 1` entries of shape
    `(batch_size, num_patches, hidden_size)`. `last_hidden_state` is normed, `pooler_output` is the mean of its tokens.

    With `block_type="standard"` a layer is that of MLP-Mixer, whose norms stand before token and channel mixing, so the
    readout is that of AC-ViT. With `"paper"` it is `LN(ReLU(Linear(C(T(h))) + alpha * h))`; its norm stands after the
    addition, so the readout is that of AC-BERT.

    Source: arXiv 2506.09714, section 2; arXiv 2105.01601 for the network and its head; the block of `"paper"` is that
    of the first's authors.
    Differs from the paper: the standard block without its short connections, scales between 0 and 1 and the readouts
    are ours, and so are the final norm and the initial weights of the network around the authors' block.
    """

    pooler: ClassVar[None] = None  # the mean of the tokens has no weights

    def __init__(self, config: AcnMixerConfig):
        super().__init__(config)
        is_paper = config.block_type == "paper"
        layer_class = AcnMixerPaperLayer if is_paper else AcnMixerLayer
        self.embeddings = AcnMixerEmbeddings(config)
        self.layers = nn.ModuleList([layer_class(config, index) for index in range(config.num_hidden_layers)])
        self.long_connection = (PostNormLongConnection if is_paper else PreNormLongConnection)(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        # FSDP refuses the name of a class of which the model has no layer.
        self._no_split_modules = ["AcnMixerEmbeddings", layer_class.__name__]
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values: torch.Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> BaseModelOutputWithPooling:
        """Return the normed tokens and their mean.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`): The images.
        """
        if pixel_values is None:
            raise ValueError("pixel_values must be given")
        layers = self.layers[: self.config.num_hidden_layers]
        return self.readout(self.long_connection.run(layers, self.embeddings(pixel_values), **kwargs))

    def readout(self, depth_state: torch.Tensor) -> BaseModelOutputWithPooling:
        """Return the output of the model whose last depth state is `depth_state`."""
        normed = self.layernorm(depth_state)
        return BaseModelOutputWithPooling(last_hidden_state=normed, pooler_output=normed.mean(dim=1))


class AcnMixerForImageClassification(AcnMixerPreTrainedModel):
    """AC-Mixer with an image classifier, which reads the mean of all tokens."""

    def __init__(self, config: AcnMixerConfig):
        super().__init__(config)
        self.mixer = AcnMixerModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        """Return logits, and with labels a loss.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`): The images.
            labels (`torch.Tensor` of shape `(batch_size,)`, *optional*): Classes in `[0, num_labels - 1]`, or
                numbers where `num_labels` is 1.
        """
        outputs = self.mixer(pixel_values, return_dict=True, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = self.loss_function(labels, logits, self.config, **kwargs) if labels is not None else None
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)
