"""Labels as they stand in data (names, numbers, truth values), and the classes that a model knows."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import datasets

from .idx import DataError
from .places import ColumnError, RowError, placed


def label_ids(config: Any) -> dict[str, int]:
    """Return the ids of the classes that a config names, by name, in the order of their ids.

    A config may hold `id2label` alone, and ids as text, as JSON has them. What it calls a class in `label2id` counts
    too.

    Raises:
        DataError: `id2label` and `label2id` contradict each other.
    """
    named = {str(name): int(number) for number, name in sorted((config.id2label or {}).items(), key=_number)}
    others = {str(name): int(number) for name, number in (config.label2id or {}).items()}
    wrong = [name for name, number in others.items() if named.get(name, number) != number]
    if wrong:
        raise DataError(
            f"id2label and label2id of the model must say the same; of {wrong[0]!r} they say {named[wrong[0]]} and "
            f"{others[wrong[0]]}"
        )
    own = {number for name, number in others.items() if not is_unnamed(name)}
    # Who names the classes of a config later does it in one of the two, and leaves LABEL_0 in the other.
    named = {name: number for name, number in named.items() if not (is_unnamed(name) and number in own)}
    return named | {name: number for name, number in others.items() if not is_unnamed(name)}


@dataclass(frozen=True)
class Classes:
    """The classes that a model knows, and those of the data that it is to read.

    Args:
        ids (`dict[str, int]`): See [`label_ids`].
        number (`int`): How many there are in the model.
        names (`list[str]`, *optional*): Names of the classes of the data, where these hold numbers.
    """

    ids: dict[str, int]
    number: int
    names: list[str] | None

    @classmethod
    def of(cls, config: Any, feature: Any) -> Self:
        """Return those of the config of a model and of a column of a data set."""
        return cls(label_ids(config), config.num_labels, label_names(feature))

    def id_of(self, value: Any) -> int:
        """Return the model's id of a label: by name where the model knows a name of the data, else by number.

        Raises:
            DataError: The model does not know the label.
        """
        label = whole(value)
        if isinstance(label, str) and label.isdecimal() and label not in self.ids:
            label = int(label)
        is_number = isinstance(label, int)
        if self.names is not None and is_number and 0 <= label < len(self.names) and set(self.names) & set(self.ids):
            label = self.names[label]
        # Truth values may be called so; classes found in a column of numbers are called by these numbers.
        for name in [*([str(value), str(value).lower()] if isinstance(value, bool) else []), str(label)]:
            if name in self.ids:
                return self.ids[name]
        if isinstance(label, int) and 0 <= label < self.number and not all(map(_is_number, self.ids)):
            return label
        raise DataError(f"a label must be one of {', '.join(self.ids)}; got {label!r}")


def is_unnamed(name: str) -> bool:
    """Return whether a class is called as upstream calls those that nobody has named."""
    return name.startswith("LABEL_")


def label_names(feature: Any) -> list[str] | None:
    """Return the names of the classes of a column, or of a column of lists, if it has any."""
    feature = getattr(feature, "feature", feature)
    return feature.names if isinstance(feature, datasets.ClassLabel) else None


def find_classes(data: datasets.Dataset, column: str) -> list[str]:
    """Return the names of the classes of a column of labels, or of lists of labels, in the order of their ids.

    Raises:
        DataError: There is no such column, or a label is missing.
    """
    require(data, column)
    names = label_names(data.features[column])
    if names is not None:
        return names
    values = column_values(data, column)
    cells = [value if isinstance(value, list) else [value] for value in values]
    with placed(data):
        for row, cell in enumerate(cells):
            if any(map(is_missing, cell)):
                raise RowError(row, f"every row of column {column!r} must have a label; got {values[row]}")
    return names_among(chain.from_iterable(cells))


def names_among(labels: Iterable[Any]) -> list[str]:
    """Return the names of the classes among labels, in the order of their ids."""
    return [str(whole(value)) for value in sorted(set(labels))]


def number_of(label: Any) -> float:
    """Return a label that is a number to predict.

    Raises:
        DataError: It is none, or not finite.
    """
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"a label must be a number for regression; got {label!r}")
    return number


def read_at(row: int, column: str, read: Callable[[Any], Any], label: Any) -> Any:
    """Return what `read` makes of a label, and say in which row it stands if it cannot be read.

    Raises:
        RowError: It cannot.
    """
    try:
        return read(label)
    except DataError as error:
        raise RowError(row, str(error), column) from None


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: nothing, or what pandas makes of it in a column of numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def knows(config: Any, classes: Iterable[str], *, are_ids: bool = False) -> bool:
    """Return whether a model's classes are those of some data, maybe in another order and with more beside.

    Args:
        config: Of the model.
        classes (`Iterable[str]`): Names of the classes of the data, in the order of their ids.
        are_ids (`bool`, *optional*, defaults to `False`): Whether the data hold these ids, which a model whose classes
            nobody has named goes by.
    """
    known, classes = label_ids(config), list(classes)
    if all(map(is_unnamed, known)):
        are_numbers = all(name.isdigit() and int(name) < config.num_labels for name in classes)
        return bool(classes) and (are_numbers or (are_ids and len(classes) == config.num_labels))
    return bool(classes) and set(classes) <= set(known)


def column_values(data: datasets.Dataset, column: str) -> list[Any]:
    """Return a column as Python has it, in whatever format the data set gives it."""
    return data.with_format(None)[column][:]


def require(data: datasets.Dataset, *names: str) -> None:
    """Check that there are columns of these names.

    Raises:
        DataError: There is one missing.
    """
    for name in names:
        if name not in data.column_names:
            raise ColumnError(data, f"a column {name!r}")


def whole(value: Any) -> Any:
    """Return truth values and whole floats as int, everything else as it is."""
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value


def _number(item: tuple[Any, Any]) -> int:
    return int(item[0])


def _is_number(name: str) -> bool:
    return name.lstrip("-").isdigit()
