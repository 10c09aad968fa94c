"""Attention that is fast where a training computes in bfloat16 on a CPU.

The backward pass of torch's fused attention takes there several times as long as that of plain matrix products, unless
sequences are long (benchmarks/attention.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import datasets
from transformers import PretrainedConfig, Trainer

from ..support.sentence_models import inner_model

LONGEST = 256
"""From about so many tokens on, fused attention is as fast."""
LOOKED_AT = 1000
"""Of so many examples the length is looked at."""


@contextmanager
def quick_attention(trainer: Trainer, length_of: Callable[[], float] | None = None) -> Iterator[None]:
    """Let the model of a Trainer attend as is fast, for as long as the block lasts; nothing changes but rounding.

    It attends by transformers' `"eager"` functions instead of by `"sdpa"` where that is slow, and as before afterwards.

    Args:
        trainer (`Trainer`): Ready to train.
        length_of (`Callable`, *optional*): Returns how many tokens an example has in the mean; it is asked only where
            that matters. Defaults to what the rows show, if they are tokens, or images whose patches the config counts;
            if nothing is known, nothing is changed.
    """
    model = inner_model(trainer.model)
    config = model.config
    is_slow = trainer.args.bf16 and trainer.args.device.type == "cpu" and config._attn_implementation == "sdpa"
    if not is_slow or not model._can_set_attn_implementation():
        yield
        return
    length = _length_in(trainer.train_dataset, config) if length_of is None else length_of()
    if length is None or length > LONGEST:
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")
        config._attn_implementation = "sdpa"  # a model of which layers left has another config by now


def _length_in(rows: Any, config: PretrainedConfig) -> float | None:
    rows = getattr(rows, "rows", rows)  # numbered ones
    if isinstance(rows, datasets.Dataset) and "input_ids" in rows.column_names:
        examples = rows.with_format(None)[:LOOKED_AT]["input_ids"]
        if examples and isinstance(examples[0][0], list):  # a list for each choice
            examples = [choice for example in examples for choice in example]
        return fmean(map(len, examples)) if examples else None
    size, patch = (getattr(config, name, None) for name in ("image_size", "patch_size"))
    return (size / patch) ** 2 + 1 if isinstance(size, int) and isinstance(patch, int) else None
