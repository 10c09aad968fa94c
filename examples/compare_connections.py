"""Compare the connections of a network at equal steps: strict ACN, ACN with attention residual, residual network.

What is unusual: one script for images and text, one folder per run with the model, its training record and its depth
profile. A run that is complete is skipped, so the script can be stopped and started again at any time; at the end it
prints the table of all runs of the task. `docs/experiments.md` holds the tables that it printed.

    python examples/compare_connections.py --task digits
    python examples/compare_connections.py --task images --data_dir FASHION_MNIST
    python examples/compare_connections.py --task text --train_file CORPUS.txt.gz OTHER.txt.gz

and the honest baseline, a residual network trained from scratch at a small depth, with `--connections residual
--num_hidden_layers 4`.

Cost of one run on one CPU core: digits 1 minute, images 3 minutes, text 12 minutes.
"""

import gzip
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from transformers import (
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from acn_hf import (
    AcnBertConfig,
    AcnBertForMaskedLM,
    AcnMixerConfig,
    AcnMixerForImageClassification,
    AcnViTConfig,
    AcnViTForImageClassification,
    DepthProfile,
    LabelledTokensCallback,
    measure_depth_profile,
)
from acn_hf.data import read_idx, train_tokenizer

CONNECTIONS = {
    "strict": {"residual_scale": 0.0, "attention_residual": False},
    "attention": {"residual_scale": 0.0, "attention_residual": True},
    "residual": {"residual_scale": 1.0, "attention_residual": False},
}

FAMILIES: dict[str, tuple[Any, Any, dict[str, int]]] = {
    "vit": (AcnViTConfig, AcnViTForImageClassification, {"num_attention_heads": 4}),
    "mixer": (AcnMixerConfig, AcnMixerForImageClassification, {"token_intermediate_size": 32}),
}


@dataclass
class Arguments:
    task: str = field(metadata={"help": "digits, images (gzipped IDX files) or text (one passage a line)."})
    connections: list[str] = field(
        default_factory=lambda: list(CONNECTIONS),
        metadata={"help": f"Any of {', '.join(CONNECTIONS)}."},
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run for each."})
    family: str = field(default="vit", metadata={"help": "Of the tasks with images: vit or mixer."})
    num_hidden_layers: int | None = field(default=None, metadata={"help": "Defaults to 12, for text to 8."})
    num_epochs: float | None = field(default=None, metadata={"help": "Defaults to 40 for digits, 5 for images."})
    max_steps: int = field(default=3000, metadata={"help": "Training steps for text, of 16 sequences."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW, cosine schedule."})
    initializer_range: float = field(
        default=0.02, metadata={"help": "Standard deviation of the first weights; 0.02 is what transformers has."}
    )
    num_train_examples: int = field(default=20_000, metadata={"help": "Training images for the images task."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with train-images-idx3-ubyte.gz."})
    train_file: list[str] | None = field(default=None, metadata={"help": "Text files, plain or gzipped."})
    output_dir: str = field(default="runs", metadata={"help": "Where models and results are written."})

    def __post_init__(self) -> None:
        if not set(self.connections) <= set(CONNECTIONS):
            raise ValueError(f"connections must be {', '.join(CONNECTIONS)}; got {', '.join(self.connections)}")
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}; got {self.family}")


@dataclass
class Task:
    """What the runs of a task share; `evaluation` is used for the profile only."""

    train: datasets.Dataset
    evaluation: datasets.Dataset
    metric: str
    training: dict[str, Any]
    build: Callable[[str], PreTrainedModel]
    collate: Callable | None = None


def digits(arguments: Arguments) -> Task:
    """Return the task of scikit-learn's 1,797 digits; 40% are held out."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels.reshape(-1, 1, 8, 8) / 16).astype(np.float32) * 2 - 1
    train, evaluation = train_test_split(np.arange(len(labels)), test_size=0.4, random_state=0, stratify=labels)
    return images_task(pixels, labels, train, evaluation, patch_size=2, epochs=40, arguments=arguments)


def images(arguments: Arguments) -> Task:
    """Return the task of gzipped IDX files; the last 10,000 training images are held out, test images not touched."""
    if arguments.data_dir is None:
        raise ValueError("--data_dir must name the folder with train-images-idx3-ubyte.gz; got none")
    folder = Path(arguments.data_dir)
    pixels = read_idx(folder / "train-images-idx3-ubyte.gz", num_dimensions=3)
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz", num_dimensions=1)
    pixels = (pixels.reshape(-1, 1, 28, 28) / 255).astype(np.float32) * 2 - 1
    train, evaluation = np.arange(arguments.num_train_examples), np.arange(50_000, 60_000)
    return images_task(pixels, labels, train, evaluation, patch_size=7, epochs=5, arguments=arguments)


def images_task(
    pixels: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    evaluation: np.ndarray,
    *,
    patch_size: int,
    epochs: float,
    arguments: Arguments,
) -> Task:
    """Return the task of grey images of ten classes."""

    def rows(index: np.ndarray) -> datasets.Dataset:
        columns = {"pixel_values": pixels[index], "labels": labels[index].astype(np.int64)}
        return datasets.Dataset.from_dict(columns).with_format("torch")

    def build(connection: str) -> PreTrainedModel:
        config_class, model_class, width = FAMILIES[arguments.family]
        config = config_class(
            image_size=pixels.shape[-1],
            patch_size=patch_size,
            num_channels=1,
            num_labels=10,
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=arguments.num_hidden_layers or 12,
            initializer_range=arguments.initializer_range,
            **width,
            **CONNECTIONS[connection],
        )
        return model_class(config)

    training = {"num_train_epochs": arguments.num_epochs or epochs, "per_device_train_batch_size": 64}
    return Task(rows(train), rows(evaluation), "accuracy", training, build)


def text(arguments: Arguments, sequence_length: int = 64, vocab_size: int = 4096) -> Task:
    """Return the task of masked language modelling; 1,000 sequences, masked once and for all, are held out."""
    if not arguments.train_file:
        raise ValueError("--train_file must name text files; got none")
    lines = [line for name in arguments.train_file for line in read_lines(Path(name))]
    tokenizer = train_tokenizer(lines, vocab_size)
    encoded = tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"]
    ids = [number for line in encoded for number in line]
    width = sequence_length - 2
    blocks = np.array(ids[: len(ids) // width * width]).reshape(-1, width)
    edge = np.ones((len(blocks), 1), int)
    blocks = np.concatenate([edge * tokenizer.cls_token_id, blocks, edge * tokenizer.sep_token_id], axis=1)
    blocks = blocks[np.random.default_rng(0).permutation(len(blocks))]
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    torch.manual_seed(0)
    held_out = mask([{"input_ids": row.tolist()} for row in blocks[:1000]])
    evaluation = {name: held_out[name].tolist() for name in ("input_ids", "labels")}

    def build(connection: str) -> PreTrainedModel:
        config = AcnBertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_attention_heads=4,
            num_hidden_layers=arguments.num_hidden_layers or 8,
            max_position_embeddings=sequence_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=arguments.initializer_range,
            **CONNECTIONS[connection],
        )
        return AcnBertForMaskedLM(config)

    return Task(
        train=datasets.Dataset.from_dict({"input_ids": blocks[1000:]}).with_format("torch"),
        evaluation=datasets.Dataset.from_dict(evaluation).with_format("torch"),
        metric="loss",
        training={"max_steps": arguments.max_steps, "per_device_train_batch_size": 16},
        build=build,
        collate=mask,
    )


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, plain or gzipped, that are not empty."""
    data = path.read_bytes()
    whole = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [line for line in whole.splitlines() if line.strip()]


TASKS = {"digits": digits, "images": images, "text": text}


def make_trainer(task: Task, connection: str, seed: int, folder: Path, **settings: Any) -> Trainer:
    """Return the Trainer of a new network.

    Args:
        task (`Task`): What it learns.
        connection (`str`): One of `CONNECTIONS`.
        seed (`int`): Of its weights and of the order of the examples.
        folder (`Path`): Where it writes.
        settings: Further arguments of the training.
    """
    set_seed(seed)
    defaults = {
        "lr_scheduler_type": "cosine",
        "warmup_steps": 100,
        "weight_decay": 0.01,
        "save_strategy": "no",
        "logging_steps": 100,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    arguments = TrainingArguments(str(folder), seed=seed, **{**defaults, **task.training, **settings})
    trainer = Trainer(task.build(connection), arguments, train_dataset=task.train, data_collator=task.collate)
    if task.metric == "loss":  # of masked words
        LabelledTokensCallback().attach(trainer)
    return trainer


def train(task: Task, arguments: Arguments, connection: str, seed: int, folder: Path) -> None:
    """Train one model and save it with the record of its training."""
    trainer = make_trainer(task, connection, seed, folder / "trainer", learning_rate=arguments.learning_rate)
    start = time.perf_counter()
    trainer.train()
    model = trainer.model
    model.save_pretrained(folder)
    record = {
        "arguments": asdict(arguments),
        "connection": connection,
        "seed": seed,
        "steps": trainer.state.global_step,
        "seconds": time.perf_counter() - start,
        "train_loss": [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry],
        "torch": torch.__version__,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2))


def profile(task: Task, folder: Path) -> None:
    """Measure every depth of a trained model on the held-out data."""
    auto_class = AutoModelForMaskedLM if task.metric == "loss" else AutoModelForImageClassification
    model = auto_class.from_pretrained(folder)
    measure_depth_profile(model, task.evaluation, metric=task.metric, batch_size=100).save(folder / "profile.json")


def table(folder: Path) -> str:
    """Return all profiles below a folder as Markdown: mean ± standard deviation over the seeds, a row a network."""
    networks: dict[str, list[DepthProfile]] = {}
    for path in sorted(folder.glob("*/profile.json")):
        networks.setdefault(path.parent.name.rpartition("-seed")[0], []).append(DepthProfile.load(path))
    depths = max((profiles[0].depths for profiles in networks.values()), key=len)
    rows = [["network", "seeds", *map(str, depths)], ["---"] * (len(depths) + 2)]
    for name, profiles in networks.items():
        columns = list(zip(*(one.values for one in profiles), strict=True))
        cells = [f"{statistics.mean(column):.3f} ± {spread(column):.3f}" for column in columns]
        rows.append([name, str(len(profiles)), *cells, *[""] * (len(depths) - len(cells))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def spread(values: tuple[float, ...]) -> float:
    """Return the standard deviation over seeds, 0 for one seed."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    task = TASKS[arguments.task](arguments)
    root = Path(arguments.output_dir) / arguments.task
    depth = f"-{arguments.num_hidden_layers}" if arguments.num_hidden_layers else ""
    for seed in arguments.seeds:
        for connection in arguments.connections:
            folder = root / f"{connection}{depth}-seed{seed}"
            if not (folder / "training.json").exists():
                train(task, arguments, connection, seed, folder)
            if not (folder / "profile.json").exists():
                profile(task, folder)
    print(table(root))


if __name__ == "__main__":
    main()
