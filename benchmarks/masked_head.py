"""The price of a step of masked language modelling, whose head is as dear as many layers.

    python benchmarks/masked_head.py

Goals, in one run: with the head on the masked tokens alone an AC-BERT takes at most as long as upstream's residual BERT
with the head on all tokens, as upstream's own script trains it; with supervision at one other depth at most 1.10 times.
"""

import functools
from contextlib import nullcontext
from typing import Any

import torch
from timing import interleaved, ratio, store
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from acn_hf import AcnBertConfig, AcnBertForMaskedLM, intermediate_supervision
from acn_hf.training.labelled_tokens import LabelledTokens

FIELDS = {
    "vocab_size": 8192,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 8,
}
BATCH, LENGTH, MASKED = 16, 128, 0.15


def batch() -> dict[str, torch.Tensor]:
    """Return blocks of tokens of which some are to be guessed."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, FIELDS["vocab_size"], (BATCH, LENGTH), generator=draw)
    labels = torch.where(torch.rand(BATCH, LENGTH, generator=draw) < MASKED, ids, -100)
    return {"input_ids": ids, "labels": labels}


def step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, inputs: dict[str, torch.Tensor], bf16: bool) -> None:
    """Train on one batch."""
    with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        loss = model(**inputs).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def supervised_step(model: PreTrainedModel, *others: Any) -> None:
    """Train on one batch, with the loss at one other depth."""
    with intermediate_supervision(model, "linear", num_depths=1):
        step(model, *others)


def main() -> None:
    """Time steps, and write medians and ratios."""
    torch.manual_seed(0)
    models = {
        "upstream": BertForMaskedLM(BertConfig(**FIELDS)),
        "BERT": BertForMaskedLM(BertConfig(**FIELDS)),
        "AC-BERT": AcnBertForMaskedLM(AcnBertConfig(**FIELDS)),
    }
    inputs, calls = batch(), {}
    for name, model in models.items():
        optimizer = torch.optim.AdamW(model.train().parameters())
        if name != "upstream":
            LabelledTokens(model)
        for bf16 in (False, True):
            suffix = ", bfloat16" if bf16 else ""
            calls[name + suffix] = functools.partial(step, model, optimizer, inputs, bf16)
            if name == "AC-BERT":
                calls[f"{name}, supervised{suffix}"] = functools.partial(
                    supervised_step, model, optimizer, inputs, bf16
                )
    times = interleaved(calls, rounds=9)
    ratios = {f"{name} / upstream": ratio(times, name, "upstream") for name in calls if name != "upstream"}
    store("masked_head", {"times": times, **ratios})


if __name__ == "__main__":
    main()
