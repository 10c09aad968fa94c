"""Checkpoints of a Trainer, read as `from_pretrained` reads them.

Some models of transformers, ViT among them, are stored under other names than their weights have in memory. Upstream's
Trainer reads its own checkpoints by the names in memory: such a model finds none of its layers there, keeps the weights
that it has, and trains on as if nothing had happened.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers import PreTrainedModel, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from ..support.eval_mode import RandomState
from ..support.wrappers import unwrap_parallel


def newest_checkpoint(folder: Path) -> str | None:
    """Return the last whole checkpoint in a folder, if there is one."""
    return next((str(path) for path in checkpoints_in(folder) if is_whole(path)), None)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    numbered = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")}
    return sorted(
        (path for path, number in numbered.items() if number.isdigit()), key=lambda path: -int(numbered[path])
    )


def is_whole(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written to its end: the state of the run is what comes last."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text())
    except (OSError, ValueError):
        return False
    return (checkpoint / "config.json").exists()


@contextmanager
def read_by_their_names(trainer: Trainer) -> Iterator[None]:
    """Let a Trainer read its checkpoints by the names under which they are stored, for as long as the block lasts."""
    resume, best = trainer._load_from_checkpoint, trainer._load_best_model

    def load_from_checkpoint(folder: Any, *args: Any, **kwargs: Any) -> None:
        _read_or(trainer, folder, lambda: resume(folder, *args, **kwargs))

    def load_best_model() -> None:
        _read_or(trainer, trainer.state.best_model_checkpoint, best)

    trainer.__dict__.update(_load_from_checkpoint=load_from_checkpoint, _load_best_model=load_best_model)
    try:
        yield
    finally:
        for name in ("_load_from_checkpoint", "_load_best_model"):
            del trainer.__dict__[name]


def _read_or(trainer: Trainer, folder: Any, upstream: Callable[[], None]) -> None:
    """Read a checkpoint whose names are others than those of the model; else let upstream do it."""
    model = unwrap_parallel(trainer.model)
    stored = _names_in(Path(folder)) if folder and isinstance(model, PreTrainedModel) else set()
    if not stored - set(model.state_dict()):
        upstream()
        return
    state = RandomState.now()
    model.load_state_dict(type(model).from_pretrained(folder, config=model.config).state_dict())
    state.restore()


def _names_in(folder: Path) -> set[str]:
    """Return the names of the weights in a checkpoint, where they are stored by name."""
    index, whole = folder / SAFE_WEIGHTS_INDEX_NAME, folder / SAFE_WEIGHTS_NAME
    if index.exists():
        return set(json.loads(index.read_text())["weight_map"])
    if not whole.exists():
        return set()
    with safe_open(whole, "pt") as file:
        return set(file.keys())
