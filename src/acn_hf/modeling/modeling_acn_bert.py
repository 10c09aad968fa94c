"""AC-BERT: the BERT of transformers with auto-compressing connections.

Only the additions around attention and MLP and the loop over the layers are ours; the weights, their names and
the heads are upstream's.
"""

from typing import ClassVar

import torch
from torch import nn
from transformers import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertPreTrainedModel,
)
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPoolingAndCrossAttentions,
    SequenceClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .configuration_acn_bert import AcnBertConfig
from .connectivity import LongConnection, PostNormLongConnection, ShortConnection
from .modeling_acn import AcnHead, AcnPreTrainedModel
from .upstream import BertLayer, BertSelfAttention, OutputRecorder, apply_chunking_to_forward, depth_state_recorder


class AcnBertLayer(BertLayer):
    """One block: `u = LN1(A(h) + c * h)`, `h' = LN2(M(u) + alpha * u)`."""

    def __init__(self, config: AcnBertConfig, layer_index: int):
        super().__init__(config, layer_idx=layer_index)
        self.short_connection = ShortConnection(config, layer_index)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *args, **kwargs):
        attention, _ = self.attention.self(hidden_states, attention_mask=attention_mask, **kwargs)
        end = self.attention.output
        attention = end.dropout(end.dense(attention))
        attention = end.LayerNorm(self.short_connection.around_attention(attention, hidden_states))
        return apply_chunking_to_forward(
            self.feed_forward_chunk, self.chunk_size_feed_forward, self.seq_len_dim, attention
        )

    def feed_forward_chunk(self, attention_output: torch.Tensor) -> torch.Tensor:
        end = self.output
        mlp = end.dropout(end.dense(self.intermediate(attention_output)))
        return end.LayerNorm(self.short_connection.around_mlp(mlp, attention_output))


class AcnBertEncoder(nn.Module):
    """The layers and the long connections from each of them to the output."""

    def __init__(self, config: AcnBertConfig):
        super().__init__()
        self.config = config
        self.layer = nn.ModuleList([AcnBertLayer(config, index) for index in range(config.num_hidden_layers)])
        self.long_connection = PostNormLongConnection(config)

    def forward(self, hidden_states: torch.Tensor, *args, use_cache: bool | None = None, **kwargs):
        layers = self.layer[: self.config.num_hidden_layers]
        depth_state = self.long_connection.run(layers, hidden_states, *args, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=depth_state)


class AcnBertPreTrainedModel(AcnPreTrainedModel, BertPreTrainedModel):
    """Base of all AC-BERT classes."""

    config: AcnBertConfig
    config_class = AcnBertConfig
    layers_name: ClassVar[str] = "encoder.layer"
    accepts_loss_kwargs = False  # BERT's heads take the mean over their own batch
    _no_split_modules: ClassVar[list[str]] = ["BertEmbeddings", "AcnBertLayer"]
    _can_record_outputs: ClassVar[dict] = {
        "hidden_states": depth_state_recorder(LongConnection),
        "layer_outputs": OutputRecorder(LongConnection, index=1),
        "attentions": BertSelfAttention,
    }


class AcnBertModel(AcnBertPreTrainedModel, BertModel):
    """AC-BERT without a head.

    `hidden_states[k]` is the depth state `y_k`; with `output_layer_outputs=True` the output also holds
    `layer_outputs`, where `layer_outputs[i]` is `x_i`. Both have `L + 1` entries of shape
    `(batch_size, sequence_length, hidden_size)`.

    Source: arXiv 2506.09714, section 2 and its AC-BERT.
    """

    def __init__(self, config: AcnBertConfig, add_pooling_layer: bool = True):
        super().__init__(config, add_pooling_layer=add_pooling_layer)
        self.encoder = AcnBertEncoder(config)
        self.post_init()

    def readout(self, depth_state: torch.Tensor) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """Return the output of the model whose last depth state is `depth_state`."""
        pooled = self.pooler(depth_state) if self.pooler is not None else None
        return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=depth_state, pooler_output=pooled)


def mean_of_tokens(states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean state of the tokens that are not padding.

    Args:
        states (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`): One a token.
        attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`): 0 where a token is padding.
    """
    if attention_mask is None:
        return states.mean(dim=1)
    shares = attention_mask / attention_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (shares.to(states.dtype).unsqueeze(1) @ states).squeeze(1)


class AcnBertHead(AcnHead, AcnBertPreTrainedModel):
    """Base of AC-BERT with a head."""

    base_model_class = AcnBertModel


class AcnBertForPreTraining(AcnBertHead, BertForPreTraining):
    """AC-BERT with a masked-language-model head and a next-sentence head."""


class AcnBertForMaskedLM(AcnBertHead, BertForMaskedLM):
    """AC-BERT with a masked-language-model head."""


class AcnBertForNextSentencePrediction(AcnBertHead, BertForNextSentencePrediction):
    """AC-BERT with a next-sentence head."""


class AcnBertForSequenceClassification(AcnBertHead, BertForSequenceClassification):
    """AC-BERT with a classifier or regressor of whole sequences, which reads what `config.pooling` says."""

    def __init__(self, config: AcnBertConfig):
        super().__init__(config)
        if config.pooling == "mean":
            self.bert.pooler = None

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Like upstream, with `config.pooling`."""
        texts = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        if self.config.pooling == "cls":
            return super().forward(*texts, labels, return_dict=True, **kwargs)
        outputs = self.bert(*texts, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(mean_of_tokens(outputs.last_hidden_state, attention_mask)))
        loss = self.loss_function(labels, logits, self.config, **kwargs) if labels is not None else None
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class AcnBertForTokenClassification(AcnBertHead, BertForTokenClassification):
    """AC-BERT with a classifier of tokens."""


class AcnBertForQuestionAnswering(AcnBertHead, BertForQuestionAnswering):
    """AC-BERT with a head for the start and the end of an answer."""


class AcnBertForMultipleChoice(AcnBertHead, BertForMultipleChoice):
    """AC-BERT with a head that scores one of several choices."""
