"""Precision and recall of every class at every depth, from counts that are few however many examples there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ..support.records import Record
from .answers import Answered, Answers

MOST_CLASSES = 60
"""Of more, the most frequent are kept."""
MOST_CONFUSIONS = 8
"""Pairs of classes that are kept of each depth."""
LONGEST_NAME = 80
"""Characters of the name of a class."""


@dataclass(frozen=True)
class Counts(Record):
    """How often one model answered each class.

    Args:
        predicted (`tuple[int, ...]`): How often each class was answered.
        right (`tuple[int, ...]`): How often it was right.
    """

    predicted: tuple[int, ...]
    right: tuple[int, ...]


@dataclass(frozen=True)
class Confusion(Record):
    """A class that is taken for another.

    Args:
        label (`str`): What is right.
        answer (`str`): What was answered.
        count (`int`): How often.
        count_full (`int`): How often by the model at full depth.
    """

    label: str
    answer: str
    count: int
    count_full: int


@dataclass(frozen=True)
class ClassFigures(Record):
    """What there is to say of every class.

    Args:
        kind (`str`): `classes`, `labels` or `tags`.
        names (`tuple[str, ...]`): Of the classes that are shown, the most frequent first.
        num_classes (`int`): How many there are.
        support (`tuple[int, ...]`): How often each is right.
        full (`Counts`): Of the model at full depth, as it was.
        at (`dict[int, Counts]`): Of the model of each depth.
        confusions (`dict[int, tuple[Confusion, ...]]`): Of each depth, what grew most against full depth.

    Raises:
        ValueError: Names and counts differ in number.
    """

    kind: str
    names: tuple[str, ...]
    num_classes: int
    support: tuple[int, ...]
    full: Counts
    at: dict[int, Counts]
    confusions: dict[int, tuple[Confusion, ...]]

    def __post_init__(self) -> None:
        numbers = [len(self.support), *(len(n) for c in (self.full, *self.at.values()) for n in (c.predicted, c.right))]
        if any(number != len(self.names) for number in numbers):
            raise ValueError(f"figures of classes must be as many as the {len(self.names)} names; got {numbers}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        at = {str(depth): counts.to_dict() for depth, counts in self.at.items()}
        pairs = {str(depth): [pair.to_dict() for pair in some] for depth, some in self.confusions.items()}
        return {**super().to_dict(), "at": at, "confusions": pairs}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        at = {int(depth): Counts.from_dict(counts) for depth, counts in fields["at"].items()}
        pairs = {
            int(depth): tuple(Confusion.from_dict(pair) for pair in some)
            for depth, some in fields["confusions"].items()
        }
        return {**fields, "full": Counts.from_dict(fields["full"]), "at": at, "confusions": pairs}


def class_figures(answers: Answers) -> ClassFigures | None:
    """Return precision, recall and confusions of every class at every depth, or `None` where there are no classes."""
    kind = answers.kind
    if kind not in ("classes", "labels", "tags"):
        return None
    names, read = answers.names, _reader(answers)
    references = read(answers.references)
    everything = (answers.full, *answers.at.values())
    number = _number_of_classes(names, references, (read(one.answers) for one in everything))
    support = _frequency(references, number, kind)
    shown = np.argsort(-support, kind="stable")[:MOST_CLASSES]

    def counts(one: Answered) -> Counts:
        predicted = read(one.answers)
        right = (
            (predicted * references).sum(axis=0)
            if kind == "labels"
            else np.bincount(references[predicted == references], minlength=number)
        )
        return Counts(_of(_frequency(predicted, number, kind), shown), _of(right, shown))

    def confusions(one: Answered) -> tuple[Confusion, ...]:
        if kind == "labels":  # an answer of several labels is not taken for another
            return ()
        return _confusions(read(one.answers), read(answers.full.answers), references, number, names)

    return ClassFigures(
        kind=kind,
        names=tuple(_short(names.get(int(place), str(place))) for place in shown),
        num_classes=number,
        support=_of(support, shown),
        full=counts(answers.full),
        at={depth: counts(one) for depth, one in answers.at.items()},
        confusions={depth: confusions(one) for depth, one in answers.at.items()},
    )


def _reader(answers: Answers) -> Any:
    """Return the function from answers to numbers of classes; tags are kept by their names, a list for each text."""
    if answers.metric.needs != "tags":
        return lambda ids: ids
    numbers = {name: number for number, name in answers.names.items()}

    def read(texts: Iterable[list[str]]) -> np.ndarray:
        return np.fromiter((numbers[tag] for tag in chain.from_iterable(texts)), dtype=int)

    return read


def _number_of_classes(names: Iterable[int], references: np.ndarray, others: Iterable[np.ndarray]) -> int:
    """Return how many classes there are: those that the config names, and any more that were answered."""
    if references.ndim == 2:
        return references.shape[-1]
    return max([*names, *(int(ids.max()) for ids in (references, *others) if ids.size)], default=-1) + 1


def _frequency(ids: np.ndarray, number: int, kind: str) -> np.ndarray:
    return ids.sum(axis=0) if kind == "labels" else np.bincount(ids, minlength=number)


def _confusions(
    predicted: np.ndarray, full: np.ndarray, references: np.ndarray, number: int, names: dict[int, str]
) -> tuple[Confusion, ...]:
    """Return the pairs of classes that are confused more often than at full depth, where that grew most first."""
    tables = []
    for answered in (predicted, full):
        wrong = answered != references
        pairs, often = np.unique(references[wrong] * number + answered[wrong], return_counts=True)
        tables.append(dict(zip(pairs.tolist(), often.tolist(), strict=True)))
    here, there = tables
    grown = sorted((pair for pair in here if here[pair] > there.get(pair, 0)), key=lambda p: there.get(p, 0) - here[p])
    return tuple(
        Confusion(
            _short(names.get(pair // number, str(pair // number))),
            _short(names.get(pair % number, str(pair % number))),
            here[pair],
            there.get(pair, 0),
        )
        for pair in grown[:MOST_CONFUSIONS]
    )


def _of(counts: np.ndarray, shown: np.ndarray) -> tuple[int, ...]:
    return tuple(int(count) for count in counts[shown])


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
