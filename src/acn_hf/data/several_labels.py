"""Several labels for one example: which of all classes hold, as numbers 0.0 and 1.0."""

from typing import Any

import datasets

from .labels import Classes, column_values, find_classes, read_at, require, whole
from .places import RowError


def has_several_labels(config: Any) -> bool:
    """Return whether a config describes a head that predicts several labels at once."""
    return config.problem_type == "multi_label_classification"


def find_several_classes(data: datasets.Dataset, column: str) -> list[str] | None:
    """Return the names of the classes of which an example has several, or `None` where it has one.

    Args:
        data (`datasets.Dataset`): The rows.
        column (`str`): See [`label_vectors`].

    Raises:
        DataError: A row has no list.
    """
    if are_columns(data, column):
        return names_of_columns(column)
    holds_lists = any(isinstance(value, list) for value in column_values(data, column))
    return find_classes(data, column) if holds_lists else None


def are_columns(data: datasets.Dataset, column: str) -> bool:
    """Return whether `column` stands for several columns, one for each class.

    Raises:
        DataError: It stands for none.
    """
    if "," in column and column not in data.column_names:
        require(data, *names_of_columns(column))
        return True
    require(data, column)
    return False


def names_of_columns(column: str) -> list[str]:
    """Return the names between commas."""
    return [name.strip() for name in column.split(",")]


def label_vectors(config: Any, data: datasets.Dataset, column: str) -> list[list[float]]:
    """Return for each row a number for each class of a model: 1.0 if the row has this label, else 0.0.

    Args:
        config: That of the model, which names the classes.
        data (`datasets.Dataset`): The rows.
        column (`str`): A column of lists of names or ids of classes, or, with commas between them, the columns that
            are called as the classes and hold 0 and 1, or truth values.

    Raises:
        DataError: There is no such column, it does not hold lists, or a label is not one of the model's.
    """
    if are_columns(data, column):
        return _from_columns(config, data, names_of_columns(column))
    classes, vectors = Classes.of(config, data.features[column]), []
    for row, labels in enumerate(column_values(data, column)):
        if not isinstance(labels, list):
            rule = f"column {column!r} must hold lists of labels, since this model predicts several; got {labels!r}"
            raise RowError(row, rule)
        vector = [0.0] * config.num_labels
        for label in labels:
            vector[read_at(row, column, classes.id_of, label)] = 1.0
        vectors.append(vector)
    return vectors


def _from_columns(config: Any, data: datasets.Dataset, names: list[str]) -> list[list[float]]:
    classes = Classes.of(config, None)
    places = [classes.id_of(name) for name in names]
    vectors = [[0.0] * config.num_labels for _ in range(len(data))]
    for name, place in zip(names, places, strict=True):
        for row, value in enumerate(column_values(data, name)):
            if whole(value) not in (0, 1):
                raise RowError(row, f"column {name!r} must hold 0 and 1, or truth values; got {value!r}")
            vectors[row][place] = float(value)
    return vectors
