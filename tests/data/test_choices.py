"""Choices: each after its text, and the number of the right one, however the data say it."""

import datasets
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

from acn_hf import measure_depth_profile
from acn_hf.data.rows import Columns, DataError, prepare
from tests.support.families import by_name

CHOICES = by_name("bert-ForMultipleChoice")
LISTS = {"context": ["a film", "rain"], "choices": [["good", "bad", "wet"], ["wet", "good", "bad"]], "label": [1, 0]}


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(["a film is good bad wet rain what now"] * 9, vocab_size=80, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def prepared(build, tokenizer, columns, names=None):
    model = build(CHOICES, vocab_size=120)
    return prepare(model, tokenizer, datasets.Dataset.from_dict(columns), names or Columns())


def texts(tokenizer, row):
    return [tokenizer.decode(ids) for ids in row["input_ids"]]


def test_each_choice_stands_after_its_text(build, tokenizer):
    rows, collate = prepared(build, tokenizer, LISTS)
    assert texts(tokenizer, rows[0]) == [f"[CLS] a film [SEP] {choice} [SEP]" for choice in ("good", "bad", "wet")]
    assert rows[0]["token_type_ids"][0] == [0, 0, 0, 0, 1, 1]
    batch = collate([rows[0], rows[1]])
    assert batch["input_ids"].shape == (2, 3, 6)
    assert batch["labels"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "beginning"),
    [
        ({"context": ["rain"], "question": ["what now"]}, "[CLS] rain [SEP] what now wet [SEP]"),
        ({"question": ["what now"]}, "[CLS] what now [SEP] wet [SEP]"),
        ({"context": ["rain"]}, "[CLS] rain [SEP] wet [SEP]"),
    ],
    ids=["both", "question", "context"],
)
def test_a_question_may_stand_between(build, tokenizer, columns, beginning):
    rows, _ = prepared(build, tokenizer, {**columns, "choices": [["wet", "bad"]], "label": [0]})
    assert texts(tokenizer, rows[0])[0] == beginning


@pytest.mark.parametrize("name", ["ending", "ending_"])
def test_choices_may_stand_in_columns_with_numbers(build, tokenizer, name):
    endings = {f"{name}{number}": [f"wet {word}"] for number, word in enumerate(("good", "bad", "rain"))}
    columns = {"sent1": ["a film"], "sent2": ["is"], **dict(reversed(endings.items())), "label": ["2"]}
    names = Columns(context="sent1", question="sent2", choices="ending")
    rows, _ = prepared(build, tokenizer, columns, names)
    assert [text.split("is ")[1] for text in texts(tokenizer, rows[0])] == [
        f"wet {word} [SEP]" for word in ("good", "bad", "rain")
    ]
    assert rows[0]["labels"] == 2


@pytest.mark.parametrize(("label", "number"), [(2, 2), ("1", 1), ("C", 2), ("bad", 1), (2.0, 2), (True, 1)], ids=repr)
def test_the_right_one_may_be_said_in_many_ways(build, tokenizer, label, number):
    rows, _ = prepared(build, tokenizer, {**{name: column[:1] for name, column in LISTS.items()}, "label": [label]})
    assert rows[0]["labels"] == number


def test_choices_may_have_names(build, tokenizer):
    choices = {"text": ["good", "bad"], "label": ["B", "A"]}
    rows, _ = prepared(build, tokenizer, {"context": ["rain"], "choices": [choices], "label": ["A"]})
    assert texts(tokenizer, rows[0])[1] == "[CLS] rain [SEP] bad [SEP]"
    assert rows[0]["labels"] == 1


def test_every_depth_is_measured_as_choices_say(build, tokenizer):
    columns = {name: column * 8 for name, column in LISTS.items()}
    model = build(CHOICES, vocab_size=120)
    rows, collate = prepare(model, tokenizer, datasets.Dataset.from_dict(columns), Columns())
    with torch.no_grad():
        output = model(**collate([rows[number] for number in range(16)]))
    hits = (output.logits.argmax(-1) == torch.tensor([1, 0] * 8)).double().mean()
    measured = measure_depth_profile(model, rows, collate_fn=collate)
    assert measured.values[-1] == pytest.approx(float(hits))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [3, 0]}, "the number of a choice, from 0 to 2, its letter, or the choice itself; got 3$"),
        ({"label": ["D", "A"]}, "^row 1, column 'label': a label must be .*; got 'D'$"),
        ({"label": [None, 0]}, "got None$"),
        (
            {"choices": [["a", "b"], ["a"]]},
            "^row 2: every row must have as many choices as the first, 2, .* this one has 1$",
        ),
        ({"choices": [["a"], ["b"]]}, "^row 1: every row must have as many .* and at least two; this one has 1$"),
        ({"choices": ["a", "b"]}, "^row 1: column 'choices' must hold lists of texts; got 'a'$"),
        ({"choices": [["a", None], ["a", "b"]]}, r"must hold lists of texts; got \['a', None\]$"),
    ],
)
def test_what_does_not_fit_is_named(build, tokenizer, columns, message):
    with pytest.raises(DataError, match=message):
        prepared(build, tokenizer, {**LISTS, **columns})


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "choices",
            "must have a column 'choices' of lists of choices, or columns choices0, choices1, ...; got context",
        ),
        ("context", "must have a column 'context'; got choices, label"),
        ("label", "must have a column 'label'; got context, choices"),
    ],
)
def test_a_missing_column_is_named(build, tokenizer, missing, message):
    with pytest.raises(DataError, match=message):
        prepared(build, tokenizer, {name: column for name, column in LISTS.items() if name != missing})
