"""The equations of the README as naive loops over plain lists: the oracle of the conformance suite.

Attention, MLP and norms are upstream's, of which Mixers have theirs in `residual_mixer.py`; every addition is written
out here, in the order in which the equations stand, and every layer output is kept. Nothing of acn_hf is used but the
fields of its config.
"""

import torch
from transformers import BertForSequenceClassification, BertModel, DeiTModel, ViTForImageClassification, ViTModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    BaseModelOutputWithPoolingAndCrossAttentions,
    ImageClassifierOutput,
    SequenceClassifierOutput,
)

from tests.support.residual_mixer import ResidualMixerModel


def scales(config, layer: int) -> tuple[float, float]:
    """Return `(alpha, c)` of one layer."""
    alpha = config.residual_scale
    alpha = alpha[layer] if isinstance(alpha, list) else alpha
    return alpha, 1.0 if config.attention_residual else alpha


def layer_input(config, outputs):
    """Return what the next layer reads; with `direct_gradient_only`, nothing below learns from it."""
    return outputs[-1].detach() if config.direct_gradient_only else outputs[-1]


class NaiveBertModel(BertModel):
    """`u = LN1(A(h) + c*h); h' = LN2(M(u) + alpha*u); y' = (1 - alpha)*y + h'`, or `y' = y + h'` for the sum."""

    def forward(self, input_ids, attention_mask, token_type_ids, **options):
        embeddings = self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        mask = (1.0 - attention_mask[:, None, None, :].to(embeddings.dtype)) * torch.finfo(embeddings.dtype).min
        outputs, states = [embeddings], [embeddings]
        for i, layer in enumerate(self.encoder.layer):
            alpha, c = scales(self.config, i)
            h, y, end = layer_input(self.config, outputs), states[-1], layer.attention.output
            u = end.LayerNorm(end.dense(layer.attention.self(h, mask)[0]) + c * h)
            outputs.append(layer.output.LayerNorm(layer.output.dense(layer.intermediate(u)) + alpha * u))
            states.append((y if self.config.readout == "sum" else (1 - alpha) * y) + outputs[-1])
        pooled = None if self.pooler is None else self.pooler(states[-1])
        return BaseModelOutputWithPoolingAndCrossAttentions(states[-1], pooled, hidden_states=tuple(states))


class NaivePatchModel:
    """`u = c*h + a; h' = alpha*u + m; y' = y + m + alpha*a`, or `y' = y + h'` for the sum."""

    def forward(self, pixel_values, bool_masked_pos=None, **options):
        embeddings = self.embeddings(pixel_values, bool_masked_pos=bool_masked_pos)
        outputs, states = [embeddings], [embeddings]
        for i, layer in enumerate(self.layers):
            alpha, c = scales(self.config, i)
            h, y = layer_input(self.config, outputs), states[-1]
            a = layer.attention(layer.layernorm_before(h))[0]
            u = c * h + a
            m = layer.mlp(layer.layernorm_after(u))
            outputs.append(alpha * u + m)
            states.append(y + outputs[-1] if self.config.readout == "sum" else y + m + alpha * a)
        normed = self.layernorm(states[-1])
        pooled = None if self.pooler is None else self.pooler(normed)
        return BaseModelOutputWithPooling(normed, pooled, hidden_states=tuple(states))


class NaiveViTModel(NaivePatchModel, ViTModel):
    """ViT on the naive loop."""


class NaiveDeiTModel(NaivePatchModel, DeiTModel):
    """DeiT on the naive loop, which is that of ViT."""


class NaiveMixerModel(ResidualMixerModel):
    """The loop of ViT with token and channel mixing, or `h' = LN(ReLU(D(C(T(h))) + alpha*h))` and that of BERT."""

    def forward(self, pixel_values, **options):
        outputs = [self.embed(pixel_values)]
        states = outputs[:]
        for i, layer in enumerate(self.layers):
            alpha, c = scales(self.config, i)
            h, y = layer_input(self.config, outputs), states[-1]
            if self.config.block_type == "paper":
                mixed = layer.dense(layer.channel_mlp(layer.mix_tokens(h)))
                outputs.append(layer.layernorm(torch.relu(mixed + alpha * h)))
                kept = (1 - alpha) * y + outputs[-1]
            else:
                t = layer.mix_tokens(layer.layernorm_before(h))
                u = c * h + t
                m = layer.channel_mlp(layer.layernorm_after(u))
                outputs.append(alpha * u + m)
                kept = y + m + alpha * t
            states.append(y + outputs[-1] if self.config.readout == "sum" else kept)
        normed = self.layernorm(states[-1])
        return BaseModelOutputWithPooling(normed, normed.mean(dim=1), hidden_states=tuple(states))


class MeanPooledViT(ViTForImageClassification):
    """Upstream's classifier on the mean of all tokens, which upstream does not have."""

    def forward(self, pixel_values, labels=None, **options):
        outputs = self.vit(pixel_values, **options)
        logits = self.classifier(outputs.last_hidden_state.mean(dim=1))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class MeanPooledBert(BertForSequenceClassification):
    """Upstream's classifier on the mean of the tokens that are not padding, which upstream does not have."""

    def __init__(self, config):
        super().__init__(config)
        self.bert.pooler = None

    def forward(self, input_ids, attention_mask, token_type_ids=None, labels=None, return_dict=True, **options):
        outputs = self.bert(input_ids, attention_mask, token_type_ids, **options)
        shares = attention_mask / attention_mask.sum(dim=1, keepdim=True)
        means = torch.bmm(shares[:, None].to(outputs[0].dtype), outputs[0])[:, 0]
        logits = self.classifier(self.dropout(means))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)
