"""Configuration of AC-BERT."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .configuration_acn import AcnConfig


@strict
class AcnBertConfig(AcnConfig, BertConfig):
    r"""
    Configuration of AC-BERT: the fields of [`~transformers.BertConfig`], those of [`AcnConfig`], and two more.

    `attention_residual` defaults to `True`: checkpoints of BERT were converted with it, and in a short training
    masked-language-model losses were lower with it at every depth. Where every depth has a loss, it is the other way.

    Args:
        pooling (`"cls"` or `"mean"`, *optional*, defaults to `"cls"`):
            What the classifier of sequences reads: the pooler's output for the CLS token, as upstream, or the mean of
            all tokens that are not padding, as checkpoints of sentence embeddings were trained. In these, the CLS token
            of the lower layers says little.
        original_model_type (`str`, *optional*):
            The family of transformers, such as `"roberta"`, whose weights these were before `from_residual` gave them
            the names of BERT; `to_residual` returns to it. `None` where it was BERT.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4))
    >>> model.config.residual_scale
    0.0

    ```
    """

    model_type: ClassVar[str] = "acn_bert"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "cache",
        "past_key_values",
        "hidden_states",
        "layer_outputs",
    ]
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "configuration_acn_bert.AcnBertConfig",
        "AutoModel": "modeling_acn_bert.AcnBertModel",
        "AutoModelForTextEncoding": "modeling_acn_bert.AcnBertModel",
        "AutoModelForPreTraining": "modeling_acn_bert.AcnBertForPreTraining",
        "AutoModelForMaskedLM": "modeling_acn_bert.AcnBertForMaskedLM",
        "AutoModelForNextSentencePrediction": "modeling_acn_bert.AcnBertForNextSentencePrediction",
        "AutoModelForSequenceClassification": "modeling_acn_bert.AcnBertForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_acn_bert.AcnBertForTokenClassification",
        "AutoModelForQuestionAnswering": "modeling_acn_bert.AcnBertForQuestionAnswering",
        "AutoModelForMultipleChoice": "modeling_acn_bert.AcnBertForMultipleChoice",
    }

    attention_residual: bool = True
    pooling: Literal["cls", "mean"] = "cls"
    original_model_type: str | None = None
    use_cache: bool = False

    def validate_encoder_only(self) -> None:
        if self.is_decoder or self.add_cross_attention:
            raise ValueError(
                "AC-BERT is an encoder: is_decoder and add_cross_attention must be False; "
                f"got is_decoder={self.is_decoder}, add_cross_attention={self.add_cross_attention}"
            )
