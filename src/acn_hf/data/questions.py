"""Questions about texts: windows of tokens, where the answer stands in each, and what a metric of answers needs."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import torch

from ..depth.spans import Inputs, Question
from .idx import DataError
from .labels import require
from .places import RowError

LONGEST_ANSWER = 30
"""Tokens, as in the scripts for SQuAD."""
LARGEST_OVERLAP = 128
"""Tokens that two windows of a text share, where there is room for so many."""


@dataclass(frozen=True)
class Answer:
    """One right answer.

    Args:
        text (`str`): What stands in the text.
        start (`int`): Where.
    """

    text: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)


class QuestionCollator:
    """Makes batches of the rows of [`question_rows`].

    A batch holds what a model takes. What a metric of answers needs is its attribute `questions`.

    Args:
        tokenizer: Which pads.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> Inputs:
        names = [name for name in rows[0] if name in self.tokenizer.model_input_names]
        # On the right, so that tokens keep the places that rows give.
        padded = self.tokenizer.pad(
            {name: [row[name] for row in rows] for name in names}, return_tensors="pt", padding_side="right"
        )
        places = {name: [int(row[name]) for row in rows] for name in ("start_positions", "end_positions")}
        batch = {**padded, **{name: torch.tensor(values) for name, values in places.items() if name in rows[0]}}
        return Inputs.of(batch, [row["label"] for row in rows] if "label" in rows[0] else None)


def question_rows(
    tokenizer: Any,
    data: datasets.Dataset,
    *,
    question: str,
    context: str,
    answers: str,
    window: int,
    overlap: int | None = None,
    longest_answer: int = LONGEST_ANSWER,
) -> tuple[datasets.Dataset, Callable]:
    """Turn questions about texts into rows: one for each window of a text, or several where the text is long.

    The column `label` of the rows is what is right in words, for metrics of answers. A model does not see it.

    Args:
        tokenizer: A fast one, which knows where tokens stand in the text.
        data (`datasets.Dataset`): The questions.
        question (`str`): The column of the questions.
        context (`str`): The column of the texts.
        answers (`str`): The column of the answers: as SQuAD has them, `{"text": [...], "answer_start": [...]}`; a list
            of such answers; or one text, with a column `answer_start` or without. No answer, or an empty one, means
            that the text does not say.
        window (`int`): Most tokens of a row.
        overlap (`int`, *optional*): Tokens that two windows share. Defaults to 128, or a third of the window if that
            is less.
        longest_answer (`int`, *optional*, defaults to 30): Most tokens of an answer that a metric looks for.

    Returns:
        The rows, and the function that makes a batch of them.

    Raises:
        DataError: There is no such column, an answer does not stand in its text, the tokenizer is not a fast one, or a
            number is out of its range.
    """
    if not tokenizer.is_fast:
        raise DataError("questions need a fast tokenizer, which knows where each token stands in the text")
    if longest_answer < 1:
        raise DataError(f"the longest answer must have at least 1 token; got {longest_answer}")
    require(data, question, context, answers)
    room = window - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 2:
        raise DataError(f"a window must have room for a question and a text; got {window} tokens")
    most = room - room // 2 - 1
    overlap = min(LARGEST_OVERLAP, window // 3, most) if overlap is None else overlap
    if not 0 <= overlap <= most:
        raise DataError(f"windows of {window} tokens must overlap by 0 to {most}; got {overlap}")
    encoder = _Encoder(tokenizer, question, context, answers, window, room // 2, overlap, longest_answer)
    rows = data.with_format(None).map(
        encoder.encode, batched=True, with_indices=True, remove_columns=data.column_names, features=encoder.features()
    )
    return rows, QuestionCollator(tokenizer)


@dataclass(frozen=True)
class _Encoder:
    """Makes the windows of texts.

    Args:
        tokenizer: A fast one.
        question (`str`): The column of the questions.
        context (`str`): The column of the texts.
        answers (`str`): The column of the answers.
        window (`int`): Most tokens.
        longest_question (`int`): Most tokens of a question; what is beyond is cut off.
        overlap (`int`): Tokens that two windows share.
        longest_answer (`int`): Most tokens of an answer.
    """

    tokenizer: Any
    question: str
    context: str
    answers: str
    window: int
    longest_question: int
    overlap: int
    longest_answer: int

    def features(self) -> datasets.Features:
        """Return the types of the columns, which a batch without any answer would not show."""
        integers = datasets.List(datasets.Value("int32"))
        label = {
            **dict.fromkeys(("question", "begins", "none", "longest"), datasets.Value("int32")),
            **dict.fromkeys(("starts", "ends"), integers),
            "context": datasets.Value("string"),
            "answers": datasets.List(datasets.Value("string")),
        }
        names = self.tokenizer("a", "a").keys()
        positions = dict.fromkeys(("start_positions", "end_positions"), datasets.Value("int64"))
        return datasets.Features({**dict.fromkeys(names, integers), **positions, "label": label})

    def encode(self, batch: dict[str, list], numbers: list[int]) -> dict[str, list]:
        """Return the windows of some rows."""
        questions = self._shortened([text.strip() for text in batch[self.question]])
        contexts = batch[self.context]
        given = batch.get("answer_start", [None] * len(contexts))
        right = [
            _answers(value, start, context, number)
            for value, start, context, number in zip(batch[self.answers], given, contexts, numbers, strict=True)
        ]
        encoded = self.tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=self.window,
            stride=self.overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        offsets, samples = encoded.pop("offset_mapping"), encoded.pop("overflow_to_sample_mapping")
        found: dict[str, list] = {**encoded, "start_positions": [], "end_positions": [], "label": []}
        for row, (places, sample) in enumerate(zip(offsets, samples, strict=True)):
            is_text = np.array([part == 1 for part in encoded.sequence_ids(row)])
            starts, ends = (np.where(is_text, [place[side] for place in places], -1) for side in (0, 1))
            none = self._none(encoded["input_ids"][row])
            first, last = _place_of(right[sample], starts, ends, none)
            found["start_positions"].append(first)
            found["end_positions"].append(last)
            begins = int(starts[is_text].min(initial=len(contexts[sample])))
            label: Question = {
                "question": numbers[sample],
                "context": contexts[sample][begins : max(0, ends.max())],
                "begins": begins,
                "starts": np.where(is_text, starts - begins, -1).tolist(),
                "ends": np.where(is_text, ends - begins, -1).tolist(),
                "none": none,
                "answers": [answer.text for answer in right[sample]],
                "longest": self.longest_answer,
            }
            found["label"].append(label)
        return found

    def _shortened(self, questions: list[str]) -> list[str]:
        """Return questions that leave room for a text."""
        encoded = self.tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)
        return [
            text[: places[self.longest_question - 1][1]] if len(places) > self.longest_question else text
            for text, places in zip(questions, encoded["offset_mapping"], strict=True)
        ]

    def _none(self, ids: list[int]) -> int:
        """Return the token that stands for no answer: that of the whole text, else the first."""
        return ids.index(self.tokenizer.cls_token_id) if self.tokenizer.cls_token_id in ids else 0


def _place_of(right: list[Answer], starts: np.ndarray, ends: np.ndarray, none: int) -> tuple[int, int]:
    """Return the first and the last token of the first answer, or the token of no answer if the window lacks it."""
    if not right:
        return none, none
    answer = right[0]
    inside = np.flatnonzero((starts >= 0) & (ends > answer.start) & (starts < answer.end))
    if not len(inside) or starts[inside[0]] > answer.start or ends[inside[-1]] < answer.end:
        return none, none
    return int(inside[0]), int(inside[-1])


def _answers(value: Any, start: Any, context: str, row: int) -> list[Answer]:
    """Return the answers of a row, in whatever form they are given.

    Raises:
        RowError: One does not stand in the text.
    """
    found = []
    for text, place in _pairs(value, start):
        if not isinstance(text, str):
            raise RowError(row, f"an answer must be a text; got {text!r}")
        if not text.strip():
            continue
        place = _first_place(text, context) if place is None or place != place else int(place)
        if place < 0 or context[place : place + len(text)] != text:
            where = "in its text" if place < 0 else f"at {place} of its text"
            raise RowError(row, f"an answer must stand {where}; {text!r} does not")
        found.append(Answer(text, place))
    return found


def _first_place(text: str, context: str) -> int:
    """Return where a text stands first: as words of its own, else as a part of others; or -1."""
    words = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", context)
    return words.start() if words else context.find(text)


def _pairs(value: Any, start: Any) -> Iterator[tuple[Any, Any]]:
    if value is None:
        return
    if isinstance(value, dict):
        texts, starts = value.get("text") or [], value.get("answer_start")
        texts, starts = ([texts], [starts]) if isinstance(texts, str) else (texts, starts)
        yield from zip(texts, starts or [None] * len(texts), strict=False)
    elif isinstance(value, list):
        for answer in value:
            yield from _pairs(answer, None)
    else:
        yield value, start
