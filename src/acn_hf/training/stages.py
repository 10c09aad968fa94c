"""The stages of a long job, each stored when it is done, so that a job that was stopped goes on after them."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from ..depth.every_depth import truncate
from ..depth.layers import layers_of
from ..modeling.checkpoint import written_beside
from ..support.processes import is_first_process, join_processes, same_everywhere, wait_for_all
from ..support.records import write_text
from ..support.sentence_models import inner_model

JOB, FACTS, WEIGHTS = "job.json", "stage.json", "weights.safetensors"


class StageError(ValueError):
    """A folder of stages that belongs to another job, or that must not be there."""


@dataclass
class Stages:
    """What is done of a job.

    Args:
        folder (`Path`, *optional*): Where stages are stored; by default nowhere.
        seconds (`dict[str, float]`): How long each stage took, by its name, those of earlier runs included.
        notes (`dict[str, dict]`): What was noted of each stage, by its name, those of earlier runs included.
    """

    folder: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        folder: str | os.PathLike | None,
        resume: bool,
        made_of: dict[str, Any],
        contents: dict[str, tuple[str, str]] | None = None,
    ) -> "Stages":
        """Return the stages in a folder: none of a new job, those that are done of one that goes on.

        Args:
            folder (`str` or `os.PathLike`, *optional*): Where they are stored.
            resume (`bool`): Whether a job goes on.
            made_of (`dict`): What must be the same for a job to go on, by what it is called in an error; numbers, words
                and lists of words, or `None` for what is not given.
            contents (`dict[str, tuple[str, str]]`, *optional*): What must be the same too but is too long to say, by
                name: what it is called, and a digest. Where the rest differs, on which it may depend, nothing is said
                of it.

        Raises:
            StageError: The folder holds a job and none is to go on, there is none to go on with, or it is another one.
        """
        if folder is None:
            if resume:
                raise StageError("resume=True needs a work_dir, which holds the stages that are done; got None")
            return cls()
        path, facts = Path(folder), Path(folder, JOB)
        join_processes()
        exists = same_everywhere(facts.exists())
        if exists and not resume:
            raise StageError(f"{path} holds the stages of a job: resume=True goes on with it, or give another folder")
        if exists:
            if changes := list(_changes(json.loads(facts.read_text()), made_of, contents or {})):
                raise StageError(
                    f"a job goes on as it began, but {', and '.join(changes)}: give what was given then, or begin anew "
                    "in another folder"
                )
        elif is_first_process():
            digests = {name: digest for name, (_, digest) in (contents or {}).items()}
            write_text(facts, json.dumps({**made_of, **digests}, indent=2) + "\n")
        wait_for_all()
        return cls(path)

    def holds(self, name: str) -> bool:
        """Return whether a stage is stored already."""
        return self.folder is not None and (self.folder / name / FACTS).exists()

    def note(self, name: str, **facts: Any) -> None:
        """Note something of a stage while it is trained, as JSON can hold it; it is stored with the stage."""
        self.notes.setdefault(name, {}).update(facts)

    def trained(self, name: str, model: Any, train: Callable[[Any], Any]) -> Any:
        """Return what training makes of a model, or what it made of it before.

        Args:
            name (`str`): Of the stage.
            model (`PreTrainedModel`, `PeftModel` or `SentenceTransformer`): A copy that nobody else holds.
            train (`Callable`): From `model` to another one of its class, with as many layers or fewer.

        Raises:
            StageError: What is stored of this stage is not whole, or does not fit the model.
        """
        stored = None if self.folder is None else self.folder / name
        if stored is not None and self.holds(name):
            return self._read(stored, model)
        start = time.monotonic()
        trained = train(model)
        self.seconds[name] = time.monotonic() - start
        if stored is not None:
            self._write(stored, trained)
        return trained

    def _read(self, stored: Path, model: Any) -> Any:
        try:
            facts = json.loads((stored / FACTS).read_text())
            short = truncate(model, facts["depth"])
            load_model(short, stored / WEIGHTS)
        except (KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
            raise StageError(
                f"{stored} must hold a whole stage of this job; remove it to train it anew: {error}"
            ) from None
        self.seconds[stored.name] = facts["seconds"]
        self.note(stored.name, **facts.get("notes", {}))
        return short

    def _write(self, stored: Path, model: Any) -> None:
        if is_first_process():
            with written_beside(stored) as beside:
                save_model(model, str(beside / WEIGHTS))
                facts = {
                    "depth": len(layers_of(inner_model(model))),
                    "seconds": self.seconds[stored.name],
                    "notes": self.notes.get(stored.name, {}),
                }
                (beside / FACTS).write_text(json.dumps(facts) + "\n")
        wait_for_all()


def _changes(before: dict[str, Any], made_of: dict[str, Any], contents: dict[str, tuple[str, str]]) -> Iterator[str]:
    """Yield in words what is not as it was when a job began."""
    others = {name: value for name, value in made_of.items() if before.get(name) != value}
    for name, value in others.items():
        yield f"{name} was {_said(before.get(name))} and is {_said(value)}"
    if others:
        return
    for name, (called, digest) in contents.items():
        if before.get(name) != digest:
            yield f"{called} has changed" if name in before else f"{called} was not given"
    for name in before.keys() - made_of.keys() - contents.keys():
        yield f"{name} was given and is not"


def _said(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
