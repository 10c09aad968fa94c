"""Small random models of transformers, of every kind that has depth: one table entry each.

A new family needs its entry here, and nothing in the package.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

NUM_LAYERS = 4
BODY = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": NUM_LAYERS}
IMAGES = {"image_size": 16, "patch_size": 4}
TOKENS = {"vocab_size": 60, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {**BODY, **TOKENS}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 16}


def texts() -> dict[str, torch.Tensor]:
    """Return three texts: a whole one, one with padding on the right, one with padding on the left."""
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[1, 6:] = mask[2, :2] = 0
    ids = torch.randint(5, 50, (3, 9), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids * mask, "attention_mask": mask}


def pixels(*shape: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Return a function that returns two images or videos."""
    return lambda: {"pixel_values": torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))}


def sound(*shape: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Return a function that returns two sounds."""
    return lambda: {"input_values": torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))}


@dataclass(frozen=True)
class AnyModel:
    """A class of transformers, and what a small model of it is made of.

    Args:
        name (`str`): Of the class.
        fields (`dict`): Of its config.
        inputs (`Callable`): Returns what it takes.
        auto (`str`): The Auto class that reads its checkpoints; empty where there is none.
        lowest (`int`): The lowest depth that upstream can do.
    """

    name: str
    fields: dict[str, Any]
    inputs: Callable[[], dict[str, torch.Tensor]] = texts
    auto: str = "AutoModelForSequenceClassification"
    lowest: int = 0

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths that tests look at: the lowest, 1, 2, and all layers."""
        return tuple(sorted({self.lowest, 1, 2, NUM_LAYERS}))

    def build(self, **changed: Any) -> transformers.PreTrainedModel:
        """Return a model with random weights, the same every time, in eval mode."""
        torch.manual_seed(0)
        model_class = getattr(transformers, self.name)
        return model_class(model_class.config_class(**{**self.fields, **changed})).eval()

    @property
    def reader(self) -> str:
        """The class to read a checkpoint with."""
        return self.auto or self.name


IMAGE, AUDIO, CAUSAL = "AutoModelForImageClassification", "AutoModelForAudioClassification", "AutoModelForCausalLM"
TOWERS = {"vision_config": {**BODY, **IMAGES}, "text_config": {**BODY, **TOKENS}}
ALL = [
    AnyModel("BertForSequenceClassification", TEXT),
    AnyModel("BertForTokenClassification", TEXT, auto="AutoModelForTokenClassification"),
    AnyModel("RobertaForSequenceClassification", TEXT),
    AnyModel("XLMRobertaForMaskedLM", TEXT, auto="AutoModelForMaskedLM"),
    AnyModel(
        "DistilBertForSequenceClassification",
        {**TOKENS, "dim": 32, "n_heads": 2, "hidden_dim": 48, "n_layers": NUM_LAYERS},
    ),
    AnyModel("ElectraForSequenceClassification", {**TEXT, "embedding_size": 16}),
    AnyModel("ModernBertForSequenceClassification", {**TEXT, "cls_token_id": 1, "sep_token_id": 2}, lowest=1),
    AnyModel(
        "ModernBertForMaskedLM", {**TEXT, "cls_token_id": 1, "sep_token_id": 2}, auto="AutoModelForMaskedLM", lowest=1
    ),
    AnyModel(
        "DebertaV2ForSequenceClassification",
        {**TEXT, "type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        lowest=1,
    ),
    AnyModel("MPNetForSequenceClassification", TEXT),
    AnyModel("NomicBertForSequenceClassification", TEXT),
    AnyModel("EuroBertForSequenceClassification", {**GROUPED, "mask_token_id": 3}),
    AnyModel("LayoutLMForSequenceClassification", TEXT),
    AnyModel("ViTForImageClassification", {**BODY, **IMAGES}, pixels(3, 16, 16), IMAGE),
    AnyModel("DeiTForImageClassification", {**BODY, **IMAGES}, pixels(3, 16, 16), ""),
    AnyModel("Dinov2ForImageClassification", {**BODY, **IMAGES}, pixels(3, 16, 16), IMAGE),
    AnyModel("Dinov2WithRegistersForImageClassification", {**BODY, **IMAGES}, pixels(3, 16, 16), IMAGE),
    AnyModel("DINOv3ViTModel", {**BODY, **IMAGES}, pixels(3, 16, 16), "AutoModel"),
    AnyModel("BeitForImageClassification", {**BODY, **IMAGES}, pixels(3, 16, 16), IMAGE),
    AnyModel("SiglipForImageClassification", TOWERS, pixels(3, 16, 16), IMAGE),
    AnyModel("SiglipVisionModel", {**BODY, **IMAGES}, pixels(3, 16, 16), ""),
    AnyModel("CLIPForImageClassification", TOWERS, pixels(3, 16, 16), IMAGE),
    AnyModel("CLIPVisionModel", {**BODY, **IMAGES}, pixels(3, 16, 16), ""),
    AnyModel("ASTForAudioClassification", {**BODY, "max_length": 32, "num_mel_bins": 16}, sound(32, 16), AUDIO),
    AnyModel(
        "Wav2Vec2ForSequenceClassification",
        {
            **BODY,
            "conv_dim": (16, 16),
            "conv_stride": (4, 4),
            "conv_kernel": (4, 4),
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
        },
        sound(400),
        AUDIO,
    ),
    AnyModel(
        "VideoMAEForVideoClassification",
        {**BODY, **IMAGES, "num_frames": 4},
        pixels(4, 3, 16, 16),
        "AutoModelForVideoClassification",
    ),
    AnyModel(
        "GPT2LMHeadModel",
        {
            "n_embd": 32,
            "n_head": 2,
            "n_layer": NUM_LAYERS,
            "n_positions": 40,
            "vocab_size": 60,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        auto=CAUSAL,
    ),
    AnyModel("LlamaForCausalLM", GROUPED, auto=CAUSAL),
    AnyModel("Qwen3ForCausalLM", GROUPED, auto=CAUSAL),
    AnyModel("Gemma3ForCausalLM", GROUPED, auto=CAUSAL),
]

FIRST = {
    "BertForSequenceClassification",
    "DistilBertForSequenceClassification",
    "ModernBertForMaskedLM",
    "DebertaV2ForSequenceClassification",
    "ViTForImageClassification",
    "Dinov2ForImageClassification",
    "SiglipForImageClassification",
    "Wav2Vec2ForSequenceClassification",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
}
"""Classes that differ most: names of fields, towers, kinds of matrices, of inputs and of attention."""


def first_of(entries: Sequence[Any] = ALL, first: Collection[str] = FIRST) -> list[Any]:
    """Return entries as values of a test that costs more than most: all but the first are `full`."""
    return [
        pytest.param(entry, id=entry.name, marks=[] if entry.name in first else pytest.mark.full) for entry in entries
    ]


MORE_KINDS = [
    AnyModel("BertForMultipleChoice", TEXT, auto="AutoModelForMultipleChoice"),
    AnyModel("BertModel", TEXT, auto="AutoModel"),
    AnyModel("LlamaForSequenceClassification", GROUPED),
    AnyModel("MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}, auto=CAUSAL),
    AnyModel("ViTForMaskedImageModeling", {**BODY, **IMAGES, "encoder_stride": 4}, pixels(3, 16, 16)),
    AnyModel(
        "WhisperForAudioClassification",
        {
            **{f"{part}_layers": NUM_LAYERS for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
            **{f"{part}_ffn_dim": 48 for part in ("encoder", "decoder")},
            **TOKENS,
            "d_model": 32,
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "decoder_start_token_id": 1,
        },
        auto=AUDIO,
    ),
    AnyModel("Wav2Vec2BertForSequenceClassification", {**BODY, "feature_projection_input_dim": 16}, auto=AUDIO),
]
"""Other heads, and other inputs, of kinds that are above: what is asked of their signature, config and Auto class."""


CHANCE = ("drop", "mask_time_prob", "mask_feature_prob")
"""What the fields of a config are called by which a pass in train mode is another one each time."""


def without_chance(entry: AnyModel) -> transformers.PreTrainedModel:
    """Return a model in train mode that computes the same in every pass."""
    fields = vars(entry.build().config)
    chances = [name for name, value in fields.items() if isinstance(value, float) and any(c in name for c in CHANCE)]
    return entry.build(**dict.fromkeys(chances, 0.0)).train()


def batch_of(entry: AnyModel, number: int) -> dict[str, torch.Tensor]:
    """Return so many examples, all of them different; of texts some have padding, on either side."""
    inputs, draw = entry.inputs(), torch.Generator().manual_seed(1)
    rows = torch.arange(number) % len(next(iter(inputs.values())))
    repeated = {name: value[rows] for name, value in inputs.items()}
    if "input_ids" in repeated:
        ids = torch.randint(5, 50, repeated["input_ids"].shape, generator=draw)
        return {**repeated, "input_ids": ids * repeated["attention_mask"]}
    return {name: value + torch.randn(value.shape, generator=draw) for name, value in repeated.items()}


def with_labels(entry: AnyModel, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return inputs with labels of the kind that the head learns from."""
    ids = inputs.get("input_ids")
    if entry.auto in ("AutoModelForMaskedLM", "AutoModelForCausalLM"):
        return {**inputs, "labels": ids.clone()}
    if entry.auto == "AutoModelForTokenClassification":
        return {**inputs, "labels": ids % 2}
    return {**inputs, "labels": torch.arange(len(next(iter(inputs.values())))) % 2}


def any_model(name: str) -> AnyModel:
    """Return the entry of a class."""
    return next(entry for entry in (*ALL, *MORE_KINDS) if entry.name == name)
