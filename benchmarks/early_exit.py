"""What early exit saves by the clock: 12 layers of which the examples run a known share, against the whole network.

    python benchmarks/early_exit.py

Goals: where the head is read at depths 3, 6 and 9 the time of a classifier is at most 1.10 times `mean exit depth / 12`
of the time at full depth, at batch sizes 1 and 32, for ACNs and for models of transformers; where it is read at every
depth, at most 1.15 times at batch size 32. What is timed is the view of `with_early_exit`, which is what is served;
which example leaves where is planned, and does not depend on what the head says.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from timing import interleaved, ratio, store
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from acn_hf import (
    AcnBertConfig,
    AcnBertForMaskedLM,
    AcnBertForSequenceClassification,
    AcnViTConfig,
    AcnViTForImageClassification,
    ExitPolicy,
    with_early_exit,
)

SIZE = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 12}
NUM_LAYERS = SIZE["num_hidden_layers"]
SOME = (3, 6, 9)


@dataclass(frozen=True)
class PlannedExit(ExitPolicy):
    """Example `i` leaves at depth `plan[i]`; what the head says is computed and not used."""

    plan: tuple[int, ...]
    bound: ClassVar[float] = 0.0

    def score(self, logits: torch.Tensor, depth: int, memory: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        if memory is None:
            memory = torch.tensor(self.plan, device=logits.device).repeat_interleave(len(logits) // len(self.plan))
        return depth - memory, memory


def spread(batch_size: int, depths: Sequence[int]) -> tuple[int, ...]:
    """Return exit depths spread evenly over some depths, in no order; of one example, the middle one."""
    if batch_size == 1:
        return (depths[len(depths) // 2],)
    plan = [depths[row * len(depths) // batch_size] for row in range(batch_size)]
    order = torch.randperm(batch_size, generator=torch.Generator().manual_seed(0)).tolist()
    return tuple(plan[row] for row in order)


def compare(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], rounds: int, some: bool = False, counted: Any = None
) -> dict[str, Any]:
    """Return times of both ways, their ratio, and the share of the layers that ran.

    Args:
        model (`PreTrainedModel`): In eval mode.
        inputs (`dict`): What it takes.
        rounds (`int`): How often both are timed.
        some (`bool`, *optional*, defaults to `False`): Whether the head is read at depths 3, 6 and 9 alone.
        counted (`Callable`, *optional*): See [`with_early_exit`].
    """
    batch_size = len(next(iter(inputs.values())))
    policy = PlannedExit(spread(batch_size, SOME if some else range(2, 11)), depths=SOME if some else None)
    view = with_early_exit(model, policy, counted=counted)

    def run(which: PreTrainedModel) -> None:
        with torch.no_grad():
            which(**inputs)

    times = interleaved({"early exit": lambda: run(view), "full depth": lambda: run(model)}, rounds=rounds)
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
    text = {"vocab_size": 8192, **SIZE}
    image = {"image_size": 64, "patch_size": 8, **SIZE}
    models = {
        "AC-BERT": AcnBertForSequenceClassification(AcnBertConfig(**text)),
        "BERT": BertForSequenceClassification(BertConfig(**text)),
        "AC-ViT": AcnViTForImageClassification(AcnViTConfig(**image)),
        "ViT": ViTForImageClassification(ViTConfig(**image)),
    }
    ids = torch.randint(1, 8192, (128, 64), device=device)
    pixels = torch.randn(32, 3, 64, 64, device=device)
    lengths = torch.randint(32, 65, (32, 1), device=device)
    padded = {"input_ids": ids[:32], "attention_mask": (torch.arange(64, device=device) < lengths).long()}
    results = {}
    for name, model in models.items():
        model.to(device).eval()
        inputs = {"pixel_values": pixels} if "ViT" in name else {"input_ids": ids}
        for size, rounds in ((1, 41), (32, 11)):
            batch = {key: value[:size] for key, value in inputs.items()}
            results[f"{name}, batch {size}"] = compare(model, batch, rounds)
            results[f"{name}, batch {size}, read at 3, 6, 9"] = compare(model, batch, rounds, some=True)
    wide = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    base = BertForSequenceClassification(BertConfig(**{**text, **wide})).to(device).eval()
    results["BERT of width 768, batch 1, read at 3, 6, 9"] = compare(base, {"input_ids": ids[:1]}, 21, some=True)
    for name in ("AC-BERT", "BERT"):
        results[f"{name}, batch 128"] = compare(models[name], {"input_ids": ids}, rounds=5)
        results[f"{name}, batch 32, padded"] = compare(models[name], padded, rounds=11)
    words = {"AC-BERT": AcnBertForMaskedLM(AcnBertConfig(**text)), "BERT": BertForMaskedLM(BertConfig(**text))}
    for name, model in words.items():
        for some in (False, True):
            results[f"{name}, masked words, batch 32, one token of 8 counts{', read at 3, 6, 9' * some}"] = compare(
                model.to(device).eval(), {"input_ids": ids[:32]}, rounds=5, some=some, counted=one_of_8
            )
    store("early_exit", results)


def one_of_8(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return which tokens count."""
    ids = inputs["input_ids"]
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape) % 8 == 3


if __name__ == "__main__":
    main()
