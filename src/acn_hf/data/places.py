"""Where a row of a data set stands: in which file, and in which line of it."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.compute

from .files import first_lines, load_file


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
