"""Results: each a JSON file with the settings, the values and the circumstances, written once and found again.

Two processes may work on one folder: each result is made by the process that holds its lock.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from acn_hf.support import Record, circumstances

ONE_TABLE = ("commit", "acn_hf", "torch", "transformers", "device", "trained_at")
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
    """A folder of results.

    Args:
        folder (`Path`): One file a run, `NAME.json`.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, name: str, settings: dict[str, Any]) -> Result | None:
        """Return the result of this name, if there is one.

        Raises:
            MixedResultsError: It was made with other settings.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        result = Result.load(path)
        for key, value in plain(settings).items():
            if result.settings.get(key) != value:
                raise MixedResultsError(
                    f"{path} was made with {key}={result.settings.get(key)!r}; got {value!r}. "
                    "Results of other settings need another --results_dir"
                )
        return result

    def save(self, name: str, settings: dict[str, Any], values: dict[str, Any], **more: Any) -> Result:
        """Write a result with the circumstances of now, and return it."""
        here = circumstances(Path(__file__).parent)
        result = Result(plain(settings), plain(values), {**here, **more})
        result.save(self.folder / f"{name}.json")
        return result

    def lock(self, name: str) -> FileLock:
        """Return the lock of a result that is being made."""
        folder = self.folder / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    def results(self) -> list[Result]:
        """Return all results of the folder.

        Raises:
            FileNotFoundError: There is none.
            MixedResultsError: They were made at different commits, with other versions or sizes, or on other devices.
        """
        paths = sorted(self.folder.glob("*.json"))
        if not paths:
            raise FileNotFoundError(f"there must be results in {self.folder}; there are none")
        found = [Result.load(path) for path in paths]
        for data in sorted({str(result.settings.get("data")) for result in found}):
            check_one_table([result for result in found if str(result.settings.get("data")) == data], self.folder)
        return found


def check_one_table(results: Sequence[Result], where: Any) -> None:
    """Refuse results that do not belong into one table.

    Raises:
        MixedResultsError: They differ in commit, versions, device or size.
    """
    for key in (*ONE_TABLE, *ONE_SIZE):
        found = {
            json.dumps((result.settings if key in ONE_SIZE else result.circumstances).get(key)) for result in results
        }
        if key == "trained_at":
            found.discard("[]")  # a run that began from scratch fits in with every network that was trained before
        if len(found) > 1:
            raise MixedResultsError(
                f"the results of one table must share their {key}; {where} holds {', '.join(sorted(found))}"
            )


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings or values as JSON gives them back."""
    return json.loads(json.dumps(values))
