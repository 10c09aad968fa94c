"""What there is to learn from a data set, as its columns say it, and the head and the metric that belong to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import datasets

from ..support.records import Record
from .choices import numbered_columns
from .idx import DataError
from .labels import (
    column_values,
    find_classes,
    is_missing,
    label_names,
    names_among,
    number_of,
    read_at,
    require,
    whole,
)
from .places import ColumnError, RowError, placed
from .rows import Columns, is_regression
from .several_labels import are_columns, names_of_columns

HEADS = {
    "text-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "fill-mask": "AutoModelForMaskedLM",
    "masked-image-modeling": "AutoModelForMaskedImageModeling",
}
"""The Auto class of each kind of head, by what the Hub calls the task."""

TASKS = (*HEADS, "regression", "multi-label-classification")
"""What can be asked for. The last two have the head of a classifier, of texts or of images."""

LISTS = ("token-classification", "multi-label-classification")
"""The tasks that have a list of labels in each row."""

FEW_CLASSES = 20
"""Number of classes above which whole numbers may as well be numbers to predict."""

ALL_DIFFERENT = 50
"""Number of rows from which on labels that are all different are no classes."""


@dataclass(frozen=True)
class Task(Record):
    """What there is to learn.

    Args:
        name (`str`): One of `TASKS`.
        inputs (`str`): What is read: `"texts"`, `"images"`, `"words"`, `"questions"`.
        classes (`tuple[str, ...]`): Names of the classes in the order of their ids; none where there are none.
        has_ids (`bool`): Whether the data hold ids and name the classes beside them, as a `datasets.ClassLabel` does.
        remark (`str`): What a user should know besides; mostly nothing.
    """

    name: str
    inputs: str
    classes: tuple[str, ...] = ()
    has_ids: bool = False
    remark: str = field(default="", compare=False)

    @property
    def auto_class(self) -> str:
        """The Auto class of transformers that reads a checkpoint with the head of this task."""
        is_of_images = self.inputs == "images"
        return HEADS.get(self.name) or HEADS["image-classification" if is_of_images else "text-classification"]

    @property
    def config_fields(self) -> dict[str, Any]:
        """The fields of a config that say what there is to predict."""
        if self.name == "regression":
            unnamed = {"id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
            return {**unnamed, "num_labels": 1, "problem_type": "regression"}
        if not self.classes:
            return {}
        is_multiple = self.name == "multi-label-classification"
        kinds = {HEADS["text-classification"], HEADS["image-classification"]}
        kind = "multi_label_classification" if is_multiple else "single_label_classification"
        return {
            "id2label": dict(enumerate(self.classes)),
            "label2id": {name: number for number, name in enumerate(self.classes)},
            "num_labels": len(self.classes),
            "problem_type": kind if self.auto_class in kinds else None,
        }

    @property
    def metric(self) -> str:
        """The name of the metric that is usual for it."""
        return _metric_of(self.auto_class, self.config_fields.get("problem_type"), self.classes)

    @property
    def description(self) -> str:
        """What there is to learn, as a part of a sentence."""
        named = f"{len(self.classes)} {{}} of {self.inputs}{{}}: {_some(self.classes)}"
        sentences = {
            "regression": f"a number for each of the {self.inputs}",
            "multi-label-classification": named.format("labels", ", several at once"),
            "token-classification": named.format("tags", ""),
            "question-answering": "answers to questions, which stand in their contexts",
            "multiple-choice": "the right one of several choices",
            "fill-mask": "masked tokens of texts",
            "masked-image-modeling": "masked patches of images",
        }
        return sentences.get(self.name, named.format("classes", "")) + self.remark


def usual_metric(model: Any) -> str:
    """Return the name of the metric that is usual for the head of a model.

    Args:
        model (`PreTrainedModel`): With a head.
    """
    kind, config = type(model).__name__, model.config
    auto_class = next((one for one in HEADS.values() if kind.endswith(one.removeprefix("AutoModel"))), "")
    classes = [str(name) for name in (config.id2label or {}).values()]
    return _metric_of(auto_class, "regression" if is_regression(config) else config.problem_type, classes)


def reads_labels(model: Any) -> bool:
    """Return whether labels are read from the data of a model: all heads do that, but those that mask their inputs."""
    return usual_metric(model) != "loss"


def _metric_of(auto_class: str, problem_type: str | None, classes: Sequence[str]) -> str:
    if auto_class in (HEADS["fill-mask"], HEADS["masked-image-modeling"]):
        return "loss"
    if auto_class == HEADS["question-answering"]:
        return "answer_f1"
    if auto_class == HEADS["multiple-choice"]:  # whatever the number of labels in its config
        return "accuracy"
    if auto_class == HEADS["token-classification"]:
        return "entity_f1" if _mark_entities(classes) else "accuracy"
    return {"regression": "mse", "multi_label_classification": "f1_micro"}.get(problem_type or "", "accuracy")


def _mark_entities(classes: Sequence[str]) -> bool:
    """Return whether tags are those of entities: O, and such as begin with B- or I-."""
    kinds = {name if name == "O" else name[:2] for name in classes}
    return "O" in kinds and len(kinds) > 1 and kinds <= {"O", "B-", "I-", "E-", "S-"}


def find_task(data: datasets.Dataset, columns: Columns, *, asked: str | None = None) -> Task:
    """Return what there is to learn from a data set, as its columns say it.

    Rows of which the label is missing do not count here; see [`complete_rows`].

    Args:
        data (`datasets.Dataset`): The rows to train on.
        columns (`Columns`): Which columns to read.
        asked (`str`, *optional*): One of `TASKS`, for data that could mean several things. Whole numbers are classes
            unless `"regression"` is asked for, and images are masked only if `"masked-image-modeling"` is.

    Raises:
        DataError: A column is missing, holds what the task cannot read, or leaves nothing to learn; or there is no task
            of that name.

    Example:

    ```python
    >>> import datasets
    >>> from acn_hf.data import Columns, find_task

    >>> data = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": ["positive", "negative"]})
    >>> find_task(data, Columns()).description
    '2 classes of texts: negative, positive'

    ```
    """
    if asked is not None and asked not in TASKS:
        raise DataError(f"a task must be one of {', '.join(TASKS)}; got {asked!r}")
    name = asked or _guess(data, columns)
    if name in ("fill-mask", "masked-image-modeling", "question-answering", "multiple-choice"):
        require(data, *_needed(name, data, columns))
        return Task(name, {"fill-mask": "texts", "masked-image-modeling": "images"}.get(name, "questions"))
    inputs = _inputs(data, columns, name)
    require(data, getattr(columns, "image" if inputs == "images" else "text"))
    if name == "multi-label-classification" and are_columns(data, columns.label):
        return Task(name, inputs, tuple(names_of_columns(columns.label)))
    require(data, columns.label)
    return _labelled(data, columns.label, name, inputs, is_sure=asked is not None)


def _guess(data: datasets.Dataset, columns: Columns) -> str:
    """Return the name of the task that the columns speak for."""
    there = set(data.column_names)
    for name in ("question-answering", "multiple-choice"):
        if there >= set(_needed(name, data, columns)):
            return name
    has_texts, has_images = columns.text in there, columns.image in there
    if has_texts and has_images:
        raise DataError(
            f"the data must hold texts or images; they have columns {columns.text!r} and {columns.image!r}: ask for a "
            "task, text-classification or image-classification"
        )
    if not has_images:
        require(data, columns.text)
    if "," in columns.label and columns.label not in there:
        return "multi-label-classification"
    if columns.label not in there:
        return _guess_unlabelled(data, columns, has_texts)
    if has_texts and any(isinstance(value, list) for value in _present(data, columns.text)):
        return "token-classification"
    labels = list(_present(data, columns.label))
    if any(isinstance(value, list) for value in labels):
        return "multi-label-classification"
    if any(isinstance(value, float) and not value.is_integer() for value in labels):
        return "regression"
    return "text-classification" if has_texts else "image-classification"


def _guess_unlabelled(data: datasets.Dataset, columns: Columns, has_texts: bool) -> str:
    if has_texts and set(data.column_names) == {columns.text}:
        return "fill-mask"
    task = "fill-mask" if has_texts else "masked-image-modeling"
    hint = f"name the column of the labels, or ask for the task {task}, which needs none"
    raise ColumnError(data, f"a column {columns.label!r}", hint)


def _needed(name: str, data: datasets.Dataset, columns: Columns) -> list[str]:
    """Return the columns that a task without classes cannot do without."""
    if name == "question-answering":
        return [columns.question, columns.context, columns.answers]
    if name == "multiple-choice":
        return [*(numbered_columns(data, columns.choices) or [columns.choices]), columns.label]
    return [columns.text if name == "fill-mask" else columns.image]


def _inputs(data: datasets.Dataset, columns: Columns, name: str) -> str:
    if name == "token-classification":
        return "words"
    if name in ("text-classification", "image-classification"):
        return "texts" if name == "text-classification" else "images"
    return "images" if columns.image in data.column_names and columns.text not in data.column_names else "texts"


def _labelled(data: datasets.Dataset, column: str, name: str, inputs: str, *, is_sure: bool) -> Task:
    """Return the task of a column of labels: classes, several at once, tags, or numbers."""
    labels = list(_present(data, column))
    if not labels:
        raise DataError(f"column {column!r} must hold labels; all of its {len(data)} cells are empty")
    if name == "regression":
        with placed(data):
            for row, value in enumerate(column_values(data, column)):
                if not is_missing(value):
                    read_at(row, column, number_of, value)
        return Task(name, inputs)
    holds_lists, wants_lists = isinstance(labels[0], list), name in LISTS
    if holds_lists != wants_lists:
        wanted = "a list of labels" if wants_lists else "one label"
        raise DataError(f"every cell of column {column!r} must hold {wanted} for {name}; got {labels[0]!r}")
    if name == "multi-label-classification":
        _check_sets(labels, column)
    values = list(chain.from_iterable(labels)) if holds_lists else labels
    if any(map(is_missing, values)):
        cells = enumerate(column_values(data, column))
        row = next(row for row, cell in cells if not is_missing(cell) and any(map(is_missing, cell)))
        with placed(data):
            raise RowError(row, "the list must hold a label in every place; got None", column)
    are_names = label_names(data.features[column]) is not None
    classes = find_classes(data, column) if are_names else names_among(values)
    _check_classes(classes, values, column)
    remark, may_be_numbers = "", all(isinstance(whole(value), int) for value in values)
    if may_be_numbers and not (are_names or is_sure or holds_lists) and len(classes) > FEW_CLASSES:
        remark = " (whole numbers are taken for classes; the task regression predicts them as numbers)"
    return Task(name, inputs, tuple(classes), are_names, remark)


def _check_classes(classes: list[str], values: list[Any], column: str) -> None:
    if len(classes) < 2:
        raise DataError(
            f"there must be at least two classes to tell apart; every label in column {column!r} is "
            f"{classes[0] if classes else None!r}"
        )
    if len(classes) == len(values) >= ALL_DIFFERENT:
        raise DataError(
            f"column {column!r} must hold classes; its {len(values)} labels are all different, so there is none to "
            "learn: name another column, or ask for the task regression if they are numbers"
        )


def _check_sets(labels: list[list[Any]], column: str) -> None:
    for one in labels:
        if len(set(one)) != len(one):
            raise DataError(
                f"the lists of column {column!r} must name each label once; got {_some(map(str, one))}: a row of zeros "
                "and ones must become the list of the labels whose number is one"
            )


def _present(data: datasets.Dataset, column: str) -> Iterable[Any]:
    return (value for value in column_values(data, column) if not is_missing(value))


def _some(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    shown = names if len(names) <= most else [*names[: most - 2], "...", names[-1]]
    return ", ".join(shown)
