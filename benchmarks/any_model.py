"""The price of depth for models of transformers as they are: profiles, and the loss at every depth while training.

    python benchmarks/any_model.py

Goals, for classifiers of 12 layers: a profile of all depths costs at most 1.10 times one evaluation, and the loss at
every depth at most 1.10 times a plain step of training.
"""

import functools

import torch
from timing import interleaved, ratio, store
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from acn_hf import intermediate_supervision
from acn_hf.depth import depth_outputs

SIZE = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_hidden_layers": 12}
TEXT = {**SIZE, "vocab_size": 8192, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TOKENS = {"input_ids": torch.randint(5, 8000, (16, 64), generator=torch.Generator().manual_seed(0))}
PIXELS = {"pixel_values": torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
LANGUAGE = "Llama, vocabulary of 512"
"""Its head predicts each token out of so many: at every depth it costs an eighth of a layer, whoever computes it."""
MODELS = {
    "BERT": (lambda: BertForSequenceClassification(BertConfig(**TEXT)), TOKENS),
    "ModernBERT": (
        lambda: ModernBertForSequenceClassification(ModernBertConfig(**TEXT, cls_token_id=1, sep_token_id=2)),
        TOKENS,
    ),
    "Llama": (lambda: LlamaForSequenceClassification(LlamaConfig(**TEXT)), TOKENS),
    LANGUAGE: (
        lambda: LlamaForCausalLM(LlamaConfig(**{**TEXT, "vocab_size": 512})),
        {"input_ids": TOKENS["input_ids"] % 512},
    ),
    "ViT": (lambda: ViTForImageClassification(ViTConfig(**SIZE, image_size=64, patch_size=8)), PIXELS),
}


def evaluate(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> None:
    """Run one batch at full depth."""
    with torch.no_grad():
        model(**inputs)


def read_every_depth(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> None:
    """Run one batch and read every depth."""
    with torch.no_grad():
        for _ in depth_outputs(model, inputs):
            pass


def step(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> None:
    """Run one batch forwards and backwards."""
    model.zero_grad()
    model(**inputs).loss.backward()


def supervised_step(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> None:
    """Run one batch forwards and backwards, with the loss at every depth."""
    with intermediate_supervision(model, "uniform"):
        step(model, inputs)


def main() -> None:
    """Time both for every model, and write medians and ratios."""
    results = {}
    for name, (build, inputs) in MODELS.items():
        torch.manual_seed(0)
        model = build().eval()
        calls = {"evaluation": evaluate, "every depth": read_every_depth}
        times = interleaved({key: functools.partial(call, model, inputs) for key, call in calls.items()}, rounds=9)
        results[name] = {"times": times, "profile / evaluation": ratio(times, "every depth", "evaluation")}
        if name == LANGUAGE:
            continue
        model.train()
        labelled = {**inputs, "labels": torch.arange(16) % 2}
        calls = {"step": step, "supervised step": supervised_step}
        times = interleaved({key: functools.partial(call, model, labelled) for key, call in calls.items()}, rounds=9)
        results[name] |= {"training": times, "supervised / plain step": ratio(times, "supervised step", "step")}
    store("any_model", results)


if __name__ == "__main__":
    main()
