"""Frozen results that save to JSON and load from it."""

import dataclasses
import json
import os
import uuid
from pathlib import Path
from typing import Any, ClassVar, Self

from rich.console import Console
from rich.table import Table

from ..modeling.full_disk import full_disk_named


class Record:
    """Mixin for frozen dataclasses whose fields are what JSON can hold, tuples, or records themselves."""

    _records: ClassVar[dict[str, "type[Record]"]] = {}
    """Fields that are records, where they are not `None`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {
            field.name: value.to_dict() if isinstance(value := getattr(self, field.name), Record) else value
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if field.init and field.metadata.get("save", True)
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the record that `to_dict` described.

        Raises:
            ValueError: `fields` lacks a field, or holds one that the record does not have.
        """
        try:
            values = cls._values(fields)
            return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        except (AttributeError, KeyError, TypeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"these are not the fields of a {cls.__name__}: {reason}") from None

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields, with a record in the place of every dictionary that stands for one."""
        inner = {}
        for name, kind in cls._records.items():
            value = fields.get(name) if hasattr(cls, name) else fields[name]  # which has a default, or must be there
            if value is not None:
                inner[name] = kind.from_dict(value)
        return fields | inner

    def save(self, path: str | os.PathLike) -> None:
        """Write the record to a JSON file, which is either complete or not there."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a record from a JSON file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It does not hold this record.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} holds no {cls.__name__}: {error}") from None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file beside its place and move it there, so that no half-written file is ever seen.

    Raises:
        OSError: It cannot be written; on a full disk the error says the path too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with full_disk_named(path):
            beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def render(table: Table, width: int = 100) -> str:
    """Return a table as plain text, of so many columns at most."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")
