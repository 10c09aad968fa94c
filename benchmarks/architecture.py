"""The price of the architecture: AC-BERT and AC-ViT against upstream of the same size, and depth 6 against 12.

    python benchmarks/architecture.py

Goals: forward and training step at most 1.02 times upstream; depth 6 of 12 at most 0.55 times depth 12.
"""

from collections.abc import Callable

import torch
from timing import interleaved, ratio, store
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from acn_hf import (
    AcnBertConfig,
    AcnBertForSequenceClassification,
    AcnViTConfig,
    AcnViTForImageClassification,
    truncate,
)

SIZE = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 12}
TEXT = {"vocab_size": 8192, **SIZE}
IMAGE = {"image_size": 64, "patch_size": 8, **SIZE}


def forward(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Callable[[], None]:
    """Return a function that runs one forward pass."""

    def step() -> None:
        with torch.no_grad():
            model.eval()(**inputs)

    return step


def training_step(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Callable[[], None]:
    """Return a function that runs one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        model.train()(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(acn: PreTrainedModel, upstream: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> dict:
    """Return times and ratios for one family."""
    steps = {}
    for kind, make in {"forward": forward, "training": training_step}.items():
        steps |= {f"{kind} acn": make(acn, inputs), f"{kind} upstream": make(upstream, inputs)}
    steps["forward depth 6"] = forward(truncate(acn, 6), inputs)
    times = interleaved(steps, rounds=25)
    return {
        "times": times,
        "forward acn / upstream": ratio(times, "forward acn", "forward upstream"),
        "training acn / upstream": ratio(times, "training acn", "training upstream"),
        "depth 6 / depth 12": ratio(times, "forward depth 6", "forward acn"),
    }


def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    labels = torch.zeros(8, dtype=torch.long, device=device)
    text = {"input_ids": torch.randint(1, 8192, (8, 128), device=device), "labels": labels}
    image = {"pixel_values": torch.randn(8, 3, 64, 64, device=device), "labels": labels}
    results = {
        "bert": compare(
            AcnBertForSequenceClassification(AcnBertConfig(**TEXT)).to(device),
            BertForSequenceClassification(BertConfig(**TEXT)).to(device),
            text,
        ),
        "vit": compare(
            AcnViTForImageClassification(AcnViTConfig(**IMAGE)).to(device),
            ViTForImageClassification(ViTConfig(**IMAGE)).to(device),
            image,
        ),
    }
    store("architecture", results)


if __name__ == "__main__":
    main()
