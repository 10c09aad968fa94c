"""What early exit saves by the clock: 12 layers of which the examples run a known share, against the whole network.

    python benchmarks/early_exit.py

Goal: at batch size 32 the time is at most 1.15 times `mean exit depth / 12` of the time at full depth. The head is read
at every depth, as it is in use; which example leaves where is planned, and does not depend on what the head says.
"""

import statistics
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from timing import interleaved, ratio, store
from transformers import PreTrainedModel

from acn_hf import (
    AcnBertConfig,
    AcnBertForMaskedLM,
    AcnBertForSequenceClassification,
    AcnViTConfig,
    AcnViTForImageClassification,
    ExitPolicy,
    predict_early_exit,
)

SIZE = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 12}
NUM_LAYERS = SIZE["num_hidden_layers"]


@dataclass(frozen=True)
class PlannedExit(ExitPolicy):
    """Example `i` leaves at depth `plan[i]`; what the head says is computed and not used."""

    plan: tuple[int, ...]
    bound: ClassVar[float] = 0.0

    def score(self, logits: torch.Tensor, depth: int, memory: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        if memory is None:
            memory = torch.tensor(self.plan, device=logits.device).repeat_interleave(len(logits) // len(self.plan))
        return depth - memory, memory


def spread(batch_size: int) -> tuple[int, ...]:
    """Return exit depths spread evenly over 2 to 10, in no order."""
    depths = [2 + 8 * row // max(batch_size - 1, 1) for row in range(batch_size)] if batch_size > 1 else [6]
    order = torch.randperm(batch_size, generator=torch.Generator().manual_seed(0)).tolist()
    return tuple(depths[row] for row in order)


def compare(model: PreTrainedModel, inputs: dict[str, torch.Tensor], rounds: int, **options: Any) -> dict[str, Any]:
    """Return times of both ways, their ratio, and the share of the layers that ran."""
    policy = PlannedExit(spread(len(next(iter(inputs.values())))))

    def full() -> None:
        with torch.no_grad():
            model(**inputs)

    times = interleaved(
        {"early exit": lambda: predict_early_exit(model, inputs, policy, **options), "full depth": full}, rounds=rounds
    )
    share = statistics.mean(policy.plan) / NUM_LAYERS
    measured = ratio(times, "early exit", "full depth")
    return {
        "times": times,
        "early exit / full depth": measured,
        "mean exit depth / 12": share,
        "overhead": measured / share,
    }


def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier = AcnBertForSequenceClassification(AcnBertConfig(vocab_size=8192, **SIZE)).to(device).eval()
    images = AcnViTForImageClassification(AcnViTConfig(image_size=64, patch_size=8, **SIZE)).to(device).eval()
    words = AcnBertForMaskedLM(AcnBertConfig(vocab_size=8192, **SIZE)).to(device).eval()
    ids = torch.randint(1, 8192, (128, 64), device=device)
    lengths = torch.randint(32, 65, (32, 1), device=device)
    padded = {"input_ids": ids[:32], "attention_mask": (torch.arange(64, device=device) < lengths).long()}
    masked = torch.arange(64, device=device).expand(32, 64) % 8 == 3
    results = {
        "bert, batch 32": compare(classifier, {"input_ids": ids[:32]}, rounds=11),
        "bert, batch 1": compare(classifier, {"input_ids": ids[:1]}, rounds=41),
        "bert, batch 128": compare(classifier, {"input_ids": ids}, rounds=5),
        "bert, batch 32, padded": compare(classifier, padded, rounds=11),
        "vit, batch 32": compare(images, {"pixel_values": torch.randn(32, 3, 64, 64, device=device)}, rounds=11),
        "masked words, batch 32, one token of 8 counts": compare(
            words, {"input_ids": ids[:32]}, rounds=5, counted=masked
        ),
    }
    store("early_exit", results)


if __name__ == "__main__":
    main()
