"""Covering arrays: of all combinations of some lists of values, the few in which every pair of values meets.

Most faults need one value or two that meet, so a test of every pair finds what a test of every combination does, in a
fraction of the runs. `make test` runs the arrays and `make test-all` the rest, which carries the marker `full`.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import covertable
import pytest

Values = Iterable[Any] | Mapping[str | tuple[str, ...], Any]


class Combinations(list):
    """The combinations of some lists as pytest takes them, in the order of the product.

    `keys` are the names of the values of each combination, one entry for each factor; `seldom` are the combinations
    of a value that is `full` itself.
    """

    def __init__(self, params: list[Any], keys: list[tuple[str, ...]], seldom: list[bool], strength: int) -> None:
        super().__init__(params)
        self.keys, self.seldom, self.strength = keys, seldom, strength

    @property
    def kept(self) -> list[bool]:
        """Whether each combination is one of the array."""
        return [not _is_full(param) for param in self]


def covering(*, possible: Callable[..., bool] | None = None, strength: int = 2, **lists: Values) -> Any:
    """Parametrise a test over all combinations of some lists, of which those outside of a covering array are `full`.

    Args:
        possible (`Callable`, *optional*):
            Takes one value of each list by name, and returns whether they can be together; by default they can.
        strength (`int`, *optional*, defaults to 2):
            How many values meet in every way: 2 for pairs, 3 for triples.
        lists:
            The values of each argument of the test. A list may hold `pytest.param(value, id=..., marks=...)`: all
            combinations of a value that is `full` are `full`. A mapping names its values; where its keys are tuples,
            each entry of the key counts as a value of its own, which meets all others.

    Returns:
        `pytest.MarkDecorator`: a mark like that of `pytest.mark.parametrize`.
    """
    choices = {name: [_named(value) for value in _items(values)] for name, values in lists.items()}
    rows = [
        row
        for row in itertools.product(*choices.values())
        if possible is None or possible(**dict(zip(choices, (param.values[0] for _, param in row), strict=True)))
    ]
    keys = [tuple(itertools.chain.from_iterable(key for key, _ in row)) for row in rows]
    seldom = [any(_is_full(param) for _, param in row) for row in rows]
    array = covering_array([key for key, is_seldom in zip(keys, seldom, strict=True) if not is_seldom], strength)
    params = [
        pytest.param(
            *(param.values[0] for _, param in row),
            id="-".join(key),
            marks=[
                *(mark for _, param in row for mark in param.marks),
                *([] if key in array or is_seldom else [pytest.mark.full]),
            ],
        )
        for row, key, is_seldom in zip(rows, keys, seldom, strict=True)
    ]
    return pytest.mark.parametrize(list(choices), Combinations(params, keys, seldom, strength))


def covering_array(rows: list[tuple[str, ...]], strength: int = 2) -> set[tuple[str, ...]]:
    """Return rows in which all values that are together in some row, `strength` at a time, are together.

    The same rows give the same array in every process: nothing in it is random.
    """
    if not rows or len(rows[0]) <= strength:
        return set(rows)
    factors = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    names = range(len(factors))
    constraints = []
    if len(rows) < len(list(itertools.product(*factors))):
        allowed = set(rows)
        constraints = [
            {
                "operator": "fn",
                "requires": list(names),
                "evaluate": lambda row: tuple(row[name] for name in names) in allowed,
            }
        ]
    found = covertable.make(dict(zip(names, factors, strict=True)), strength=strength, constraints=constraints)
    return {tuple(row[name] for name in names) for row in found}


def _items(values: Values) -> list[tuple[Any, Any]]:
    return list(values.items()) if isinstance(values, Mapping) else [(None, value) for value in values]


def _named(item: tuple[Any, Any]) -> tuple[tuple[str, ...], Any]:
    """Return the key of a value, and the value as a `pytest.param`."""
    key, value = item
    param = value if hasattr(value, "marks") and hasattr(value, "values") else pytest.param(value)
    if key is None:
        value = param.values[0]
        key = param.id or getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
    return (key if isinstance(key, tuple) else (key,)), param


def _is_full(param: Any) -> bool:
    return any(mark.name == "full" for mark in param.marks)
