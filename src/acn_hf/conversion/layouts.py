"""Families of transformers that compute what BERT computes and give its weights other names.

A layout says where their weights stand in BERT. A family is here only if nothing but names, a table of positions or
an absent table of segments differs: activations, norms and their order must be those of BERT.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Weights = dict[str, torch.Tensor]
POSITIONS, SEGMENTS = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"


class ConversionError(ValueError):
    """A model or checkpoint whose weights do not map to an ACN."""


@dataclass(frozen=True)
class Layout:
    """Where the weights of one family stand in another.

    Args:
        heads (`tuple[str, ...]`): Ends of the names of the classes that map: `"ForMaskedLM"`.
        layers (`str`, *optional*): Dotted name of the list of layers, seen from the base model.
        renames (`tuple[tuple[str, str], ...]`): Patterns and what replaces them, one after the other.
        fields (`Callable`): Returns the fields of the other config that differ, for a config.
        complete (`Callable`): Returns the weights, which have their new names already, as the other family holds them.
        own_fields (`Callable`): The way back: returns the fields of this family's config that differ, for a config of
            the other.
        own_weights (`Callable`): The way back: returns the weights, which have their names of the other family still,
            as this family holds them.
        check (`Callable`): Raises `ConversionError` if the config of a class, which is named, asks for what does not
            map.
        padding_side (`str`, *optional*): The side on which texts must be padded, where positions depend on it.
    """

    heads: tuple[str, ...] = ()
    layers: str | None = None
    renames: tuple[tuple[str, str], ...] = ()
    fields: Callable[[Any], dict[str, Any]] = field(default=lambda config: {})
    complete: Callable[[Weights, Any], Weights] = field(default=lambda weights, config: weights)
    own_fields: Callable[[Any], dict[str, Any]] = field(default=lambda config: {})
    own_weights: Callable[[Weights, Any], Weights] = field(default=lambda weights, config: weights)
    check: Callable[[Any, str], None] = field(default=lambda config, name: None)
    padding_side: str | None = None

    def rename(self, name: str) -> str:
        """Return the name in the other family of a weight of this one."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


def layout_of(name: str) -> Layout:
    """Return the layout of a class of transformers; that of a family with an ACN of its own changes nothing."""
    family = family_of(name)
    return Layout() if family is None else LAYOUTS[family]


def family_of(name: str) -> str | None:
    """Return the family of a class of transformers that has no ACN of its own, by the beginning of its name."""
    return next((family for family in LAYOUTS if name in _classes(family)), None)


def check_padding_side(processor: Any, name: str) -> None:
    """Raise `ConversionError` if a tokenizer pads texts where the converted weights of a class do not allow it."""
    wanted, side = layout_of(name).padding_side, getattr(processor, "padding_side", None)
    if wanted is not None and side not in (None, wanted):
        raise ConversionError(
            f"the padding_side of the tokenizer of a {name} must be {wanted!r}, since the positions of its texts begin "
            f"at the first token then; got {side!r}"
        )


def mapped_classes() -> dict[str, str]:
    """Return the class of BERT for each class of another family whose weights map to it."""
    return {name: f"Bert{name.removeprefix(family)}" for family in LAYOUTS for name in _classes(family)}


def _classes(family: str) -> list[str]:
    return [family + head for head in LAYOUTS[family].heads]


def _first_position(config: Any) -> int:
    """Return the row of RoBERTa's positions at which texts begin: those before stand for padding."""
    return config.pad_token_id + 1


def _roberta_fields(config: Any) -> dict[str, Any]:
    return {"max_position_embeddings": config.max_position_embeddings - _first_position(config)}


def _without_first_positions(weights: Weights, config: Any) -> Weights:
    first = _first_position(config)
    return {name: weight[first:].clone() if name.endswith(POSITIONS) else weight for name, weight in weights.items()}


def _own_roberta_fields(config: Any) -> dict[str, Any]:
    _check_padding_token(config, "RoBERTa")
    return {"max_position_embeddings": config.max_position_embeddings + _first_position(config)}


def _with_first_positions(weights: Weights, config: Any) -> Weights:
    """Put rows of zeros, which upstream starts that of padding with, before the positions of texts."""
    first = _first_position(config)
    return {
        name: torch.cat([weight.new_zeros(first, weight.shape[1]), weight]) if name.endswith(POSITIONS) else weight
        for name, weight in weights.items()
    }


def _check_padding_token(config: Any, name: str) -> None:
    if config.pad_token_id is None:
        raise ConversionError(
            f"pad_token_id must be a number, since the positions of {name} begin after it; got {config.pad_token_id}"
        )


def _check_roberta(config: Any, name: str) -> None:
    _check_padding_token(config, name)
    if name.endswith("ForMaskedLM") and config.hidden_act != "gelu":
        raise ConversionError(
            f"hidden_act must be 'gelu', which the head of {name} uses whatever it is; got {config.hidden_act!r}"
        )


ROBERTA = Layout(
    heads=(
        "Model",
        "ForMaskedLM",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
        "ForMultipleChoice",
    ),
    layers="encoder.layer",
    renames=(
        (r"^roberta\.", "bert."),
        (r"^lm_head\.dense\.", "cls.predictions.transform.dense."),
        (r"^lm_head\.layer_norm\.", "cls.predictions.transform.LayerNorm."),
        (r"^lm_head\.", "cls.predictions."),
        (r"^classifier\.dense\.", "bert.pooler.dense."),
        (r"^classifier\.out_proj\.", "classifier."),
    ),
    fields=_roberta_fields,
    complete=_without_first_positions,
    own_fields=_own_roberta_fields,
    own_weights=_with_first_positions,
    check=_check_roberta,
    padding_side="right",
)


def _distilbert_fields(config: Any) -> dict[str, Any]:
    return {
        "hidden_size": config.dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.hidden_dim,
        "hidden_act": config.activation,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
    }


def _with_empty_segments(weights: Weights, config: Any) -> Weights:
    """Add segments that add nothing, and the second name of the bias over the vocabulary."""
    added = {}
    for name, weight in weights.items():
        if name.endswith(POSITIONS):
            added[name.removesuffix(POSITIONS) + SEGMENTS] = weight.new_zeros(2, config.dim)
        if name == "cls.predictions.bias":
            added["cls.predictions.decoder.bias"] = weight.clone()
    return weights | added


def _own_distilbert_fields(config: Any) -> dict[str, Any]:
    if config.layer_norm_eps != 1e-12:
        raise ConversionError(f"layer_norm_eps must be 1e-12 to be that of DistilBERT; got {config.layer_norm_eps}")
    return {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "hidden_dim": config.intermediate_size,
        "activation": config.hidden_act,
        "dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob,
    }


def _without_segments(weights: Weights, config: Any) -> Weights:
    """Take away the segments, of which the first is added to all tokens, and the second name of the bias."""
    kept = {}
    for name, weight in weights.items():
        if name.endswith(POSITIONS):
            weight = weight + weights[name.removesuffix(POSITIONS) + SEGMENTS][:1]
        if not name.endswith(SEGMENTS) and name != "cls.predictions.bias":
            kept[name] = weight
    if "cls.predictions.decoder.bias" in kept:  # the one that is added, where the two are not tied
        kept["cls.predictions.bias"] = kept.pop("cls.predictions.decoder.bias")
    return kept


DISTILBERT = Layout(
    heads=("Model", "ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering"),
    layers="transformer.layer",
    renames=(
        (r"^distilbert\.", "bert."),
        (r"(^|\.)transformer\.layer\.", r"\1encoder.layer."),
        (r"\.attention\.q_lin\.", ".attention.self.query."),
        (r"\.attention\.k_lin\.", ".attention.self.key."),
        (r"\.attention\.v_lin\.", ".attention.self.value."),
        (r"\.attention\.out_lin\.", ".attention.output.dense."),
        (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
        (r"\.ffn\.lin1\.", ".intermediate.dense."),
        (r"\.ffn\.lin2\.", ".output.dense."),
        (r"\.output_layer_norm\.", ".output.LayerNorm."),
        (r"^vocab_transform\.", "cls.predictions.transform.dense."),
        (r"^vocab_layer_norm\.", "cls.predictions.transform.LayerNorm."),
        (r"^vocab_projector\.weight$", "cls.predictions.decoder.weight"),
        (r"^vocab_projector\.bias$", "cls.predictions.bias"),
    ),
    fields=_distilbert_fields,
    complete=_with_empty_segments,
    own_fields=_own_distilbert_fields,
    own_weights=_without_segments,
)


def _check_electra(config: Any, name: str) -> None:
    if config.embedding_size != config.hidden_size:
        raise ConversionError(
            f"embedding_size must be hidden_size, since BERT has no layer between the two; this {name} has "
            f"{config.embedding_size} and {config.hidden_size}"
        )


ELECTRA = Layout(
    heads=("Model", "ForTokenClassification", "ForQuestionAnswering"),
    layers="encoder.layer",
    renames=((r"^electra\.", "bert."),),
    own_fields=lambda config: {"embedding_size": config.hidden_size},
    check=_check_electra,
)

LAYOUTS: dict[str, Layout] = {
    "Camembert": ROBERTA,
    "DistilBert": DISTILBERT,
    "Electra": ELECTRA,
    "Roberta": ROBERTA,
    "XLMRoberta": ROBERTA,
}
"""The layout of each family, by the beginning of the names of its classes."""

REASONS: dict[str, str] = {
    "DistilBertForMultipleChoice": "whose head uses ReLU where that of BERT uses tanh",
    "DistilBertForSequenceClassification": "whose head uses ReLU where that of BERT uses tanh",
    "ElectraForMaskedLM": "whose head is not that of BERT",
    "ElectraForMultipleChoice": "whose head uses GELU where that of BERT uses tanh",
    "ElectraForPreTraining": "whose head is not that of BERT",
    "ElectraForSequenceClassification": "whose head uses GELU where that of BERT uses tanh",
}
"""Why a class does not map whose family does."""
