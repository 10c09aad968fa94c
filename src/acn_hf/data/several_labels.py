"""Several labels for one example: which of all classes hold, as numbers 0.0 and 1.0."""

from typing import Any

import datasets

from .idx import DataError
from .labels import Classes, column_values, require, whole


def has_several_labels(config: Any) -> bool:
    """Return whether a config describes a head that predicts several labels at once."""
    return config.problem_type == "multi_label_classification"


def has_lists(data: datasets.Dataset, column: str) -> bool:
    """Return whether a column holds lists, of as many labels as an example has."""
    return any(isinstance(value, list) for value in column_values(data, column))


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
    if column not in data.column_names and "," in column:
        return _from_columns(config, data, [name.strip() for name in column.split(",")])
    require(data, column)
    classes, vectors = Classes.of(config, data.features[column]), []
    for row, labels in enumerate(column_values(data, column)):
        if not isinstance(labels, list):
            raise DataError(
                f"column {column!r} must hold lists of labels, since this model predicts several; got {labels!r} in "
                f"row {row}"
            )
        vector = [0.0] * config.num_labels
        for label in labels:
            try:
                vector[classes.id_of(label)] = 1.0
            except DataError as error:
                raise DataError(f"row {row} of column {column!r} does not fit: {error}") from None
        vectors.append(vector)
    return vectors


def _from_columns(config: Any, data: datasets.Dataset, names: list[str]) -> list[list[float]]:
    require(data, *names)
    classes = Classes.of(config, None)
    places = [classes.id_of(name) for name in names]
    vectors = [[0.0] * config.num_labels for _ in range(len(data))]
    for name, place in zip(names, places, strict=True):
        for row, value in enumerate(column_values(data, name)):
            if whole(value) not in (0, 1):
                raise DataError(f"column {name!r} must hold 0 and 1, or truth values; got {value!r} in row {row}")
            vectors[row][place] = float(value)
    return vectors
