"""Where a row of a data set stands: in which file, and in which line of it; and which file lacks a column."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.compute

from .files import first_lines, load_file
from .idx import DataError


class RowError(DataError):
    """What is wrong with a row, raised where it is not known where the row stands; see [`placed`].

    Args:
        row (`int`): Its number, from 0.
        message (`str`): What is wrong.
        column (`str`, *optional*): In which column.
    """

    def __init__(self, row: int, message: str, column: str | None = None) -> None:
        super().__init__(row, message, column)
        self.row, self.message, self.column = row, message, column

    def __str__(self) -> str:
        return self.at(f"row {self.row + 1}")

    def at(self, place: str) -> str:
        """Return the message with the place before it."""
        return f"{place}: {self.message}" if self.column is None else f"{place}, column {self.column!r}: {self.message}"


class ColumnError(DataError):
    """A column that is missing.

    Args:
        data: The rows that lack it.
        rule (`str`): What they must have.
        hint (`str`, *optional*): What to do about it.
    """

    def __init__(self, data: Any, rule: str, hint: str | None = None) -> None:
        super().__init__(rule)
        path = file_of(data)
        self.source = None if path is None else str(path)
        self.rule = f"{rule}; got {', '.join(data.column_names)}{f': {hint}' if hint else ''}"

    def __str__(self) -> str:
        return f"{self.source or 'the data'} must have {self.rule}"


@contextmanager
def named(source: str) -> Iterator[None]:
    """Say which data lack a column, where a `ColumnError` in this block does not know it.

    Args:
        source (`str`): Where the data lie.
    """
    try:
        yield
    except ColumnError as error:
        error.source = error.source or source
        raise


@contextmanager
def placed(data: datasets.Dataset) -> Iterator[None]:
    """Say where a row stands of which a `RowError` is raised in this block.

    A function that `datasets` maps cannot say it itself: it would have to hold the data, which are then hashed with it.

    Args:
        data (`datasets.Dataset`): The rows, by their numbers in the error.

    Raises:
        DataError: There was such an error.
    """
    try:
        yield
    except RowError as error:
        raise DataError(error.at(place_of(data, error.row))) from None


def place_of(data: datasets.Dataset, row: int) -> str:
    """Return where a row stands, in words: `train.csv, line 14`, or `row 13` where there is no line to name.

    The row is looked for in its file, so the rows may have been chosen and shuffled since they were read. Of rows that
    are alike it is the first.

    Args:
        data (`datasets.Dataset`): Rows, with all the columns that were read.
        row (`int`): Number of the row, from 0. In words rows count from 1, and lines with the header.
    """
    there, path = f"row {row + 1}", file_of(data)
    if path is None:
        return there
    here = (data.info.download_checksums or {})[str(path)]
    how = {key: value for key, value in here.items() if key in ("separator", "encoding")}
    try:
        whole, lines = load_file(path, how).select_columns(data.column_names), first_lines(path, how)
        number = _find(whole, data.with_format(None)[row])
    except (OSError, ValueError, KeyError):  # it was changed meanwhile
        number = None
    if number is None:
        return f"{path}, {there}"
    if lines is None or len(lines) != len(whole):
        return f"{path}, row {number + 1}"
    return f"{path}, line {lines[number]}"


def file_of(data: Any) -> Path | None:
    """Return the one file that rows were read from, if it is there and known."""
    known = getattr(getattr(data, "info", None), "download_checksums", None) or {}
    path = Path(next(iter(known))) if len(known) == 1 else None
    return path if path is not None and path.is_file() else None


def _find(whole: datasets.Dataset, wanted: dict[str, Any]) -> int | None:
    """Return the number of the first row that is as wanted."""
    alike, table = None, whole.with_format("arrow")[:]
    for name, value in wanted.items():
        column = table[name]
        if value is None:
            found = column.is_null()
        elif isinstance(value, (str, bool, int, float)):
            found = pyarrow.compute.fill_null(pyarrow.compute.equal(column, value), False)
        else:
            continue
        alike = found if alike is None else pyarrow.compute.and_(alike, found)
    numbers = range(len(whole)) if alike is None else pyarrow.compute.indices_nonzero(alike).to_pylist()
    return next((number for number in numbers if whole[number] == wanted), None)
