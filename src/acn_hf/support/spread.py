"""A few out of many, evenly spread."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(items: Sequence[T], most: int, always: Iterable[int] = ()) -> list[T]:
    """Return at most so many items in their order, with the first and the last, evenly spread over all.

    Args:
        items (sequence): All of them.
        most (`int`): How many come back at most, >= 2; more only if `always` names more.
        always (iterable of `int`): Places of items that must be among them.
    """
    if len(items) <= most:
        return list(items)
    places = set(always)
    free = max(2, most - len(places))
    places |= {round(number * (len(items) - 1) / (free - 1)) for number in range(free)}
    return [items[place] for place in sorted(places)]
