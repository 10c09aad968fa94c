"""What a user should know of rows before they are used: incomplete ones, texts that are cut, rows in two data sets."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.compute

from ..depth.metrics import IGNORED_LABEL
from ..support.records import Record
from .choices import find_choices
from .idx import DataError
from .labels import label_ids
from .places import ColumnError, place_of
from .rows import Columns, is_regression, longest_text, with_spaces
from .several_labels import has_several_labels, names_of_columns

HEADS_OF_CLASSES = ("ForSequenceClassification", "ForTokenClassification", "ForImageClassification")
"""Ends of the names of models whose labels are ids of classes that their config names."""


@dataclass(frozen=True)
class Incomplete(Record):
    """Rows that were left out, since a text, an image or a label is missing in them.

    Args:
        number (`int`): How many.
        total (`int`): Of how many.
        column (`str`): What the first of them lacks.
        place (`str`): Where the first of them stands; see [`place_of`].
    """

    number: int
    total: int
    column: str
    place: str

    def __str__(self) -> str:
        if self.number == 1:
            return f"1 of {self.total} rows is incomplete and left out: {self.place} has no {self.column!r}"
        where = f"the first, {self.place}, has no {self.column!r}"
        return f"{self.number} of {self.total} rows are incomplete and left out: {where}"


def complete_rows(
    data: datasets.Dataset, columns: Columns, *, with_labels: bool = True, with_blanks: bool | None = None
) -> tuple[datasets.Dataset, Incomplete | None]:
    """Leave out the rows in which a text, an image or a label is missing.

    A text of white space alone is missing too, and so is a list of no words, or of such texts alone. pandas takes words
    such as `NA` and `null` in a CSV file for empty cells. A list of no labels is not missing, nor is a question without
    answers.

    Args:
        data (`datasets.Dataset`): The rows.
        columns (`Columns`): Those that are read; what the data do not have is not missed.
        with_labels (`bool`, *optional*, defaults to `True`): Whether labels are read.
        with_blanks (`bool`, *optional*): Whether texts of white space alone stay. Defaults to where no labels are read:
            an empty line is a part of what is masked.

    Returns:
        The rows that are complete, and what was left out, or `None`.

    Raises:
        DataError: No row is complete.
    """
    with_blanks = not with_labels if with_blanks is None else with_blanks
    inputs = _inputs(data, columns)
    labels = [columns.label] if columns.label in data.column_names else names_of_columns(columns.label)
    names = _there([*inputs, *labels] if with_labels else inputs, data)
    table = data.with_format("arrow").select_columns(names)[:]
    lacking = {name: _is_missing(table[name], blank_too=not with_blanks and name in inputs) for name in names}
    if not names or not (wrong := np.flatnonzero(np.logical_or.reduce(list(lacking.values())))).size:
        return data, None
    first = int(wrong[0])
    column = next(name for name in names if lacking[name][first])
    left_out = Incomplete(len(wrong), len(data), column, place_of(data, first))
    if len(wrong) == len(data):
        raise DataError(f"there must be rows that lack nothing of {', '.join(names)}; {left_out}")
    return data.select(np.setdiff1d(np.arange(len(data)), wrong)), left_out


def _inputs(data: datasets.Dataset, columns: Columns) -> list[str]:
    """Return the columns of what a model reads: questions and choices have other ones than texts and images."""
    there = data.column_names
    if {columns.question, columns.context, columns.answers} <= set(there):
        return [columns.question, columns.context]
    choices = find_choices(data, columns.choices) if columns.label in there else []
    names = (
        (columns.context, columns.question, *choices) if choices else (columns.text, columns.text_pair, columns.image)
    )
    return _there(names, data)


def _there(names: Iterable[str | None], *data: datasets.Dataset) -> list[str]:
    """Return the names that all data sets have, each once."""
    return [name for name in dict.fromkeys(names) if name is not None and all(name in one.column_names for one in data)]


def _is_missing(column: Any, *, blank_too: bool) -> np.ndarray:
    """Return for each cell of a column whether it holds nothing."""
    compute = pyarrow.compute
    missing = column.is_null(nan_is_null=pyarrow.types.is_floating(column.type))
    if blank_too and _is_text(column.type):
        missing = compute.or_(missing, compute.fill_null(_is_blank(column), True))
    elif blank_too and (pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type)):
        entries, rows = compute.list_flatten(column), compute.list_parent_indices(column).to_numpy()
        counts = compute.invert(compute.fill_null(_is_blank(entries), True)) if _is_text(entries.type) else None
        holds = np.zeros(len(column), dtype=bool)
        holds[rows if counts is None else rows[counts.to_numpy().astype(bool)]] = True
        return missing.to_numpy() | ~holds
    return missing.to_numpy()


def _is_text(kind: Any) -> bool:
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _is_blank(texts: Any) -> Any:
    """Return for each text whether it is white space alone."""
    return pyarrow.compute.equal(pyarrow.compute.binary_length(pyarrow.compute.utf8_trim_whitespace(texts)), 0)


@dataclass(frozen=True)
class CutTexts(Record):
    """Texts that are longer than what a model is given.

    Args:
        number (`int`): How many.
        total (`int`): Of how many.
        max_length (`int`): The longest in tokens.
    """

    number: int
    total: int
    max_length: int

    def __str__(self) -> str:
        verb, cut = ("is", "is cut") if self.number == 1 else ("are", "are cut")
        return f"{self.number} of {self.total} texts {verb} longer than {self.max_length} tokens and {cut}"


def cut_texts(
    model: Any,
    tokenizer: Any,
    data: datasets.Dataset,
    columns: Columns,
    rows: datasets.Dataset,
    *,
    max_length: int | None = None,
) -> CutTexts | None:
    """Return how many texts, pairs or lists of words [`prepare`] cut, or `None` where it cut none, or could not.

    Only those rows are read again that are as long as a row can be.

    Args:
        model (`PreTrainedModel`): That the rows are for.
        tokenizer: What turned them into tokens; for images, an image processor.
        data (`datasets.Dataset`): The texts.
        columns (`Columns`): Which columns were read.
        rows (`datasets.Dataset`): What `prepare` made of them, one row for each text.
        max_length (`int`, *optional*): As given to `prepare`.
    """
    names = [columns.text, *([columns.text_pair] if columns.text_pair else [])]
    if not type(model).__name__.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return None  # others cut texts into pieces, and read them all
    longest = longest_text(model, tokenizer, max_length, pair=len(names) > 1)
    ids = rows.with_format("arrow").select_columns(["input_ids"])[:]["input_ids"]
    suspects = np.flatnonzero(pyarrow.compute.list_value_length(ids).to_numpy() >= longest)
    number = 0
    for batch in data.with_format(None).select(suspects).iter(batch_size=1000):
        of_words = isinstance(batch[names[0]][0], list)
        texts = [with_spaces(tokenizer, batch[name]) if of_words else batch[name] for name in names]
        encoded = tokenizer(*texts, is_split_into_words=of_words, verbose=False)
        number += sum(len(one) > longest for one in encoded["input_ids"])
    return CutTexts(number, len(data), longest) if number else None


def require_inputs(data: datasets.Dataset, columns: Columns) -> None:
    """Check that there is something to read: texts, images, questions or choices.

    Raises:
        DataError: There is not.
    """
    names = (columns.text, columns.text_pair, columns.image, columns.question, columns.context)
    if not _there(names, data) and not find_choices(data, columns.choices):
        raise ColumnError(data, f"a column {columns.text!r} of texts or {columns.image!r} of images")


def shared_rows(one: datasets.Dataset, other: datasets.Dataset, columns: Columns) -> int:
    """Return how many rows of one data set have inputs that are in another one too, whatever their labels say.

    Texts are compared after white space is normalised, pairs and questions as a whole, images by their bytes.

    Args:
        one (`datasets.Dataset`): Whose rows are counted.
        other (`datasets.Dataset`): Where they are looked for.
        columns (`Columns`): Which columns are the inputs; those that both data sets have are compared.

    Raises:
        DataError: They have no input in common.

    Example:

    ```python
    >>> import datasets
    >>> from acn_hf.data import Columns, shared_rows

    >>> train = datasets.Dataset.from_dict({"text": ["a good film", "bad"]})
    >>> shared_rows(datasets.Dataset.from_dict({"text": ["a  good film ", "so so"]}), train, Columns())
    1

    ```
    """
    for data in (one, other):
        require_inputs(data, columns)
    names = _there(_inputs(one, columns), other)
    if not names:
        raise DataError(
            f"two data sets must have a column of texts or images in common; got {', '.join(one.column_names)} and "
            f"{', '.join(other.column_names)}"
        )
    known = set(_digests(other, names))
    return sum(digest in known for digest in _digests(one, names))


def untaught_labels(model: Any, train: datasets.Dataset, rows: datasets.Dataset) -> list[str]:
    """Return the names of the labels that some rows have and the rows to train on lack; nothing where there are none.

    Args:
        model (`PreTrainedModel`): That the rows are for; it names the classes.
        train (`datasets.Dataset`): What [`prepare`] made of the rows to train on.
        rows (`datasets.Dataset`): What it made of others.
    """
    if not type(model).__name__.endswith(HEADS_OF_CLASSES) or is_regression(model.config):
        return []
    several = has_several_labels(model.config)
    lacking = _labels_in(rows, several) - _labels_in(train, several)
    names = {number: name for name, number in label_ids(model.config).items()}
    return [names.get(number, str(number)) for number in sorted(lacking)]


def _labels_in(rows: datasets.Dataset, several: bool) -> set[int]:
    """Return the ids of the classes that rows have; `several` means a number for each class."""
    labels = rows.with_format("numpy")["labels"][:]
    if several:
        return set(np.flatnonzero(np.asarray(labels).any(axis=0)).tolist())
    flat = np.concatenate([np.atleast_1d(one) for one in labels])
    return set(np.unique(flat[flat != IGNORED_LABEL]).tolist())


def _digests(data: datasets.Dataset, names: list[str]) -> Iterator[bytes]:
    """Yield a digest of the inputs of each row."""
    arrays = [name for name in names if isinstance(data.features[name], datasets.Array2D)]
    images = [name for name in names if isinstance(data.features[name], datasets.Image)]
    data = data.with_format(None).select_columns(names)
    for name in images:
        data = data.cast_column(name, datasets.Image(decode=False))
    numbers = data.with_format("numpy", columns=arrays)
    for start in range(0, len(data), 1000):
        part = range(start, min(start + 1000, len(data)))
        batch = {name: (numbers if name in arrays else data).select(part)[name][:] for name in names}
        for row in zip(*(batch[name] for name in names), strict=True):
            digest = hashlib.blake2b(digest_size=16)
            for value in row:
                content = _bytes_of(value)
                digest.update(len(content).to_bytes(8, "little") + content)
            yield digest.digest()


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict) and "bytes" in value:
        return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()
    return " ".join(_words(value)).encode()


def _words(value: Any) -> Iterator[str]:
    """Yield the words of a text, or of what holds texts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _words(one)
    elif value is not None:
        yield from str(value).split()
