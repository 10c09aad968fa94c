"""The texts that `--embeddings` reads."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.rows import Columns

from .base import errors


def texts_in(rows: Any, columns: "Columns", source: str) -> list[str]:
    """Return the different texts in some rows, and say how many there are of the others.

    Args:
        rows (`datasets.Dataset`): What was read.
        columns (`Columns`): In which the texts stand.
        source (`str`): Where the rows come from.

    Raises:
        ColumnError: There is no such column.
        DataError: It holds no texts.
    """
    from ..data.idx import DataError
    from ..data.places import ColumnError

    names = [columns.text, *([columns.text_pair] if columns.text_pair else [])]
    for name in names:
        if name not in rows.column_names:
            raise ColumnError(rows, f"a column {name!r} of texts")
        if getattr(rows.features[name], "dtype", None) not in ("string", "large_string"):
            raise DataError(f"{source}: the column {name!r} must hold texts; it holds {rows.features[name]}")
    found = [text for name in names for text in rows[name]]
    different = list(dict.fromkeys(found))
    if len(different) < len(found):
        errors.print(
            f"{source}: {len(found) - len(different)} of {len(found)} texts are there already; each counts once"
        )
    return different
