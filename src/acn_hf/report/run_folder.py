"""The folder of a run: which `trainer_state.json` counts, whether it is whole, and what lies beside it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from ..depth.profile import DepthProfile
from ..publishing.facts import RECORD_FILE
from ..training.annealing import SCALE
from ..training.callbacks import PROFILE_NAME
from ..training.checkpoints import checkpoints_in
from ..training.depth_log import AT_DEPTH, EFFECTIVE_DEPTH
from ..training.shedding import DEPTH, SAVED


@dataclass(frozen=True)
class RunFolder:
    """What a page reads of a run.

    Args:
        path (`Path`): The `trainer_state.json` that counts.
        state (`dict`): What it holds.
        config (`dict`): Of the model, where it lies beside.
        training (`dict`): The arguments of training, where a model card knows them.
        profile (`DepthProfile`, *optional*): The newest that lies beside.
    """

    path: Path
    state: dict[str, Any]
    config: dict[str, Any]
    training: dict[str, Any]
    profile: DepthProfile | None

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its entries."""
        return self.state["log_history"]

    @classmethod
    def read(cls, folder: Path) -> "RunFolder":
        """Return what is in the output folder of a Trainer, or in one of its checkpoints.

        The log that goes on for longest counts: that of the folder itself or that of its newest checkpoint.

        Raises:
            FileNotFoundError: There is no log.
            ValueError: A file is damaged; the message names it, and what is wrong with it.
        """
        found = [(path, _state(path)) for path in logs_in(folder)]
        if not found:
            raise FileNotFoundError(f"a run must have a {TRAINER_STATE_NAME}; {folder} and its checkpoints hold none")
        path, state = max(found, key=lambda one: one[1]["log_history"][-1]["step"])
        beside = [path.parent, folder, *checkpoints_in(folder)]
        profiles = (place / PROFILE_NAME for place in beside)
        profile = next((DepthProfile.load(file) for file in profiles if file.is_file()), None)
        config, training = _dictionary(beside, "config.json"), _dictionary(beside, RECORD_FILE).get("training")
        return cls(path, state, config, training if isinstance(training, dict) else {}, profile)


def logs_in(folder: Path) -> list[Path]:
    """Return the logs of a run: that of its folder, and that of the newest checkpoint which has one."""
    checkpoints = [path / TRAINER_STATE_NAME for path in checkpoints_in(folder)]
    newest = next((path for path in checkpoints if path.is_file()), None)
    return [path for path in (folder / TRAINER_STATE_NAME, newest) if path is not None and path.is_file()]


def _state(path: Path) -> dict[str, Any]:
    """Return what a `trainer_state.json` holds, if it is whole."""
    state = _read(path)
    log = state.get("log_history")
    if not isinstance(log, list):
        raise ValueError(f"{path} is no log of a Trainer: log_history must be a list; got {log!r}")
    if not log:
        raise ValueError(f"{path}: the log is empty")
    for number, entry in enumerate(log):
        _check(entry, f"{path}: entry {number} of log_history")
    return state


def _check(entry: Any, where: str) -> None:
    """Refuse an entry that a page could not show."""
    step = entry.get("step") if isinstance(entry, dict) else None
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ValueError(f"{where} must be a dictionary with a step >= 0; got {_short(entry)}")
    for name, value in entry.items():
        depth = name.rpartition(AT_DEPTH)[2] if AT_DEPTH in name else ""
        is_depth = name.endswith((f"_{EFFECTIVE_DEPTH}", f"_{DEPTH}"))
        if is_depth and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError(f"{where}: {name} must be a depth >= 0; got {_short(value)}")
        if (depth.isdecimal() or name.endswith(f"_{SAVED}")) and not is_finite(value):
            raise ValueError(f"{where}: {name} must be a finite number; got {_short(value)}")
        is_loss = name == "loss" or (name.startswith("eval_") and name.endswith("_loss"))
        if (is_loss or name in (SCALE, "epoch")) and not is_number(value):
            raise ValueError(f"{where}: {name} must be a number; got {_short(value)}")


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or what came out where a number was due."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that can be drawn."""
    return is_number(value) and math.isfinite(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it must hold a dictionary; got {_short(value)}")
    return value


def _dictionary(places: list[Path], name: str) -> dict[str, Any]:
    """Return what the first file of this name holds."""
    return next((_read(place / name) for place in places if (place / name).is_file()), {})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} …"
