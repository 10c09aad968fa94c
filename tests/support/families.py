"""Every family x head that the conformance suite runs on: one table entry each.

Sizes are tiny and dropout is off, so that train mode is deterministic; all weights and biases are random, so that
no layer, norm or bias is an identity by accident.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

import acn_hf
from tests.support import reference, residual_mixer
from tests.support.covering import covering

NUM_LAYERS = 3

BERT_FIELDS = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": 3,
}
VIT_FIELDS = {
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
    "encoder_stride": 4,
    "hidden_size": 16,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": 3,
}
MIXER_FIELDS = {
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
    "hidden_size": 16,
    "num_hidden_layers": NUM_LAYERS,
    "token_intermediate_size": 6,
    "intermediate_size": 24,
    "block_type": "standard",
    "num_labels": 3,
    "hidden_dropout_prob": 0.0,
}


def text(config, batch_size: int, *choices: int) -> dict[str, torch.Tensor]:
    """Return token ids and segments; no token is padding."""
    shape = (batch_size, *choices, 7)
    return {
        "input_ids": torch.randint(5, config.vocab_size, shape),
        "token_type_ids": (torch.arange(7) > 3).long().expand(shape).clone(),
        "attention_mask": torch.ones(shape, dtype=torch.long),
    }


def choices_of_text(config, batch_size: int) -> dict[str, torch.Tensor]:
    return text(config, batch_size, 2)


def images(config, batch_size: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(batch_size, config.num_channels, config.image_size, config.image_size)}


def masked_images(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Return images of four patches, two of which are masked in each."""
    mask = torch.tensor([[True, False, False, True]]).expand(batch_size, 4).clone()
    return {**images(config, batch_size), "bool_masked_pos": mask}


def no_labels(config, batch_size: int) -> dict[str, torch.Tensor]:
    return {}


def class_labels(config, batch_size: int) -> dict[str, torch.Tensor]:
    return {"labels": torch.randint(0, 2, (batch_size,))}


def token_labels(config, batch_size: int) -> dict[str, torch.Tensor]:
    return {"labels": torch.randint(0, 3, (batch_size, 7))}


def masked_token_labels(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Return labels of which two in each example count, so that every batch has the same share of them."""
    labels = torch.full((batch_size, 7), -100)
    labels[:, 1:3] = torch.randint(0, config.vocab_size, (batch_size, 2))
    return {"labels": labels}


def pretraining_labels(config, batch_size: int) -> dict[str, torch.Tensor]:
    next_sentence = class_labels(config, batch_size)["labels"]
    return {**masked_token_labels(config, batch_size), "next_sentence_label": next_sentence}


def answer_labels(config, batch_size: int) -> dict[str, torch.Tensor]:
    return {f"{end}_positions": torch.randint(0, 7, (batch_size,)) for end in ("start", "end")}


@dataclass(frozen=True)
class Head:
    """One head of one family and how to make, feed and read its models."""

    name: str
    acn: type[PreTrainedModel]
    upstream: type[PreTrainedModel]
    auto: str
    fields: dict[str, Any]
    naive_base: type[PreTrainedModel]
    make_features: Callable[[Any, int], dict[str, torch.Tensor]]
    make_labels: Callable[[Any, int], dict[str, torch.Tensor]] = no_labels
    own_fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the ACN config that the upstream config does not have."""
    has_head: bool = True
    has_attention: bool = True
    refused: dict[str, Any] = field(default_factory=dict)
    """Options that the config refuses: models are built without them."""

    def config(self, **options: Any) -> Any:
        options = {name: value for name, value in options.items() if (name, value) not in self.refused.items()}
        return self.acn.config_class(**{**self.fields, **self.own_fields, **options})

    def build(self, **options: Any) -> PreTrainedModel:
        """Return a model of random weights, in eval mode; the same weights at every call."""
        torch.manual_seed(1)
        model = self.acn(self.config(**options)).eval()
        for name, parameter in model.named_parameters():
            if not name.endswith("residual_scale"):
                torch.nn.init.normal_(parameter, mean=1.0 if _is_norm(name) else 0.0, std=0.3)
        return model

    def build_upstream(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the upstream model with the weights, dtype and mode of `model`."""
        upstream = self.upstream(self.upstream.config_class(**self.fields))
        upstream.set_attn_implementation(model.config._attn_implementation)
        upstream.load_state_dict(model.state_dict())
        return upstream.train(model.training)

    def build_naive(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the upstream head on top of the naive loop, with the weights and the connections of `model`."""
        if not self.has_head:
            naive = self.naive_base(model.config)
        else:
            naive = self.upstream(model.config)
            options = {"add_pooling_layer": naive.base_model.pooler is not None}
            if "mask_token" in dict(naive.base_model.embeddings.named_parameters()):
                options["use_mask_token"] = True
            setattr(naive, naive.base_model_prefix, self.naive_base(model.config, **options))
            naive.tie_weights()
        naive.to(model.dtype).load_state_dict(model.state_dict())
        return naive.train(model.training)

    def inputs(self, batch_size: int = 2, labels: bool = False) -> dict[str, torch.Tensor]:
        """Return a batch; the same at every call."""
        torch.manual_seed(2)
        config = self.config()
        features = self.make_features(config, batch_size)
        return {**features, **self.make_labels(config, batch_size)} if labels else features

    def loss(self, output: ModelOutput) -> torch.Tensor:
        """Return the loss; for a model that has none, one to which every output counts."""
        if self.has_loss:
            return output.loss
        names = ("last_hidden_state", "pooler_output") if not self.has_head else ("cls_logits", "distillation_logits")
        return sum(output[name].square().mean() for name in names)

    @property
    def has_loss(self) -> bool:
        """Whether upstream's model returns a loss."""
        return self.has_head and not self.name.endswith("WithTeacher")


def _is_norm(name: str) -> bool:
    return "norm" in name.lower() and name.endswith("weight")


def _bert(name: str, auto, make_features=text, make_labels=no_labels, has_head=True, **fields) -> Head:
    return Head(
        name=f"bert-{name}",
        acn=getattr(acn_hf, f"AcnBert{name}"),
        upstream=getattr(transformers, f"Bert{name}"),
        auto=auto,
        fields={**BERT_FIELDS, **fields},
        naive_base=reference.NaiveBertModel,
        make_features=make_features,
        make_labels=make_labels,
        has_head=has_head,
    )


def _vit(
    name: str,
    auto,
    make_features=images,
    make_labels=no_labels,
    has_head=True,
    family="ViT",
    naive=reference.NaiveViTModel,
) -> Head:
    return Head(
        name=f"{family.lower()}-{name}",
        acn=getattr(acn_hf, f"Acn{family}{name}"),
        upstream=getattr(transformers, f"{family}{name}"),
        auto=auto,
        fields=VIT_FIELDS,
        naive_base=naive,
        make_features=make_features,
        make_labels=make_labels,
        has_head=has_head,
    )


def _mixer(name: str, auto, make_labels=no_labels, has_head=True, block_type="standard") -> Head:
    is_paper = block_type == "paper"  # it has no short connection around token mixing
    return Head(
        name=f"mixer-{name}{'-paper' if is_paper else ''}",
        acn=getattr(acn_hf, f"AcnMixer{name}"),
        upstream=getattr(residual_mixer, f"ResidualMixer{name}"),
        auto=auto,
        fields={**MIXER_FIELDS, "block_type": block_type},
        naive_base=reference.NaiveMixerModel,
        make_features=images,
        make_labels=make_labels,
        has_head=has_head,
        has_attention=False,
        refused={"attention_residual": True} if is_paper else {},
    )


_deit = partial(_vit, family="DeiT", naive=reference.NaiveDeiTModel)

HEADS = [
    _bert("Model", "AutoModel", has_head=False),
    _bert("ForPreTraining", "AutoModelForPreTraining", text, pretraining_labels),
    _bert("ForMaskedLM", "AutoModelForMaskedLM", text, masked_token_labels),
    _bert("ForNextSentencePrediction", "AutoModelForNextSentencePrediction", text, class_labels),
    _bert("ForSequenceClassification", "AutoModelForSequenceClassification", text, class_labels),
    replace(
        _bert("ForSequenceClassification", "AutoModelForSequenceClassification", text, class_labels),
        name="bert-ForSequenceClassification-mean",
        upstream=reference.MeanPooledBert,
        own_fields={"pooling": "mean"},
    ),
    _bert("ForTokenClassification", "AutoModelForTokenClassification", text, token_labels),
    _bert("ForQuestionAnswering", "AutoModelForQuestionAnswering", text, answer_labels, num_labels=2),
    _bert("ForMultipleChoice", "AutoModelForMultipleChoice", choices_of_text, class_labels),
    _vit("Model", "AutoModel", has_head=False),
    _vit("ForImageClassification", "AutoModelForImageClassification", images, class_labels),
    replace(
        _vit("ForImageClassification", "AutoModelForImageClassification", images, class_labels),
        name="vit-ForImageClassification-mean",
        upstream=reference.MeanPooledViT,
        own_fields={"pooling": "mean"},
    ),
    _vit("ForMaskedImageModeling", "AutoModelForMaskedImageModeling", masked_images),
    _deit("Model", "AutoModel", has_head=False),
    _deit("ForImageClassification", "AutoModelForImageClassification", images, class_labels),
    _deit("ForImageClassificationWithTeacher", "AutoModelForImageClassification", images),
    _deit("ForMaskedImageModeling", "AutoModelForMaskedImageModeling", masked_images),
    _mixer("Model", "AutoModel", has_head=False),
    _mixer("Model", "AutoModel", has_head=False, block_type="paper"),
    _mixer("ForImageClassification", "AutoModelForImageClassification", class_labels),
    _mixer("ForImageClassification", "AutoModelForImageClassification", class_labels, block_type="paper"),
]
HEADED = [head for head in HEADS if head.has_head]
BASES = [head for head in HEADS if not head.has_head]
TRAINED = [head for head in HEADED if head.has_loss]


def by_name(name: str) -> Head:
    """Return the table entry of that name."""
    return next(head for head in HEADS if head.name == name)


_SCALES = {"alpha_0": 0.0, "alpha_half": 0.5, "alpha_1": 1.0, "alpha_list": [1.0, 0.25, 0.0]}

CONNECTIONS = {
    (scale, readout, attention): {
        "residual_scale": _SCALES[scale],
        "readout": readout,
        "attention_residual": attention == "attention",
    }
    for scale in _SCALES
    for readout in ("auto", "sum")
    for attention in ("strict", "attention")
}
"""All of residual scale x readout x attention residual."""

SOME_CONNECTIONS = {
    "acn": {},
    "mixed": {"residual_scale": [1.0, 0.25, 0.0], "readout": "sum", "attention_residual": True},
    "learned": {"residual_scale": [1.0, 0.25, 0.0], "learn_residual_scale": True},
}
"""A few that together use every field, for checks that cost more."""


REPEATED = {
    "deit-Model",
    "deit-ForImageClassification",
    "deit-ForMaskedImageModeling",
    "mixer-Model",
    "mixer-Model-paper",
}
"""Heads whose every line other heads run too: AC-DeiT is AC-ViT on other embeddings. `make test-all` has them."""


def as_values(heads: list[Head]) -> list[Any]:
    """Return heads as values of a test's parameter: those that repeat others are `full`."""
    marks = {True: [pytest.mark.full], False: []}
    return [pytest.param(head, id=head.name, marks=marks[head.name in REPEATED]) for head in heads]


def heads_in_turn(heads: list[Head] | None = None, *, whole: bool = True, **others: Mapping[str, Any] | list[Any]):
    """Parametrise a test over `head`, each with one combination of others, which take turns; the rest is `full`.

    For checks that cost more than a covering array is worth: with as many heads as there are combinations, each
    combination meets a head.

    Args:
        heads (`list[Head]`, *optional*): Defaults to all.
        whole (`bool`, *optional*, defaults to `True`): Whether the test has the rest at all.
        others: The values of each other argument of the test, or a mapping from their names.
    """
    named = [
        values.items() if isinstance(values, Mapping) else [(str(v), v) for v in values] for values in others.values()
    ]
    combinations, params, turn = list(itertools.product(*named)), [], 0
    for head in as_values(HEADS if heads is None else heads):
        chosen = None if head.marks else combinations[turn % len(combinations)]
        turn += not head.marks
        for combination in combinations:
            if whole or combination is chosen:
                name = "-".join([head.id, *(name for name, _ in combination)])
                marks = [] if combination is chosen else [pytest.mark.full]
                params.append(pytest.param(*head.values, *(value for _, value in combination), id=name, marks=marks))
    return pytest.mark.parametrize(("head", *others), params)


def each_head(heads: list[Head] | None = None, **others: Any):
    """Parametrise a test over `head`, and over others, of which each value meets each head."""
    return covering(head=as_values(HEADS if heads is None else heads), **others)
