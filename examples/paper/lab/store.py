"""Results: each with its settings, values and circumstances, written once and found again; a file for each experiment.

Several processes may work on one folder: a result is made by the process that holds its lock, and goes into the file
under the lock of the file.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from acn_hf.support import Record, circumstances, write_text

from .networks import ADDED

ONE_TABLE = ("commit", "acn_hf", "torch", "transformers", "device")
"""The circumstances that all results of a table share, which is of one data set."""

ONE_SIZE = ("num_layers", "text_layers", "num_train", "num_test", "num_epochs", "text_epochs")
"""The settings that they share: quick runs and full ones are two tables."""


class MixedResultsError(ValueError):
    """Results that do not belong into one table, or are asked for under other settings than they were made with."""


@dataclass(frozen=True)
class Result(Record):
    """One run of an experiment.

    Args:
        settings (`dict`): Everything that decides it.
        values (`dict`): What was measured.
        circumstances (`dict`): Commit, versions and hardware; `trained_at` is the commit of networks that were trained
            before, and `seconds` what it took.
    """

    settings: dict[str, Any]
    values: dict[str, Any]
    circumstances: dict[str, Any]

    def __post_init__(self) -> None:
        for name in ("settings", "values", "circumstances"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be a dictionary; got {getattr(self, name)!r}")


class Store:
    """The results of an experiment: a file of JSON lines, one for each run, with its name, in the order of the names.

    To save a run, the whole file is written beside its place and moved there. A process that is killed leaves the old
    file or the new one, so a line that cannot be read is always damage, and is refused. Lines that are appended can be
    torn by a kill, and whoever forgives a torn line forgives a damaged one. They would also stand in the order in which
    runs happened to end, and two files could not be compared. The runs of an experiment are few and small.

    A folder `EXPERIMENT` with one file for each run, as 0.1.0 wrote it, is read too. The next run that is
    saved brings its runs into the file. Of a run that is in both, the one in the file counts.

    Args:
        folder (`str` or `os.PathLike`): Where the results of all experiments lie.
        experiment (`str`): The name of its file is `EXPERIMENT.jsonl`.
    """

    def __init__(self, folder: str | os.PathLike, experiment: str):
        self.path = Path(folder) / f"{experiment}.jsonl"

    def find(self, name: str, settings: dict[str, Any]) -> Result | None:
        """Return the result of this name, if there is one.

        Raises:
            MixedResultsError: It was made with other settings.
        """
        result = self.runs().get(name)
        if result is not None:
            check_settings(result, settings, f"{name} of {self.path}")
        return result

    def save(self, name: str, settings: dict[str, Any], values: dict[str, Any], **more: Any) -> Result:
        """Write a result with the circumstances of now, and return it."""
        result = made_now(settings, values, **more)
        with lock(self.path.parent, self.path.stem):  # nobody else may save between reading and writing
            write_text(self.path, as_lines({**self.runs(), name: result}))
        return result

    def lock(self, name: str) -> FileLock:
        """Return the lock of a result that is being made."""
        return lock(self.path.parent, f"{self.path.stem}/{name}")

    def runs(self) -> dict[str, Result]:
        """Return all results by name, in the order of the names; an empty dictionary if there are none.

        Raises:
            ValueError: A line holds no result, or one whose name another line has.
        """
        found = {path.stem: Result.load(path) for path in self.path.with_suffix("").glob("*.json")}
        if self.path.exists():
            found |= _read(self.path)
        return dict(sorted(found.items()))

    def results(self) -> list[Result]:
        """Return all results.

        Raises:
            FileNotFoundError: There is none.
            MixedResultsError: They were made at different commits, with other versions or sizes, or on other devices.
        """
        found = list(self.runs().values())
        if not found:
            raise FileNotFoundError(f"there must be results in {self.path}; there are none")
        by_data = {}
        for result in found:
            by_data.setdefault(str(result.settings.get("data")), []).append(result)
        for _, of_data in sorted(by_data.items()):
            check_one_table(of_data, self.path, ONE_SIZE)
            for part in made_together(of_data):
                check_one_table(part, self.path)
                check_training(part, self.path)
        return found


def as_lines(runs: dict[str, Result]) -> str:
    """Return results by name as JSON lines."""
    return "".join(json.dumps({"name": name, **result.to_dict()}) + "\n" for name, result in sorted(runs.items()))


def _read(path: Path) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), start=1):
        try:
            name, result = _read_line(line)
            if name in found:
                raise ValueError(f"an earlier line has the name {name}")
        except ValueError as error:
            raise ValueError(f"line {number} of {path} holds no Result: {error}") from None
        found[name] = result
    return found


def _read_line(line: bytes) -> tuple[str, Result]:
    try:
        fields = json.loads(line.decode())
    except json.JSONDecodeError as error:  # its text would name a line, always the first
        raise ValueError(f"{error.msg}, column {error.colno}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise ValueError("it must have a name")
    return fields.pop("name"), Result.from_dict(fields)


def lock(folder: str | os.PathLike, name: str) -> FileLock:
    """Return the lock under which a process makes or writes something in a folder."""
    path = Path(folder) / ".locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def made_now(settings: dict[str, Any], values: dict[str, Any], **more: Any) -> Result:
    """Return a result with the circumstances of now, and more of them."""
    return Result(plain(settings), plain(values), {**circumstances(Path(__file__).parent), **more})


def check_settings(result: Result, settings: dict[str, Any], where: Any) -> None:
    """Refuse a result that was made with other settings.

    Raises:
        MixedResultsError: A setting has another value there.
    """
    for key, value in plain(settings).items():
        if result.settings.get(key) != value:
            raise MixedResultsError(
                f"{where} was made with {key}={result.settings.get(key)!r}; got {value!r}. "
                "Results of other settings need another --results_dir"
            )


def made_together(results: Sequence[Result]) -> list[list[Result]]:
    """Return results in the parts that were made together: those of the page, and what came to it later."""
    parts: dict[bool, list[Result]] = {}
    for result in results:
        parts.setdefault(came_later(result), []).append(result)
    return list(parts.values())


def came_later(result: Result) -> bool:
    """Return whether a result is of a network that came to the page later."""
    return result.settings.get("arch", result.settings.get("method")) in ADDED


def check_one_table(results: Sequence[Result], where: Any, keys: Sequence[str] = ONE_TABLE) -> None:
    """Refuse results that do not belong into one table.

    Raises:
        MixedResultsError: They differ in commit, versions, device or size.
    """
    for key in keys:
        found = {(result.settings if key in ONE_SIZE else result.circumstances).get(key) for result in results}
        _refuse_several(key, found, where)


def check_training(results: Sequence[Result], where: Any) -> None:
    """Refuse networks of one kind that were trained at different commits, and any of two earlier ones.

    An experiment trains some kinds of networks itself, and finds others that were trained before.
    """
    before: set[str] = set()
    kinds: dict[str, set[str]] = {}
    for result in results:
        kind = {name: value for name, value in result.settings.items() if name not in ("arch", "seed")}
        trained_at = set(result.circumstances.get("trained_at") or [])
        kinds.setdefault(json.dumps(kind, sort_keys=True), set()).update(trained_at)
        before |= trained_at - {result.circumstances.get("commit")}
    for found in [*kinds.values(), before]:
        _refuse_several("trained_at", found, where)


def _refuse_several(key: str, found: set[Any], where: Any) -> None:
    if len(found) > 1:
        shown = ", ".join(sorted(map(json.dumps, found)))
        raise MixedResultsError(f"the results of one table must share their {key}; {where} holds {shown}")


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings or values as JSON gives them back."""
    return json.loads(json.dumps(values))
