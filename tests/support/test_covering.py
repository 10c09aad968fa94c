"""In the covering arrays of this suite every pair of values meets, and they are the same in every process."""

import importlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.covering import Combinations, covering, covering_array
from tests.support.families import CONNECTIONS

ROOT = Path(__file__).parents[2]


def together(rows, strength):
    """Return what meets in some rows: places and their values, `strength` at a time."""
    return {group for row in rows for group in itertools.combinations(enumerate(row), strength)}


def arrays() -> Iterator[tuple[str, Combinations]]:
    """Give the name and the combinations of each test of this suite that has an array."""
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        if path.parent.name in ("upstream", "timm"):  # which may lack what they are made of
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, value in vars(module).items():
            for mark in getattr(value, "pytestmark", []) if name.startswith("test_") else []:
                if mark.name == "parametrize" and isinstance(mark.args[1], Combinations):
                    yield f"{path.stem}::{name}", mark.args[1]


def test_every_pair_meets_in_every_array_of_this_suite():
    found = dict(arrays())
    assert len(found) > 100
    smaller = 0
    for name, combinations in found.items():
        possible, array, strength = combinations.possible, combinations.array, combinations.strength
        assert array <= set(possible), name
        for size in range(1, min(strength, len(possible[0])) + 1):
            assert together(array, size) == together(possible, size), name
        kept = {param.id for param in combinations if "full" not in {mark.name for mark in param.marks}}
        assert kept == {"-".join(key) for key in array}, name
        smaller += len(array) < len(possible)
    assert smaller > 10


def test_what_an_array_leaves_out_is_full_and_in_the_order_of_the_product():
    mark = covering(letter="abc", number={"one": 1, "two": 2, "three": 3}, truth=[False, True])
    names, combinations = mark.args
    assert names == ["letter", "number", "truth"]
    product = list(itertools.product("abc", (1, 2, 3), (False, True)))
    assert [param.values for param in combinations] == product
    assert combinations[3].id == "a-two-True"
    assert 9 <= sum(not param.marks for param in combinations) < len(product)
    only = covering(letter="abc", number=[1, 2, 3], truth=[False, True], whole=False).args[1]
    assert len(only) == len(only.array) < len(product)
    assert not any(param.marks for param in only)


def test_triples_meet_where_they_are_asked_for():
    lists = {"a": "ab", "b": "cde", "c": "fg", "d": "hijk"}
    pairs, triples = (covering(**lists, strength=strength).args[1] for strength in (2, 3))
    assert together(triples.array, 3) == together(triples.possible, 3)
    assert together(pairs.array, 3) < together(pairs.possible, 3)
    assert len(pairs.array) < len(triples.array) < 2 * 3 * 2 * 4


def test_a_value_that_is_full_is_in_no_array():
    seldom = pytest.param(3, id="three", marks=pytest.mark.full)
    combinations = covering(number=[1, 2, seldom], letter="ab", truth=[False, True]).args[1]
    marked = [param.id for param in combinations if param.id.startswith("three")]
    assert len(marked) == 4
    assert not any("three" in key for key in combinations.array)
    assert together(combinations.array, 2) == together(itertools.product("12", "ab", ("False", "True")), 2)


def test_combinations_that_cannot_be_are_in_no_array():
    """Of connections at scale 0 alone, of which one more is possible, with one readout."""
    some = {key: value for key, value in CONNECTIONS.items() if key[0] == "alpha_0"}
    some[("alpha_1", "sum", "strict")] = {}
    combinations = covering(number=[1, 2, 3], options=some).args[1]
    assert combinations.array < {(number, *key) for number in "123" for key in some}
    assert together(combinations.array, 2) == together(combinations.possible, 2)


def test_every_process_has_the_same_array():
    program = (
        "from itertools import product; from tests.support.covering import covering_array\n"
        "print(sorted(covering_array(list(product('abcdefg', 'hijk', 'lm', 'no')))))"
    )
    expected = str(sorted(covering_array(list(itertools.product("abcdefg", "hijk", "lm", "no")))))
    for seed in ("0", "1"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected, done.stderr
