"""The answers that a model finds in texts: the best span of each window, and the best window of each question."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch


class Question(TypedDict):
    """What a window of a text says beside its tokens; `acn_hf.data.prepare` makes it."""

    question: int
    """Its number; all windows of a question have the same."""
    context: str
    """The part of the text that the window holds: texts may be long, and windows many."""
    begins: int
    """Where this part begins in the text."""
    starts: list[int]
    """Where each token begins in this part, or -1 for a token that is not of the text."""
    ends: list[int]
    """Where each token ends."""
    none: int
    """The token that stands for no answer."""
    answers: list[str]
    """Texts that are right; none if there is no answer."""
    longest: int
    """Most tokens of an answer."""


class Span(NamedTuple):
    """The best answer of one window."""

    text: str
    score: float
    """Logits of start and end together."""
    none: float
    """The same of there being no answer."""


class Window(NamedTuple):
    """What is right in one window."""

    question: int
    answers: tuple[str, ...]


class Inputs(dict[str, Any]):
    """What a model takes of a batch, and, of questions, what the rows say beside it.

    A batch that is not of questions is a dictionary like every other.
    """

    questions: Sequence[Question] | None = None

    @classmethod
    def of(cls, values: Any, questions: Sequence[Question] | None) -> "Inputs":
        """Return such a batch of the items of a mapping."""
        inputs = cls(values)
        inputs.questions = questions
        return inputs


def windows(questions: Iterable[Question]) -> np.ndarray:
    """Return what is right in each window, as an array of objects."""
    return as_objects([Window(question["question"], tuple(question["answers"])) for question in questions])


def best_spans(logits: torch.Tensor, questions: Sequence[Question]) -> np.ndarray:
    """Return the best answer of each window, as an array of objects.

    A span begins and ends with tokens of the text, does not end before it begins, and is not longer than the question
    allows. All such spans are compared.

    Args:
        logits (`torch.Tensor` of shape `(num_windows, num_tokens, 2)`): Of start and end; finite where tokens are.
        questions (sequence of `Question`): One for each window, whose tokens come first in its row of logits.
    """
    longest = min(max(question["longest"] for question in questions), logits.shape[1])
    is_text = torch.zeros(logits.shape[:2], dtype=torch.bool)
    may_be = torch.zeros(len(questions), 1, longest, dtype=torch.bool)
    for row, question in enumerate(questions):
        is_text[row, : len(question["starts"])] = torch.tensor(question["starts"]) >= 0
        may_be[row, :, : question["longest"]] = True
    counted = logits.float().masked_fill(~is_text[:, :, None].to(logits.device), -torch.inf)
    ends = torch.nn.functional.pad(counted[..., 1], (0, longest - 1), value=-torch.inf).unfold(1, longest, 1)
    scores = (counted[..., :1] + ends).masked_fill(~may_be.to(logits.device), -torch.inf).flatten(1)
    best, places = (values.tolist() for values in scores.max(dim=1))
    nones = torch.tensor([question["none"] for question in questions], device=logits.device)
    none = logits.float()[torch.arange(len(questions), device=logits.device), nones].sum(dim=-1).tolist()
    spans = []
    for question, score, place, without in zip(questions, best, places, none, strict=True):
        first, length = divmod(place, longest)
        found = score > -np.inf  # a window may hold no token of the text
        text = question["context"][question["starts"][first] : question["ends"][first + length]] if found else ""
        spans.append(Span(text.strip(), score, without))  # some tokens begin with the space before them
    return as_objects(spans)


def joined(spans: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the answer to each question, and those that are right, from all windows of its text.

    The best span of all windows counts. Where some of the questions have no answer, as in SQuAD 2, it counts only if no
    window says more clearly that there is none.

    Args:
        spans (`np.ndarray` of `Span`): One for each window.
        references (`np.ndarray` of `Window`): The same.
    """
    may_be_none = any(not window.answers for window in references)
    found: dict[int, list[Span]] = {}
    right: dict[int, tuple[str, ...]] = {}
    for span, window in zip(spans, references, strict=True):
        found.setdefault(window.question, []).append(span)
        right[window.question] = window.answers or ("",)
    texts = []
    for question in found:
        best = max(found[question], key=lambda span: span.score)
        none = min(span.none for span in found[question])
        texts.append("" if may_be_none and none > best.score else best.text)
    return as_objects(texts), as_objects([right[question] for question in found])


def as_objects(values: Sequence[Any]) -> np.ndarray:
    """Return an array of one dimension, whatever the values are."""
    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        array[place] = value
    return array
