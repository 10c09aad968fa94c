"""MLP-Mixers with all their short connections, written plainly: what AC-Mixer is at residual scale 1.

transformers has none. The weights have the names of AC-Mixer; `timm_stand_in.py` has those of timm.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout, gelu
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput


class ResidualMixerConfig(PreTrainedConfig):
    """Holds whatever fields it is given."""

    model_type = "residual_mixer"


class ResidualMixerMLP(nn.Module):
    """Two linear layers, with dropout after each."""

    def __init__(self, config, size, neurons):
        super().__init__()
        self.fc1, self.fc2, self.rate = nn.Linear(size, neurons), nn.Linear(neurons, size), config.hidden_dropout_prob

    def forward(self, x):
        x = dropout(gelu(self.fc1(x)), self.rate, self.training)
        return dropout(self.fc2(x), self.rate, self.training)


class ResidualMixerLayer(nn.Module):
    """The block of arXiv 2105.01601, or that of the authors of arXiv 2506.09714."""

    def __init__(self, config):
        super().__init__()
        size, tokens = config.hidden_size, (config.image_size // config.patch_size) ** 2
        self.is_paper = config.block_type == "paper"
        self.token_mlp = ResidualMixerMLP(config, tokens, config.token_intermediate_size)
        self.channel_mlp = ResidualMixerMLP(config, size, config.intermediate_size)
        if self.is_paper:
            self.dense, self.layernorm = nn.Linear(size, size), nn.LayerNorm(size, eps=1e-6)
        else:
            self.layernorm_before, self.layernorm_after = nn.LayerNorm(size, eps=1e-6), nn.LayerNorm(size, eps=1e-6)

    def mix_tokens(self, x):
        return self.token_mlp(x.transpose(1, 2)).transpose(1, 2)

    def forward(self, x):
        if self.is_paper:
            return self.layernorm(torch.relu(self.dense(self.channel_mlp(self.mix_tokens(x))) + x))
        x = x + self.mix_tokens(self.layernorm_before(x))
        return x + self.channel_mlp(self.layernorm_after(x))


class ResidualMixerPreTrainedModel(PreTrainedModel):
    config_class = ResidualMixerConfig
    base_model_prefix = "mixer"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    pooler = None


class ResidualMixerModel(ResidualMixerPreTrainedModel):
    """Images to tokens."""

    def __init__(self, config, **options):
        super().__init__(config)
        patch = config.patch_size
        self.embeddings = nn.ModuleDict(
            {"patch_embeddings": nn.Conv2d(config.num_channels, config.hidden_size, patch, patch)}
        )
        self.layers = nn.ModuleList([ResidualMixerLayer(config) for _ in range(config.num_hidden_layers)])
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=1e-6)
        self.post_init()

    def embed(self, pixel_values):
        return self.embeddings["patch_embeddings"](pixel_values.to(self.dtype)).flatten(2).transpose(1, 2)

    def forward(self, pixel_values, output_hidden_states=False, **options):
        states = [self.embed(pixel_values)]
        for layer in self.layers:
            states.append(layer(states[-1]))
        normed = self.layernorm(states[-1])
        recorded = tuple(states) if output_hidden_states else None
        return BaseModelOutputWithPooling(normed, normed.mean(dim=1), hidden_states=recorded)


class ResidualMixerForImageClassification(ResidualMixerPreTrainedModel):
    """Images to classes."""

    def __init__(self, config):
        super().__init__(config)
        self.mixer = ResidualMixerModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values, labels=None, **options):
        outputs = self.mixer(pixel_values)
        logits = self.classifier(outputs.pooler_output)
        loss = None if labels is None else cross_entropy(logits, labels)
        return ImageClassifierOutput(loss, logits, outputs.hidden_states)
