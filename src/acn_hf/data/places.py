"""Where a row of a data set stands: in which file, and in which line of it."""

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
    there, here = f"row {row + 1}", data.info.download_checksums or {}
    path = Path(next(iter(here))) if len(here) == 1 else None
    if path is None or not path.is_file():
        return there
    how = {key: value for key, value in here[str(path)].items() if key in ("separator", "encoding")}
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
