"""The price of a training step in bfloat16 on a CPU, by how a model attends.

    python benchmarks/attention.py

`quick_attention` lets short sequences be attended by transformers' "eager" functions. Goal, in one run: a step takes at
most as long as by "sdpa" up to a length of 256, and less where texts are short.
"""

import functools
from typing import Any

import torch
from timing import interleaved, ratio, store
from transformers import BertConfig, BertForSequenceClassification

FIELDS = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_attention_heads": 12,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "attention_probs_dropout_prob": 0.0,
}
TOKENS = 2048
"""In a batch, whatever the length of its texts."""
LENGTHS = (16, 32, 64, 128, 256, 512)


def step(model: Any, inputs: dict[str, torch.Tensor], attention: str) -> None:
    """Compute the gradients of one batch."""
    model.set_attn_implementation(attention)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**inputs).loss
    loss.backward()
    model.zero_grad()


def main() -> None:
    """Time steps, and write medians and ratios."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**FIELDS)).train()
    calls = {}
    for length in LENGTHS:
        ids = torch.randint(5, FIELDS["vocab_size"], (TOKENS // length, length))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}
        for attention in ("sdpa", "eager"):
            calls[f"{attention}, {length} tokens"] = functools.partial(step, model, inputs, attention)
    times = interleaved(calls, rounds=9)
    ratios = {
        f"eager / sdpa, {length} tokens": ratio(times, f"eager, {length} tokens", f"sdpa, {length} tokens")
        for length in LENGTHS
    }
    store("attention", {"times": times, **ratios})


if __name__ == "__main__":
    main()
