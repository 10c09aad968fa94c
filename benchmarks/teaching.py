"""The price of teaching every depth: whole runs of the stock Trainer, against plain fine-tuning for as many steps.

    python benchmarks/teaching.py

Goals, in one run: with answers that the teacher gave once for each example at most 1.15 times plain fine-tuning, the
asking included; with a teacher that is asked in every step at most 1.45 times. So that a goal is about training and
not about its beginning, there are 192 examples: calming looks at 64 of them, which costs the same for any number.

It takes about seven minutes of two idle cores.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from any_model import MODELS
from timing import interleaved, ratio, store
from transformers import PreTrainedModel, default_data_collator
from transformers.utils import logging

from acn_hf import teach, truncate
from acn_hf.training import StageSettings, fine_tune

EPOCHS = 4
ROWS = 192
KINDS = ("BERT", "ViT")


def rows_of(inputs: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Return so many examples with labels, of the size of a batch of the other benchmarks."""
    number = len(next(iter(inputs.values())))
    return [{**{name: value[row % number] for name, value in inputs.items()}, "labels": row % 2} for row in range(ROWS)]


def maker(folder: str, rows: list[dict[str, Any]]) -> Any:
    """Return a function from a model to its Trainer, which writes no checkpoint before the end."""
    settings = StageSettings(Path(folder), torch.device("cpu"), batch_size=16, checkpoint_every=10**6)
    return settings.maker("timed", EPOCHS, rows, default_data_collator)


def plain(model: PreTrainedModel, make: Any) -> None:
    """Fine-tune a copy of a model."""
    fine_tune(truncate(model, 12), make)


def taught(model: PreTrainedModel, make: Any, remember: bool) -> None:
    """Let a model teach every depth of a copy."""
    teach(model, make, remember=remember)


def main() -> None:
    """Time whole runs, and write medians and ratios."""
    logging.disable_progress_bar()
    results = {}
    for name in KINDS:
        build, inputs = MODELS[name]
        torch.manual_seed(0)
        model, rows = build().eval(), rows_of(inputs)
        with tempfile.TemporaryDirectory() as folder:
            make = maker(folder, rows)
            calls = {
                "fine-tuning": functools.partial(plain, model, make),
                "taught, remembered": functools.partial(taught, model, make, True),
                "taught, live": functools.partial(taught, model, make, False),
            }
            times = interleaved(calls, rounds=3, warmup=0)
        results[name] = {
            "times": times,
            "remembered / fine-tuning": ratio(times, "taught, remembered", "fine-tuning"),
            "live / fine-tuning": ratio(times, "taught, live", "fine-tuning"),
        }
    store("teaching", results)


if __name__ == "__main__":
    main()
