"""What the data of `acn-hf compress` are called, what is wrong with them, and what a card says was done with them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.rows import Columns

from .progress import counted

NAMES = {"train": "the training data", "data": "DATA", "test": "the test data"}
"""What each of them is called in a message."""
NUM_PROBES = 500
"""Of so many rows it is seen whether data are those of before."""


def shared_in(raw: dict[str, Any], columns: "Columns") -> Iterator[str]:
    """Yield in words which rows are in two of the data sets, as they were read."""
    from ..data.checks import shared_rows

    for one, other in (("train", "data"), ("train", "test"), ("data", "test")):
        number = shared_rows(raw[other], raw[one], columns) if {one, other} <= set(raw) else 0
        if number:
            yield (
                f"{number} of {len(raw[other])} rows of {NAMES[other]} are in {NAMES[one]} too: what is measured there "
                "is too good"
            )


def untaught_in(model: Any, rows: dict[str, Any]) -> Iterator[str]:
    """Yield in words which labels nobody can learn, since the training data have none of them; rows are prepared."""
    from ..data.checks import untaught_labels

    if "train" not in rows:
        return
    for name in ("data", "test"):
        labels = untaught_labels(model, rows["train"], rows[name]) if name in rows else []
        if labels:
            which = "the label" if len(labels) == 1 else "the labels"
            verb = "has" if name == "data" else "have"
            yield f"{NAMES[name]} {verb} {which} {', '.join(labels)}, of which the training data have no row"


def fingerprint(rows: Any) -> str:
    """Return what tells some rows from others: their number, and a digest of some of them."""
    step = max(1, len(rows) // NUM_PROBES)
    digest = hashlib.sha256(repr(rows.with_format(None)[::step]).encode()).hexdigest()[:12]
    return f"{len(rows)} rows, {digest}"


def name_of(source: str) -> str:
    """Return what data or a checkpoint are called: an id on the Hub, or the last part of a path."""
    return Path(source).absolute().name if Path(source).exists() else source


def with_split(source: str, split: Any) -> str:
    """Return what data are called, with the split that was asked for; a file has none."""
    return f"{name_of(source)} ({split})" if isinstance(split, str) and not Path(source).is_file() else name_of(source)


def origin(model: str, data: str, split: str | None) -> dict[str, Any]:
    """Return what a card says of where model and data come from: names, and ids on the Hub, but no folders."""
    return {
        "base_model": None if Path(model).exists() else model,
        "dataset": name_of(data),
        "dataset_id": None if Path(data).exists() else data,
        "split": split,
    }


def story(epochs: dict[str, float], train: str, teacher: str | None) -> str | None:
    """Return what a card says of how a model was trained, if it was.

    Args:
        epochs (`dict[str, float]`): Of each stage that counted.
        train (`str`): What the training data are called.
        teacher (`str`, *optional*): What the teacher is called, if it is another model.
    """
    if not epochs:
        return None
    if "finetune" in epochs:
        return f"Fine-tuned on {train}."
    said = {
        "tune": "fine-tuned for {}",
        "teach": "every depth of it taught for {}",
        "heal": "cut, and what was left trained for {} by the same teacher",
    }
    stages = "; ".join(said[name].format(counted(number, "epoch")) for name, number in epochs.items())
    who = f"was {teacher}" if teacher else "was the model itself, before it was cut"
    return f"On {train}: {stages}. The teacher {who}."
