"""Parts of a data set: few examples of each class, and classes divided into tasks."""

from collections.abc import Sequence

import numpy as np


def examples_per_class(labels: Sequence[int] | np.ndarray, number: int, *, seed: int = 0) -> list[int]:
    """Return the rows of `number` examples of each class, drawn without replacement, in ascending order.

    Args:
        labels (sequence of `int`): The class of each row.
        number (`int`): Examples of each class, at least 1.
        seed (`int`, *optional*, defaults to 0): Of the draw.

    Raises:
        ValueError: `number` is no whole number >= 1, or a class has fewer examples.
    """
    labels = np.asarray(labels)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"number must be a whole number >= 1; got {number!r}")
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
        ValueError: `num_tasks` does not divide `num_classes`.
    """
    if num_tasks < 1 or num_classes % num_tasks:
        raise ValueError(f"the number of tasks must divide the number of classes, {num_classes}; got {num_tasks}")
    size = num_classes // num_tasks
    return [tuple(range(first, first + size)) for first in range(0, num_classes, size)]
