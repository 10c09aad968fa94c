"""Parts of a data set: few examples of each class, and classes divided into tasks."""

from collections.abc import Sequence

import numpy as np


def examples_per_class(labels: Sequence[int] | np.ndarray, number: int, *, seed: int = 0) -> list[int]:
    """Return the rows of `number` examples of each class, drawn without replacement, in ascending order.

    Args:
        labels (sequence of `int`): The class of each row, one number each.
        number (`int`): Examples of each class, at least 1.
        seed (`int`, *optional*, defaults to 0): Of the draw.

    Raises:
        ValueError: The labels are no row of numbers, `number` is no whole number >= 1, or a class has fewer examples.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must be one number for each row; got an array of shape {labels.shape}")
    _check_number("number", number)
    random, rows = np.random.default_rng(seed), []
    for label in np.unique(labels):
        found = np.flatnonzero(labels == label)
        if len(found) < number:
            raise ValueError(f"every class must have {number} examples; class {label} has {len(found)}")
        rows += random.choice(found, number, replace=False).tolist()
    return sorted(rows)


def split_classes(num_classes: int, num_tasks: int) -> list[tuple[int, ...]]:
    """Return the classes `0..num_classes - 1` divided into tasks of equally many, in their order.

    Args:
        num_classes (`int`): Number of classes.
        num_tasks (`int`): Number of tasks, a divisor of it.

    Raises:
        ValueError: They are no whole numbers >= 1, or `num_tasks` does not divide `num_classes`.
    """
    _check_number("num_classes", num_classes)
    _check_number("num_tasks", num_tasks)
    if num_classes % num_tasks:
        raise ValueError(f"the number of tasks must divide the number of classes, {num_classes}; got {num_tasks}")
    size = num_classes // num_tasks
    return [tuple(range(first, first + size)) for first in range(0, num_classes, size)]


def _check_number(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1; got {value!r}")
