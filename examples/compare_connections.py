"""Compare the connections of a network at equal steps: strict ACN, ACN with attention residual, residual network.

What is unusual: one script for images and text, one JSON file per run. A run whose file exists is skipped, so
the script can be stopped and started again at any time. `docs/experiments.md` holds the tables it printed.

    python examples/compare_connections.py --task digits --output_dir runs
    python examples/compare_connections.py --task images --data_dir FASHION_MNIST --output_dir runs
    python examples/compare_connections.py --task text --train_file CORPUS.txt.gz --output_dir runs

Cost of one run on two CPU cores: digits 1 minute, images 3 minutes, text 12 minutes.
"""

import gzip
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import datasets
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tokenizers import BertWordPieceTokenizer
from transformers import (
    BertTokenizerFast,
    DataCollatorForLanguageModeling,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

from acn_hf import AcnBertConfig, AcnBertForMaskedLM, AcnViTConfig, AcnViTForImageClassification

CONNECTIONS = {
    "strict": {"residual_scale": 0.0, "attention_residual": False},
    "attention": {"residual_scale": 0.0, "attention_residual": True},
    "residual": {"residual_scale": 1.0, "attention_residual": False},
}


@dataclass
class Arguments:
    task: str = field(metadata={"help": "digits, images (gzipped IDX files) or text (one passage a line)."})
    connections: list[str] = field(
        default_factory=lambda: list(CONNECTIONS), metadata={"help": f"Any of {', '.join(CONNECTIONS)}."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run for each."})
    num_hidden_layers: int | None = field(default=None, metadata={"help": "Defaults to 12, for text to 8."})
    num_epochs: float | None = field(default=None, metadata={"help": "Defaults to 40 for digits, 5 for images."})
    max_steps: int = field(default=3000, metadata={"help": "Training steps for text."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW, cosine schedule."})
    num_train_examples: int = field(default=20_000, metadata={"help": "Training images for the images task."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with train-images-idx3-ubyte.gz."})
    train_file: list[str] | None = field(default=None, metadata={"help": "Text files, plain or gzipped."})
    output_dir: str = field(default="runs", metadata={"help": "Where models and results are written."})


@dataclass
class Task:
    """What one run needs; `evaluation` is used for the profile only."""

    train: datasets.Dataset
    evaluation: datasets.Dataset
    collate: object
    metric: str
    training: dict
    build: object


def digits(arguments: Arguments) -> Task:
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32) * 2 - 1
    train, evaluation = train_test_split(np.arange(len(labels)), test_size=0.4, random_state=0, stratify=labels)
    settings = dict(num_train_epochs=arguments.num_epochs or 40, per_device_train_batch_size=64)
    return _images_task(images, labels, train, evaluation, 2, settings)


def images(arguments: Arguments) -> Task:
    folder = Path(arguments.data_dir)
    pixels = np.frombuffer(gzip.open(folder / "train-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    labels = np.frombuffer(gzip.open(folder / "train-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    pixels = (pixels.reshape(-1, 1, 28, 28) / 255).astype(np.float32) * 2 - 1
    # The last 10,000 training images are held out; the official test images are not touched here.
    evaluation, train = np.arange(50_000, 60_000), np.arange(arguments.num_train_examples)
    settings = dict(num_train_epochs=arguments.num_epochs or 5, per_device_train_batch_size=64)
    return _images_task(pixels, labels, train, evaluation, 7, settings)


def _images_task(pixels, labels, train, evaluation, patch_size, settings) -> Task:
    def rows(index):
        data = {"pixel_values": pixels[index], "labels": labels[index].astype(np.int64)}
        return datasets.Dataset.from_dict(data).with_format("torch")

    def build(connection, num_hidden_layers):
        config = AcnViTConfig(
            image_size=pixels.shape[-1],
            patch_size=patch_size,
            num_channels=1,
            num_labels=10,
            hidden_size=64,
            intermediate_size=256,
            num_attention_heads=4,
            num_hidden_layers=num_hidden_layers or 12,
            **CONNECTIONS[connection],
        )
        return AcnViTForImageClassification(config)

    return Task(rows(train), rows(evaluation), None, "accuracy", settings, build)


def text(arguments: Arguments, sequence_length: int = 64, vocab_size: int = 4096) -> Task:
    lines = []
    for name in arguments.train_file:
        with gzip.open(name, "rt") if name.endswith(".gz") else open(name) as file:
            lines += [line for line in file if line.strip()]
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(lines, vocab_size=vocab_size, show_progress=False)
    tokenizer = BertTokenizerFast(tokenizer_object=trainer._tokenizer)
    ids = [i for encoding in trainer.encode_batch(lines, add_special_tokens=False) for i in encoding.ids]
    width = sequence_length - 2
    blocks = np.array(ids[: len(ids) // width * width]).reshape(-1, width)
    edge = np.ones((len(blocks), 1), int)
    blocks = np.concatenate([edge * tokenizer.cls_token_id, blocks, edge * tokenizer.sep_token_id], axis=1)
    blocks = blocks[np.random.default_rng(0).permutation(len(blocks))]
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    held_out = [mask([{"input_ids": row.tolist()}]) for row in _seeded(blocks[:1000])]
    evaluation = datasets.Dataset.from_dict(
        {key: [row[key][0].tolist() for row in held_out] for key in ("input_ids", "labels")}
    ).with_format("torch")
    train = datasets.Dataset.from_dict({"input_ids": blocks[1000:]}).with_format("torch")

    def build(connection, num_hidden_layers):
        config = AcnBertConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_attention_heads=4,
            num_hidden_layers=num_hidden_layers or 8,
            max_position_embeddings=sequence_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            **CONNECTIONS[connection],
        )
        return AcnBertForMaskedLM(config)

    settings = dict(max_steps=arguments.max_steps, per_device_train_batch_size=16)
    return Task(train, evaluation, mask, "loss", settings, build)


def _seeded(rows):
    torch.manual_seed(0)
    return rows


TASKS = {"digits": digits, "images": images, "text": text}


def run(task: Task, arguments: Arguments, connection: str, seed: int, folder: Path) -> None:
    """Train one model and save it."""
    set_seed(seed)
    model = task.build(connection, arguments.num_hidden_layers)
    settings = TrainingArguments(
        output_dir=str(folder / "trainer"),
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=100,
        weight_decay=0.01,
        seed=seed,
        save_strategy="no",
        logging_steps=100,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **task.training,
    )
    start = time.perf_counter()
    trainer = Trainer(model=model, args=settings, train_dataset=task.train, data_collator=task.collate)
    trainer.train()
    history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    model.save_pretrained(folder)
    record = {
        "arguments": asdict(arguments),
        "connection": connection,
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "steps": trainer.state.global_step,
        "train_loss": history,
        "torch": torch.__version__,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2))


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    task = TASKS[arguments.task](arguments)
    for seed in arguments.seeds:
        for connection in arguments.connections:
            depth = f"-{arguments.num_hidden_layers}" if arguments.num_hidden_layers else ""
            folder = Path(arguments.output_dir) / arguments.task / f"{connection}{depth}-seed{seed}"
            if not (folder / "training.json").exists():
                run(task, arguments, connection, seed, folder)


if __name__ == "__main__":
    main()
