"""What the rivals share: the sentences, the fine-tuned model that some start from, how it trains, and the record.

What is unusual: nothing here needs acn_hf, because every rival runs in an environment of its own.
"""

import copy
import csv
import importlib.metadata
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

NO_SETTINGS = {"model", "train_file", "validation_file", "output_dir", "tuned", "seeds", "depths", "name"}
"""Arguments that a record does not repeat: where things lie, and what it says by itself."""


@dataclass
class Arguments:
    model: str = field(metadata={"help": "Folder of a BERT, with its tokenizer."})
    train_file: str = field(metadata={"help": "CSV with the columns text and label."})
    validation_file: str = field(metadata={"help": "What is measured; the same columns."})
    output_dir: str = field(metadata={"help": "A JSON file for each run; table.py makes the table of them."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Seeds."})
    batch_size: int = field(default=32, metadata={"help": "Sentences in a step."})
    max_length: int = field(default=64, metadata={"help": "Tokens in a sentence."})


@dataclass
class TeacherArguments(Arguments):
    tuned: str = field(
        default="runs/teaching/stages-seed{}/tuned",
        metadata={"help": "Folder of the fine-tuned weights, as compare_teaching.py stores them; {} is the seed."},
    )
    epochs: float = field(default=4.0, metadata={"help": "Epochs of training after the fine-tuning."})
    learning_rate: float = field(default=1e-4, metadata={"help": "The highest; 10%% warm-up, then along a line to 0."})
    depths: list[int] = field(default_factory=lambda: [3], metadata={"help": "Layers that are left."})


class Rows(NamedTuple):
    texts: list[str]
    labels: list[int]


def read_rows(path: str) -> Rows:
    """Return the sentences of a CSV file and their labels."""
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Rows([row["text"] for row in rows], [int(row["label"]) for row in rows])


def read_both(arguments: Arguments) -> tuple[Rows, Rows]:
    """Return what is trained on and what is measured."""
    return read_rows(arguments.train_file), read_rows(arguments.validation_file)


def encoded_rows(arguments: Arguments) -> list[list[dict[str, Any]]]:
    """Return what is trained on and what is measured, as a Trainer takes them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    both = []
    for rows in read_both(arguments):
        ids = tokenizer(rows.texts, truncation=True, max_length=arguments.max_length)["input_ids"]
        masks = [[1] * len(one) for one in ids]
        columns = zip(ids, masks, rows.labels, strict=True)
        both.append([dict(zip(("input_ids", "attention_mask", "labels"), row, strict=True)) for row in columns])
    return both


def collator(arguments: Arguments) -> Callable:
    """Return what makes a padded batch of encoded rows."""
    from transformers import AutoTokenizer, DataCollatorWithPadding

    return DataCollatorWithPadding(AutoTokenizer.from_pretrained(arguments.model))


def fine_tuned(arguments: TeacherArguments, seed: int) -> Any:
    """Return the fine-tuned model of a seed, in eval mode."""
    from safetensors.torch import load_file
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(arguments.model)
    model.load_state_dict(load_file(Path(arguments.tuned.format(seed), "weights.safetensors")))
    return model.eval()


def first_layers(model: Any, depth: int) -> Any:
    """Return a copy of a BERT with its first layers."""
    short = copy.deepcopy(model)
    short.base_model.encoder.layer = short.base_model.encoder.layer[:depth]
    short.config.num_hidden_layers = depth
    return short


def training_options(arguments: Any, seed: int) -> dict[str, Any]:
    """Return what every Trainer is told: 10% warm-up, bfloat16 on the CPU, and no checkpoint.

    Args:
        arguments (`Arguments`): With `epochs` and `learning_rate`.
        seed (`int`): Of the order of the examples and of dropout.
    """
    return {
        "output_dir": str(Path(arguments.output_dir, "checkpoints")),
        "num_train_epochs": arguments.epochs,
        "learning_rate": arguments.learning_rate,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": arguments.batch_size,
        "seed": seed,
        "bf16": True,
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 100,
        "dataloader_pin_memory": False,
    }


def training_arguments(arguments: TeacherArguments, seed: int) -> Any:
    """Return how everything trains that leaves this to its user: as the teacher and its students did."""
    from transformers import TrainingArguments

    return TrainingArguments(**training_options(arguments, seed), train_sampling_strategy="group_by_length")


def accuracy(arguments: Arguments, model: Any, rows: list[dict[str, Any]]) -> float:
    """Return the share of encoded rows that a classifier is right about."""
    import torch

    collate, right = collator(arguments), 0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            batch = collate(rows[start : start + 64])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(rows)


class Clock:
    """The seconds since it was made: on the wall, and of this process on its cores."""

    def __init__(self) -> None:
        self.began, self.began_on_core = time.monotonic(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": round(time.monotonic() - self.began, 1),
            "core_seconds": round(time.process_time() - self.began_on_core, 1),
        }


def runs_left(arguments: Arguments, methods: dict[str, Any]) -> Iterator[tuple[int, str, Any]]:
    """Yield the seed of every run that is not recorded, its method and what belongs to that, with all seeds set.

    Args:
        arguments (`Arguments`): With the seeds, and the folder of the records.
        methods (`dict[str, Any]`): What belongs to each method, its depth say, by its name in the table.
    """
    for seed in arguments.seeds:
        for method, what in methods.items():
            if not _record(arguments, method, seed).exists():
                set_seeds(seed)
                yield seed, method, what


def record(
    arguments: Arguments, method: str, seed: int, values: dict[int, float], times: dict[str, float], *packages: str,
    **facts: Any,
) -> None:  # fmt: skip
    """Write what a run came to, with its settings and circumstances.

    Args:
        arguments (`Arguments`): Its settings.
        method (`str`): Its name in the table.
        seed (`int`): Its seed.
        values (`dict[int, float]`): The accuracy by depth.
        times (`dict[str, float]`): What training took.
        packages (`str`): Whose versions are recorded besides torch and transformers.
        facts: Anything else.
    """
    settings = asdict(arguments)
    settings = {name: value for name, value in settings.items() if name not in NO_SETTINGS}
    run = {
        "name": method,
        "seed": seed,
        "depths": list(values),
        "values": list(values.values()),
        **times,
        **facts,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", *packages)},
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "settings": settings,
    }
    path = _record(arguments, method, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")
    print(f"{path.stem}: {' '.join(f'{value:.4f}' for value in values.values())} {times}", flush=True)


def set_seeds(seed: int) -> None:
    """Seed every source of random numbers."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _record(arguments: Arguments, method: str, seed: int) -> Path:
    return Path(arguments.output_dir, f"{method}-seed{seed}.json")
