"""The examples that a page shows: those of which a depth loses or gains the answer, the surest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..depth import squad
from ..support.records import Record
from .answers import Answered, Answers
from .residuals import residuals
from .rows import Shown

IN_A_LIST = 10
"""Examples in a list, unless another number is asked for."""
MOST_EXAMPLES = 400
"""Of all lists together: models of many depths have shorter lists."""
LONGEST_ANSWER = 160
"""Characters of an answer in words."""
OUTSIDE = "O"
"""The tag of words that are part of nothing."""


@dataclass(frozen=True)
class Changed(Record):
    """The examples of which one depth loses the answer, or gains it.

    Args:
        count (`int`): How many there are.
        shown (`tuple[int, ...]`): Places of those that are shown, in `ChosenExamples.examples`.
    """

    count: int
    shown: tuple[int, ...]


@dataclass(frozen=True)
class Example(Record):
    """One row of the data.

    Args:
        row (`int`): Its number, from 0.
        label (`str`): What is right.
        full (`str`): The answer of the model at full depth, as it was.
        full_certainty (`float`, *optional*): How sure that is.
        at (`dict[int, tuple[str, float | None]]`): The answer at each depth, and how sure it is.
        text (`str`, *optional*): What is read.
        picture (`str`, *optional*): What is seen, as an address that holds it.
    """

    row: int
    label: str
    full: str
    full_certainty: float | None
    at: dict[int, tuple[str, float | None]]
    text: str | None = None
    picture: str | None = None

    def __post_init__(self) -> None:
        if self.picture is not None and not self.picture.startswith("data:image/"):
            raise ValueError(f"a picture must be one that the record holds; got an address, {self.picture[:40]!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        return {**super().to_dict(), "at": {str(depth): list(answer) for depth, answer in self.at.items()}}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "at": {int(depth): tuple(answer) for depth, answer in fields["at"].items()}}


@dataclass(frozen=True)
class ChosenExamples(Record):
    """What is shown of the data.

    Args:
        examples (`tuple[Example, ...]`): All that are in some list.
        lost (`dict[int, Changed]`): At each depth, those that full depth has right and the depth has wrong; of numbers,
            those that are farther off.
        gained (`dict[int, Changed]`): The reverse.
        in_a_list (`int`): So many at most.
        num_examples (`int`): Out of so many.
        by (`str`): What their order is by: `certainty` of the wrong answer, `error` of numbers, number of wrong `tags`,
            `words` that an answer shares with a right one, or `row` where none of these is known.

    Raises:
        ValueError: A list names an example that is not there.
    """

    examples: tuple[Example, ...]
    lost: dict[int, Changed]
    gained: dict[int, Changed]
    in_a_list: int
    num_examples: int
    by: str

    def __post_init__(self) -> None:
        for changed in (*self.lost.values(), *self.gained.values()):
            wrong = [place for place in changed.shown if not 0 <= place < len(self.examples)]
            if wrong:
                raise ValueError(f"lists must name some of the {len(self.examples)} examples; got {wrong[0]}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        lists = {
            name: {str(depth): changed.to_dict() for depth, changed in getattr(self, name).items()}
            for name in ("lost", "gained")
        }
        return {**super().to_dict(), "examples": [example.to_dict() for example in self.examples], **lists}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        lists = {
            name: {int(depth): Changed.from_dict(changed) for depth, changed in fields[name].items()}
            for name in ("lost", "gained")
        }
        return {**fields, "examples": tuple(map(Example.from_dict, fields["examples"])), **lists}


def choose_examples(answers: Answers, rows: Shown, in_a_list: int = IN_A_LIST) -> ChosenExamples | None:
    """Return the examples to show, or `None` where an answer does not belong to one example.

    Of classes and labels those are lost that full depth has right and a depth has wrong, and the one that is surest of
    its wrong answer comes first; those are gained of which it is the other way round. Of numbers, those come first
    whose error grew, or shrank, most.

    Args:
        answers (`Answers`): Of all depths.
        rows (`Callable`): From the number of a row to what is shown of it.
        in_a_list (`int`, *optional*, defaults to 10): Most examples of a list; fewer where there are many depths.
    """
    if not answers.is_by_example or in_a_list == 0:
        return None
    length = max(1, min(in_a_list, MOST_EXAMPLES // (2 * max(len(answers.at), 1))))
    places: dict[int, int] = {}
    lists: dict[str, dict[int, Changed]] = {"lost": {}, "gained": {}}
    for depth, one in answers.at.items():
        for name, order in zip(("lost", "gained"), _orders(answers, one), strict=True):
            first = tuple(places.setdefault(int(row), len(places)) for row in order[:length])
            lists[name][depth] = Changed(len(order), first)
    by = {"number": "error", "tags": "tags", "answers": "words"}.get(answers.kind or "", "row")
    by = by if answers.full.certainty is None else "certainty"
    chosen = tuple(_example(answers, row, rows(row)) for row in places)
    return ChosenExamples(chosen, lists["lost"], lists["gained"], length, answers.num_examples, by)


def _orders(answers: Answers, one: Answered) -> Iterator[np.ndarray]:
    """Yield the rows that a depth loses, and those that it gains, in the order in which they are shown."""
    if answers.kind == "number":
        grown = np.abs(residuals(answers, one)) - np.abs(residuals(answers, answers.full))
        for change in (grown, -grown):
            order = np.argsort(-change, kind="stable")
            yield order[change[order] > 0]
        return
    full_right, right = _right(answers, answers.full), _right(answers, one)
    for changed, wrong in ((full_right & ~right, one), (~full_right & right, answers.full)):
        rows = np.flatnonzero(changed)
        yield rows[np.argsort(-_wrongness(answers, wrong, rows), kind="stable")]


def _right(answers: Answers, one: Answered) -> np.ndarray:
    """Return which examples a model has right."""
    if answers.kind == "answers":
        return squad.exact_matches(one.answers, answers.references) == 1
    if answers.kind == "tags":
        return np.array([ours == right for ours, right in zip(one.answers, answers.references, strict=True)], bool)
    return (one.answers == answers.references).reshape(answers.num_examples, -1).all(axis=1)


def _wrongness(answers: Answers, one: Answered, rows: np.ndarray) -> np.ndarray:
    """Return how sure, or how far from what is right, wrong answers are."""
    if one.certainty is not None:
        return one.certainty[rows]
    if answers.kind == "answers" and len(rows):
        return -squad.f1_scores(one.answers[rows], answers.references[rows])
    if answers.kind == "tags":
        pairs = ((one.answers[row], answers.references[row]) for row in rows)
        return np.array([sum(a != b for a, b in zip(*pair, strict=True)) for pair in pairs])
    return np.zeros(len(rows))


def _example(answers: Answers, row: int, shown: dict[str, Any]) -> Example:
    words = shown.get("words")

    def said(one: Answered) -> tuple[str, float | None]:
        sure = None if one.certainty is None else round(float(one.certainty[row]), 4)
        return _in_words(answers, one.answers[row], words), sure

    full, certainty = said(answers.full)
    return Example(
        row=row,
        label=_in_words(answers, answers.references[row], words),
        full=full,
        full_certainty=certainty,
        at={depth: said(one) for depth, one in answers.at.items()},
        text=shown.get("text"),
        picture=shown.get("picture"),
    )


def _in_words(answers: Answers, answer: Any, words: Sequence[str] | None) -> str:
    """Return an answer, or what is right, as it is read."""
    if answers.kind == "number":
        return f"{float(np.reshape(answer, -1)[0]):.4g}"
    if answers.kind == "choices":
        return f"choice {int(answer)}"
    if answers.kind == "answers":
        given = [answer] if isinstance(answer, str) else list(dict.fromkeys(answer))
        parts = [text or "no answer" for text in given]
    elif answers.kind == "tags":
        named = zip(words or (f"word {place}" for place in range(1, len(answer) + 1)), answer, strict=False)
        parts = [f"{word} {tag}" for word, tag in named if tag != OUTSIDE]
    else:
        numbers = np.flatnonzero(answer) if answers.kind == "labels" else [answer]
        parts = [answers.names.get(int(number), str(number)) for number in numbers]
    said = (" / " if answers.kind == "answers" else ", ").join(parts) or "none"
    return said if len(said) <= LONGEST_ANSWER else f"{said[: LONGEST_ANSWER - 1]}…"
