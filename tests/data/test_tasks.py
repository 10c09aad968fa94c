"""What there is to learn is read from the columns, and what cannot be learned is refused."""

import datasets
import numpy as np
import pytest

from acn_hf.data.idx import DataError
from acn_hf.data.rows import Columns
from acn_hf.data.tasks import TASKS, Task, find_task, usual_metric
from tests.support.families import HEADS, by_name

TEXTS = ["good film", "bad film", "good good", "bad"]
IMAGES = [np.zeros((4, 4), np.uint8)] * 4
SQUARE = datasets.Array2D((4, 4), "uint8")


def table(features=None, **columns):
    data = datasets.Dataset.from_dict(columns)
    return data.cast(datasets.Features({**data.features, **features})) if features else data


NAMED = datasets.ClassLabel(names=["neg", "pos"])


@pytest.mark.parametrize(
    ("data", "name", "description", "head", "metric"),
    [
        (
            table(text=TEXTS, label=["positive", "negative", "positive", None]),
            "text-classification",
            "2 classes of texts: negative, positive",
            "AutoModelForSequenceClassification",
            "accuracy",
        ),
        (
            table(text=TEXTS, label=[10, 2, 3, 3]),
            "text-classification",
            "3 classes of texts: 2, 3, 10",
            "AutoModelForSequenceClassification",
            "accuracy",
        ),
        (
            table({"label": NAMED}, text=TEXTS, label=[1, 1, 1, 1]),
            "text-classification",
            "2 classes of texts: neg, pos",
            "AutoModelForSequenceClassification",
            "accuracy",
        ),
        (
            table({"image": SQUARE}, image=IMAGES, label=[True, False, True, True]),
            "image-classification",
            "2 classes of images: 0, 1",
            "AutoModelForImageClassification",
            "accuracy",
        ),
        (
            table(text=TEXTS, label=[1.0, 0.0, None, 1.0]),
            "text-classification",
            "2 classes of texts: 0, 1",
            "AutoModelForSequenceClassification",
            "accuracy",
        ),
        (
            table(text=TEXTS, label=[1.0, 0.5, 2.0, 3.0]),
            "regression",
            "a number for each of the texts",
            "AutoModelForSequenceClassification",
            "mse",
        ),
        (
            table({"image": SQUARE}, image=IMAGES, label=[0.1, 0.5, 2.0, 3.0]),
            "regression",
            "a number for each of the images",
            "AutoModelForImageClassification",
            "mse",
        ),
        (
            table(text=TEXTS, label=[["a", "b"], [], ["c"], ["a"]]),
            "multi-label-classification",
            "3 labels of texts, several at once: a, b, c",
            "AutoModelForSequenceClassification",
            "f1_micro",
        ),
        (
            table(text=[["a", "b"], ["c"]], label=[["X", "O"], ["O"]]),
            "token-classification",
            "2 tags of words: O, X",
            "AutoModelForTokenClassification",
            "accuracy",
        ),
        (
            table(text=[["a", "b"], ["c"]], label=[["B-PER", "I-PER"], ["O"]]),
            "token-classification",
            "3 tags of words: B-PER, I-PER, O",
            "AutoModelForTokenClassification",
            "entity_f1",
        ),
        (
            table(question=["who?"], context=["she"], answers=[{"text": ["she"], "answer_start": [0]}]),
            "question-answering",
            "answers to questions, which stand in their contexts",
            "AutoModelForQuestionAnswering",
            "answer_f1",
        ),
        (
            table(text=["a"], choices=[["b", "c"]], label=[1]),
            "multiple-choice",
            "the right one of several choices",
            "AutoModelForMultipleChoice",
            "accuracy",
        ),
        (
            table(context=["a"], choices1=["b"], choices2=["c"], label=[1]),
            "multiple-choice",
            "the right one of several choices",
            "AutoModelForMultipleChoice",
            "accuracy",
        ),
        (table(text=TEXTS), "fill-mask", "masked tokens of texts", "AutoModelForMaskedLM", "loss"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_columns_say_what_there_is_to_learn(data, name, description, head, metric):
    task = find_task(data, Columns())
    assert (task.name, task.description, task.auto_class, task.metric) == (name, description, head, metric)
    assert find_task(data, Columns(), asked=name) == task
    assert Task.from_dict(task.to_dict()) == task


def test_the_config_says_what_was_found():
    classes = find_task(table(text=TEXTS, label=["b", "a", "b", "c"]), Columns())
    assert classes.config_fields == {
        "id2label": {0: "a", 1: "b", 2: "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
        "num_labels": 3,
        "problem_type": "single_label_classification",
    }
    several = find_task(table(text=TEXTS[:2], label=[["a"], ["b"]]), Columns())
    assert several.config_fields["problem_type"] == "multi_label_classification"
    number = find_task(table(text=TEXTS[:2], label=[0.5, 1.5]), Columns())
    assert (number.config_fields["num_labels"], number.config_fields["problem_type"]) == (1, "regression")
    assert find_task(table(text=TEXTS), Columns()).config_fields == {}


def test_whole_numbers_are_classes_unless_numbers_are_asked_for():
    data = table(text=TEXTS * 10, label=[*range(30)] + [0] * 10)
    task = find_task(data, Columns())
    assert task.description == (
        "30 classes of texts: 0, 1, 2, 3, ..., 29 (whole numbers are taken for classes; the task regression predicts "
        "them as numbers)"
    )
    assert "regression" not in find_task(data, Columns(), asked="text-classification").description
    assert find_task(data, Columns(), asked="regression").config_fields["num_labels"] == 1
    assert find_task(table(text=TEXTS[:2], label=["1", "2.5"]), Columns(), asked="regression").name == "regression"


def test_masked_images_are_learned_only_if_asked_for():
    images = table({"image": SQUARE}, image=IMAGES)
    with pytest.raises(DataError, match=r"got image: name .* masked-image-modeling, which needs none"):
        find_task(images, Columns())
    task = find_task(images, Columns(), asked="masked-image-modeling")
    assert (task.auto_class, task.metric) == ("AutoModelForMaskedImageModeling", "loss")


def test_a_label_column_of_another_name_is_not_taken_for_none():
    with pytest.raises(DataError, match="must have a column 'label'; got text, stars: name the column of the labels"):
        find_task(table(text=TEXTS, stars=[1, 2, 3, 4]), Columns())
    assert find_task(table(text=TEXTS, stars=[1, 2, 3, 4]), Columns(), asked="fill-mask").name == "fill-mask"


@pytest.mark.parametrize(
    ("columns", "asked", "message"),
    [
        ({"label": [1, 1, 1, 1]}, None, "at least two classes to tell apart; every label in column 'label' is '1'"),
        ({"label": [None] * 4}, None, "column 'label' must hold labels; all of its 4 cells are empty"),
        (
            {"label": ["a", "b", "a", "b"]},
            "regression",
            "row 1, column 'label': .* number for regression; got 'a'",
        ),
        ({"label": ["a", "b", "a", "b"]}, "tagging", "a task must be one of text-classification, .*; got 'tagging'"),
        ({"label": ["a", "b", "a", "b"]}, "token-classification", "must hold a list of labels for token-.*; got 'a'"),
        ({"label": [["a"], ["b"]] * 2}, "text-classification", r"must hold one label for text-.*; got \['a'\]"),
        ({"label": [[0, 1, 0]] * 4}, None, "name each label once; got 0, 1, 0: a row of zeros and ones must become"),
        ({"label": [["a"], ["a", None]] * 2}, None, "row 2, column 'label': .* a label in every place; got None"),
        ({"label": [1, 0, 1, 0], "image": ["x"] * 4}, None, "must hold texts or images; they have columns 'text' and"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_learned_is_refused(columns, asked, message):
    with pytest.raises(DataError, match=message):
        find_task(table(text=TEXTS, **columns), Columns(), asked=asked)


def test_labels_that_are_all_different_are_no_classes():
    data = table(text=["x"] * 60, label=[f"row {number}" for number in range(60)])
    with pytest.raises(DataError, match="its 60 labels are all different, so there is none to learn"):
        find_task(data, Columns())


def test_a_text_column_that_is_missing_is_named():
    with pytest.raises(DataError, match="must have a column 'text'; got sentence, label"):
        find_task(table(sentence=TEXTS, label=[1, 0, 1, 0]), Columns())


def test_every_task_has_a_head():
    for name in TASKS:
        assert Task(name, "texts").auto_class.startswith("AutoModelFor")


@pytest.mark.parametrize("head", [head for head in HEADS if head.has_head], ids=lambda head: head.name)
def test_a_head_has_the_metric_of_its_task(build, head):
    special = {"MaskedLM": "loss", "MaskedImageModeling": "loss", "QuestionAnswering": "answer_f1"}
    assert usual_metric(build(head)) == special.get(head.name.partition("For")[2], "accuracy")


def test_several_labels_are_measured_by_f1(build):
    model = build(by_name("bert-ForSequenceClassification"), problem_type="multi_label_classification")
    assert usual_metric(model) == "f1_micro"


@pytest.mark.parametrize(("third", "metric"), [("I-PER", "entity_f1"), ("NOUN", "accuracy")])
def test_tags_of_entities_are_measured_by_their_f1(build, third, metric):
    model = build(by_name("bert-ForTokenClassification"), id2label={0: "O", 1: "B-PER", 2: third})
    assert usual_metric(model) == metric


def test_one_number_is_measured_by_its_error(build):
    head = next(head for head in HEADS if head.name == "bert-ForSequenceClassification")
    assert usual_metric(build(head, num_labels=1)) == "mse"


@pytest.mark.parametrize("asked", [None, "multi-label-classification"])
def test_columns_of_classes_are_several_labels(asked):
    data = table(text=TEXTS, toxic=[0, 1, 0, 1], rude=[1, 1, 0, 0])
    task = find_task(data, Columns(label="toxic, rude"), asked=asked)
    assert (task.name, task.classes, task.metric) == ("multi-label-classification", ("toxic", "rude"), "f1_micro")
    assert task.config_fields["problem_type"] == "multi_label_classification"
    with pytest.raises(DataError, match="the data must have a column 'threat'; got text, toxic, rude"):
        find_task(data, Columns(label="toxic,threat"))


def test_choices_may_be_found_by_what_their_columns_begin_with():
    data = table(sent1=["a"], ending0=["b"], ending1=["c"], label=[1])
    assert find_task(data, Columns(context="sent1", choices="ending")).name == "multiple-choice"
