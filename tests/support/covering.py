"""Covering arrays: of all combinations of some lists of values, the few in which every pair of values meets.

Most faults need one value, or two that meet; a test of every pair finds those in a fraction of the runs. `make test`
runs the arrays, and `make test-all` the rest, which carries the marker `full`.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import covertable
import pytest

Values = Iterable[Any] | Mapping[str | tuple[str, ...], Any]
Key = tuple[str, ...]


class Combinations(list):
    """Combinations of values as pytest takes them, which remember what they were chosen from.

    Args:
        params (`list`): One `pytest.param` for each combination.
        possible (`list[tuple[str, ...]]`): The names of the values of all combinations to choose from.
        array (`set[tuple[str, ...]]`): Those among them that were chosen.
        strength (`int`): How many values meet in every way.
    """

    def __init__(self, params: list[Any], possible: list[Key], array: set[Key], strength: int) -> None:
        super().__init__(params)
        self.possible, self.array, self.strength = possible, array, strength


def covering(*, strength: int = 2, whole: bool = True, **lists: Values) -> Any:
    """Parametrise a test over all combinations of some lists, of which those outside of a covering array are `full`.

    Args:
        strength (`int`, *optional*, defaults to 2):
            How many values meet in every way: 2 for pairs, 3 for triples.
        whole (`bool`, *optional*, defaults to `True`):
            Whether the test has the combinations outside of the array at all.
        lists:
            The values of each argument of the test. A list may hold `pytest.param(value, id=..., marks=...)`; all
            combinations of a value that is `full` are `full`. A mapping gives its values names. Where these are tuples,
            each entry counts as a value of its own, and only the tuples that are there are possible.

    Returns:
        `pytest.MarkDecorator`: A mark like that of `pytest.mark.parametrize`, in the order of the product.
    """
    rows = list(itertools.product(*(_named(values) for values in lists.values())))
    keys = [tuple(itertools.chain.from_iterable(key for key, _ in row)) for row in rows]
    marks = [[mark for _, param in row for mark in param.marks] for row in rows]
    possible = [key for key, own in zip(keys, marks, strict=True) if "full" not in {mark.name for mark in own}]
    array = covering_array(possible, strength)
    params = []
    for row, key, own in zip(rows, keys, marks, strict=True):
        if whole or key in array:
            extra = [] if key in array else [pytest.mark.full]
            params.append(pytest.param(*(param.values[0] for _, param in row), id="-".join(key), marks=[*own, *extra]))
    return pytest.mark.parametrize(list(lists), Combinations(params, possible, array, strength))


def covering_array(possible: list[Key], strength: int = 2) -> set[Key]:
    """Return combinations in which all values meet that meet in a possible one, `strength` at a time.

    Nothing in it is random: the same combinations give the same array in every process.
    """
    if not possible or len(possible[0]) <= strength:
        return set(possible)
    factors = {place: list(dict.fromkeys(column)) for place, column in enumerate(zip(*possible, strict=True))}
    allowed = set(possible)

    def is_allowed(row: Mapping[int, str]) -> bool:
        return tuple(row[place] for place in factors) in allowed

    constraint = {"operator": "fn", "requires": list(factors), "evaluate": is_allowed}
    found = covertable.make(factors, strength=strength, constraints=[constraint])
    return {tuple(row[place] for place in factors) for row in found}


def _named(values: Values) -> list[tuple[Key, Any]]:
    """Return each value as a `pytest.param`, and its name or names."""
    named = []
    for key, value in values.items() if isinstance(values, Mapping) else ((None, value) for value in values):
        param = value if hasattr(value, "marks") else pytest.param(value)
        key = key or param.id or _name(param.values[0])
        named.append((key if isinstance(key, tuple) else (key,), param))
    return named


def _name(value: Any) -> str:
    return getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
