"""Choices: a text, several ways to go on, and which is right."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import datasets
from transformers import DataCollatorForMultipleChoice

from .idx import DataError
from .labels import column_values, read_at, require, whole
from .places import ColumnError, RowError


def choice_rows(
    tokenizer: Any, data: datasets.Dataset, *, texts: list[str], choices: str, label: str, longest: int
) -> tuple[datasets.Dataset, Callable]:
    """Turn texts with choices into rows: each choice after the text, and the number of the right one.

    Args:
        tokenizer: That of the model.
        data (`datasets.Dataset`): The texts.
        texts (`list[str]`): Columns of what comes before the choices, such as a text and a question.
        choices (`str`): A column of lists of choices, or what the names of several columns begin with.
        label (`str`): The column of the right ones: numbers from 0, letters from A, names where choices are
            `{"text": [...], "label": [...]}`, or the choices themselves.
        longest (`int`): Most tokens of a text with a choice.

    Returns:
        The rows, and the function that makes a batch of them.

    Raises:
        DataError: A column is missing, rows have different numbers of choices, or a label is none of them.
    """
    require(data, *texts, label)
    of_rows, names = _choices(data, choices)
    labels = [
        read_at(row, label, partial(_label, choices=of_rows[row], names=names[row]), value)
        for row, value in enumerate(column_values(data, label))
    ]

    def encode(batch: dict[str, list], rows: list[int]) -> dict[str, list]:
        firsts, seconds = [], []
        for number, row in enumerate(rows):
            first, *middle = (batch[name][number] for name in texts)
            for choice in of_rows[row]:
                firsts.append(first)
                seconds.append(" ".join([*middle, choice]))
        encoded = tokenizer(firsts, seconds, truncation=True, max_length=longest)
        size = len(of_rows[0])
        return {
            name: [values[start : start + size] for start in range(0, len(values), size)]
            for name, values in encoded.items()
        }

    rows = data.with_format(None).map(encode, batched=True, with_indices=True, remove_columns=data.column_names)
    return rows.add_column("labels", labels), DataCollatorForMultipleChoice(tokenizer)


def choice_columns(data: datasets.Dataset, name: str) -> list[str]:
    """Return the columns that hold choices: one of lists, or several called `name` and a number, in their order.

    Raises:
        DataError: There are none.
    """
    if found := find_choices(data, name):
        return found
    raise ColumnError(data, f"a column {name!r} of lists of choices, or columns {name}0, {name}1, ...")


def find_choices(data: datasets.Dataset, name: str) -> list[str]:
    """Return the columns that hold choices, as [`choice_columns`] does, or none where there are none."""
    return [name] if name in data.column_names else numbered_columns(data, name)


def numbered_columns(data: datasets.Dataset, name: str) -> list[str]:
    """Return the columns that are called `name` and a number, in the order of the numbers, if there are two or more."""
    numbered = {column: re.fullmatch(rf"{re.escape(name)}_?(\d+)", column) for column in data.column_names}
    found = sorted((int(match[1]), column) for column, match in numbered.items() if match)
    return [column for _, column in found] if len(found) > 1 else []


def _choices(data: datasets.Dataset, name: str) -> tuple[list[list[str]], list[list[str] | None]]:
    """Return the choices of each row, and their names where they have any."""
    columns = choice_columns(data, name)
    names: list[list[str] | None] = [None] * len(data)
    if len(columns) > 1:
        found = [list(row) for row in zip(*(column_values(data, column) for column in columns), strict=True)]
    else:
        found = column_values(data, name)
        if isinstance(found[0], dict):
            found, names = ([row[key] for row in found] for key in ("text", "label"))
    for row, texts in enumerate(found):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise RowError(row, f"column {name!r} must hold lists of texts; got {texts!r}")
        if len(texts) != len(found[0]) or len(texts) < 2:
            rule = f"every row must have as many choices as the first, {len(found[0])}, and at least two"
            raise RowError(row, f"{rule}; this one has {len(texts)}")
    return found, names


def _label(value: Any, choices: list[str], names: list[str] | None) -> int:
    """Return the number of the right choice.

    Raises:
        DataError: It is none of them.
    """
    label = whole(value)
    if names is not None and str(label) in names:
        return names.index(str(label))
    if isinstance(label, str) and label in choices:
        return choices.index(label)
    if isinstance(label, str):
        is_letter = len(label) == 1 and "A" <= label <= "Z"
        label = ord(label) - ord("A") if is_letter else int(label) if label.isdecimal() else label
    if isinstance(label, int) and 0 <= label < len(choices):
        return label
    raise DataError(
        f"a label must be the number of a choice, from 0 to {len(choices) - 1}, its letter, or the choice itself; got "
        f"{value!r}"
    )
