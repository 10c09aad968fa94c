"""The tasks: real data, and which part of them is learned and measured.

A task is described by a `TaskSpec`, which holds only numbers and names, so that a result can say what it was measured
on and a trained network can be found again. `load_task` reads the data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import datasets
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from transformers import DataCollatorWithPadding, default_data_collator

from acn_hf.data import DataError, find_classes, load_splits, train_tokenizer

from .subsets import examples_per_class, split_classes

IMAGE_SIZE = 28
PATCH_SIZE = 7
MAX_TOKENS = 32
VOCABULARY = 4096


@dataclass(frozen=True)
class TaskSpec:
    """Which data, and which part.

    Args:
        source (`str`): `"digits"` (scikit-learn's), or a folder or a name on the Hub, of images or of texts.
        kind (`str`): `"image"` or `"text"`.
        num_train (`int`, *optional*): Training examples, the first ones. Defaults to all.
        num_test (`int`, *optional*): Test examples, the first ones. Defaults to all.
        classes (`tuple[int, ...]`, *optional*): The classes that take part, renumbered from 0. Defaults to all.
        per_class (`int`, *optional*): Training examples of each class, drawn with seed 0, for low data.
    """

    source: str
    kind: str
    num_train: int | None = None
    num_test: int | None = None
    classes: tuple[int, ...] | None = None
    per_class: int | None = None


@dataclass(frozen=True)
class Task:
    """Data that are ready for a model.

    Args:
        train, test (`datasets.Dataset`): Rows of what a model takes.
        fields (`dict`): Fields of the config that follow from the data.
        collate: Makes a batch of rows.
    """

    train: datasets.Dataset
    test: datasets.Dataset
    fields: dict[str, Any]
    collate: Callable

    @property
    def num_labels(self) -> int:
        """Number of classes."""
        return self.fields["num_labels"]


@cache
def load_task(spec: TaskSpec) -> Task:
    """Read the data of a task.

    Raises:
        DataError: They cannot be read as images or texts with labels, or a part of them is asked for that they lack.
        OSError: They are not there.
    """
    splits, collate, fields = (_images if spec.kind == "image" else _texts)(spec.source)
    num_classes = fields["num_labels"]
    chosen = tuple(range(num_classes)) if spec.classes is None else spec.classes
    if not set(chosen) <= set(range(num_classes)):
        raise DataError(f"classes must lie in [0, {num_classes - 1}] for {spec.source}; got {list(chosen)}")
    train, test = (_of_classes(splits[name], chosen) for name in ("train", "test"))
    train = _first(train, spec.num_train)
    if spec.per_class is not None:
        train = train.select(examples_per_class(train["labels"][:].numpy(), spec.per_class, seed=0))
    return Task(train, _first(test, spec.num_test), {**fields, "num_labels": len(chosen)}, collate)


def class_tasks(spec: TaskSpec, num_tasks: int) -> list[TaskSpec]:
    """Return one task for each part of the classes, in their order.

    Raises:
        ValueError: The number of tasks does not divide the number of classes.
    """
    parts = split_classes(load_task(spec).num_labels, num_tasks)
    return [TaskSpec(**{**vars(spec), "classes": part}) for part in parts]


def _of_classes(data: datasets.Dataset, chosen: Sequence[int]) -> datasets.Dataset:
    labels = data["labels"][:].numpy()
    rows = np.flatnonzero(np.isin(labels, chosen))
    if len(chosen) == len(np.unique(labels)) and tuple(chosen) == tuple(range(len(chosen))):
        return data
    renumbered = {label: number for number, label in enumerate(chosen)}
    part = data.select(rows).remove_columns("labels")
    return part.add_column("labels", [renumbered[label] for label in labels[rows].tolist()]).with_format("torch")


def _first(data: datasets.Dataset, number: int | None) -> datasets.Dataset:
    if number is None or number >= len(data):
        return data
    return data.select(range(number))


@cache
def _images(source: str) -> tuple[dict[str, datasets.Dataset], Callable, dict[str, Any]]:
    """Return images as pixels in [-1, 1], grey or coloured as they are.

    They have one size, so that a network can move from one data set to another.
    """
    if source == "digits":
        pixels, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        pictures = [
            Image.fromarray((picture * 255 / 16).astype(np.uint8)) for picture in pixels.reshape(-1, 8, 8)[order]
        ]
        rows = _image_rows(pictures, labels[order])
        parts = {"train": rows.select(range(1200)), "test": rows.select(range(1200, len(rows)))}
        return parts, default_data_collator, _image_fields(10, num_channels=1)
    loaded = _train_and_test(source)
    image, label = (_column(loaded["train"], names) for names in (("image", "img"), ("label", "labels", "fine_label")))
    num_classes = len(find_classes(loaded["train"], label))
    pictures = {name: [_picture(value) for value in _values(data, image)] for name, data in loaded.items()}
    mode = "L" if all(one.mode in ("1", "L") for one in pictures["train"]) else "RGB"
    parts = {name: _image_rows(pictures[name], data[label][:], mode) for name, data in loaded.items()}
    return parts, default_data_collator, _image_fields(num_classes, num_channels=len(mode))


def _image_fields(num_classes: int, num_channels: int) -> dict[str, Any]:
    return {
        "num_labels": num_classes,
        "num_channels": num_channels,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
    }


def _values(data: datasets.Dataset, image: str) -> Sequence[Any]:
    is_array = isinstance(data.features[image], datasets.Array2D)
    return data.with_format("numpy" if is_array else None)[image]


def _picture(value: Any) -> Image.Image:
    return value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value).astype(np.uint8))


def _image_rows(pictures: Sequence[Image.Image], labels: Sequence[int], mode: str = "L") -> datasets.Dataset:
    size = (IMAGE_SIZE, IMAGE_SIZE)
    sized = (one if one.size == size else one.resize(size) for one in (picture.convert(mode) for picture in pictures))
    pixels = np.stack([np.asarray(one, np.float32).reshape(*size, len(mode)) for one in sized]).transpose(0, 3, 1, 2)
    columns = {"pixel_values": pixels / 127.5 - 1, "labels": np.asarray(labels, np.int64)}
    # As lists of lists, pixels would be read number by number.
    features = {"pixel_values": datasets.Array3D((len(mode), *size), "float32"), "labels": datasets.Value("int64")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features)).with_format("torch")


@cache
def _texts(source: str) -> tuple[dict[str, datasets.Dataset], Callable, dict[str, Any]]:
    """Return texts as word pieces; the vocabulary is learned from the training texts."""
    loaded = _train_and_test(source)
    text, label = (_column(loaded["train"], names) for names in (("text", "sentence"), ("label", "labels")))
    tokenizer = train_tokenizer(loaded["train"][text][:], VOCABULARY)
    parts = {}
    for name, data in loaded.items():
        encoded = tokenizer(data[text][:], truncation=True, max_length=MAX_TOKENS, padding="max_length")
        columns = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
        rows = datasets.Dataset.from_dict({**columns, "labels": data[label][:]})
        parts[name] = rows.with_format("torch")
    fields = {
        "num_labels": len(find_classes(loaded["train"], label)),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return parts, DataCollatorWithPadding(tokenizer), fields


def _train_and_test(source: str) -> dict[str, datasets.Dataset]:
    splits = load_splits(source)
    test = next((name for name in ("test", "validation") if name in splits), None)
    if "train" not in splits or test is None:
        raise DataError(f"{source} must have a train and a test split; it has {', '.join(splits)}")
    return {"train": splits["train"], "test": splits[test]}


def _column(data: datasets.Dataset, names: Sequence[str]) -> str:
    for name in names:
        if name in data.column_names:
            return name
    raise DataError(f"the data must have a column {' or '.join(names)}; got {', '.join(data.column_names)}")
