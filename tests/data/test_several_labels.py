"""Several labels for one text, as lists of names or ids, or as one column a class."""

import datasets
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

from acn_hf import depth_logits, measure_depth_profile
from acn_hf.data.rows import Columns, DataError, prepare
from acn_hf.data.several_labels import find_several_classes
from tests.support.families import by_name

SEQUENCES = by_name("bert-ForSequenceClassification")
CLASSES = {"id2label": {0: "sad", 1: "funny", 2: "long"}, "label2id": {"sad": 0, "funny": 1, "long": 2}}
TEXTS = ["good film", "bad", "good good bad"]


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(TEXTS * 5, vocab_size=40, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def prepared(build, tokenizer, *, column="label", **columns):
    model = build(SEQUENCES, problem_type="multi_label_classification", **CLASSES)
    data = datasets.Dataset.from_dict({"text": TEXTS, **columns})
    return model, *prepare(model, tokenizer, data, Columns(label=column))


WANTED = [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "labels",
    [[["long", "sad"], [], ["funny"]], [[2, 0], [], [1]], [["2", "0"], [], ["1"]]],
    ids=["names", "ids", "ids as text"],
)
def test_lists_of_labels_are_vectors_of_all_classes(build, tokenizer, labels):
    _, rows, collate = prepared(build, tokenizer, label=labels)
    assert rows["labels"][:] == WANTED
    batch = collate([rows[number] for number in range(3)])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == WANTED


def test_one_column_a_class_is_read(build, tokenizer):
    columns = {"long": [True, False, False], "funny": [0, 0, 1], "sad": [1.0, 0.0, 0.0]}
    _, rows, _ = prepared(build, tokenizer, column="long, funny,sad", **columns)
    assert rows["labels"][:] == WANTED


def test_every_depth_is_measured_by_all_labels(build, tokenizer):
    model, rows, collate = prepared(build, tokenizer, label=[["long"], [], ["funny", "sad"]])
    batch = collate([rows[number] for number in range(3)])
    labels = batch.pop("labels")
    with torch.no_grad():
        expected = [((at > 0) == labels.bool()).all(-1).double().mean() for at in depth_logits(model, **batch)]
    assert measure_depth_profile(model, rows, collate_fn=collate).values == pytest.approx(
        [float(one) for one in expected]
    )


@pytest.mark.parametrize(
    ("label", "columns", "message"),
    [
        ("label", {"label": ["sad", "long", "sad"]}, "must hold lists of labels, .* several; got 'sad'$"),
        ("label", {"label": [["sad"], None, []]}, "must hold lists of labels, .* several; got None$"),
        ("label", {"label": [["sad"], ["dull"], []]}, "^row 2, column 'label': .*; got 'dull'$"),
        ("sad,dull", {"sad": [0, 0, 0], "dull": [0, 0, 0]}, "a label must be one of sad, funny, long; got 'dull'"),
        ("sad,long", {"sad": [0, 0, 2], "long": [0, 0, 0]}, "^row 3: column 'sad' must hold 0 and 1.*; got 2$"),
        ("sad,long", {"sad": [0, 0, 2]}, "must have a column 'long'; got text, sad"),
        ("label", {"sad": [0, 0, 2]}, "must have a column 'label'; got text, sad"),
    ],
)
def test_what_does_not_fit_is_named(build, tokenizer, label, columns, message):
    with pytest.raises(DataError, match=message):
        prepared(build, tokenizer, column=label, **columns)


@pytest.mark.parametrize(
    ("columns", "column", "classes"),
    [
        ({"label": [["long"], [], ["sad"]]}, "label", ["long", "sad"]),
        ({"sad": [0, 1, 0], "long": [1, 1, 1]}, "sad, long", ["sad", "long"]),
        ({"label": ["long", "sad", "sad"]}, "label", None),
    ],
    ids=["lists", "columns", "one each"],
)
def test_classes_are_found_where_there_are_several(columns, column, classes):
    assert find_several_classes(datasets.Dataset.from_dict(columns), column) == classes
