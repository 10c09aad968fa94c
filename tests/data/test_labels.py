"""Classes have names in one of two tables of a config or in both, and labels stand in data in many ways."""

import datasets
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from acn_hf import AcnBertConfig, AcnBertForSequenceClassification
from acn_hf.data.idx import DataError
from acn_hf.data.labels import Classes, find_classes, label_ids
from acn_hf.data.rows import Columns, prepare
from acn_hf.scripts.models import label_fields

CONFIGS = {"acn": AcnBertConfig, "bert": BertConfig}
NAMES = {
    "both": {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}},
    "id2label": {"id2label": {0: "bad", 1: "good"}},
    "text as keys": {"id2label": {"0": "bad", "1": "good"}},
    "another order": {"id2label": {1: "good", 0: "bad"}},
    "ids as text": {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": "0", "good": "1"}},
    "half of the other": {"id2label": {0: "bad", 1: "good"}, "label2id": {"good": 1}},
    "the other unnamed": {"id2label": {0: "bad", 1: "good"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
    "with a number": {"id2label": {0: "bad", 1: "good"}, "num_labels": 2},
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("fields", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("reloaded", [False, True])
def test_the_names_of_classes_are_known_from_either_table(tmp_path, kind, fields, reloaded):
    config = CONFIGS[kind](**fields)
    if reloaded:
        config.save_pretrained(tmp_path)
        config = CONFIGS[kind].from_pretrained(tmp_path)
    assert list(label_ids(config).items()) == [("bad", 0), ("good", 1)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_number_of_classes_alone_gives_upstreams_names(kind):
    assert label_ids(CONFIGS[kind](num_labels=3)) == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_an_acn_is_named_by_either_table(tmp_path):
    config = AcnBertConfig(label2id={"good": 1, "bad": 0, "so": 2}, num_labels=3)
    config.save_pretrained(tmp_path)
    for known in (config, AcnBertConfig.from_pretrained(tmp_path)):
        assert known.num_labels == 3
        assert known.id2label == {0: "bad", 1: "good", 2: "so"}
        assert label_ids(known) == {"bad": 0, "good": 1, "so": 2}
    with pytest.raises(ValueError, match=r"label2id must give each class an id of its own, from 0 on; got \{'a': 1\}"):
        AcnBertConfig(label2id={"a": 1})
    with pytest.raises(ValueError, match="num_labels must be the number of classes in label2id, 2; got 3"):
        AcnBertConfig(label2id={"a": 0, "b": 1}, num_labels=3)


@pytest.mark.parametrize("table", ["id2label", "label2id"])
def test_classes_that_are_named_later_are_known(table):
    config = AcnBertConfig()
    setattr(config, table, {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}[table])
    assert label_ids(config) == {"bad": 0, "good": 1}


def test_tables_that_contradict_each_other_are_refused():
    config = AcnBertConfig(id2label={0: "bad", 1: "good"}, label2id={"bad": 1, "good": 0})
    with pytest.raises(DataError, match="must say the same; of 'bad' they say 0 and 1"):
        label_ids(config)


def named(labels, *names):
    features = datasets.Features({"label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"label": labels}, features=features)


def plain(*labels):
    return datasets.Dataset.from_dict({"label": list(labels)})


UNNAMED = {"num_labels": 2}
TRUTH = {"id2label": {0: "True", 1: "False"}}
LABELS = {
    "names": (NAMES["id2label"], plain("good", "bad")),
    "numbers": (NAMES["id2label"], plain(1, 0)),
    "numbers of a model without names": (UNNAMED, plain(1, 0)),
    "whole floats": (NAMES["id2label"], plain(1.0, 0.0)),
    "numbers as text": (NAMES["id2label"], plain("1", "0")),
    "numbers as text of a model without names": (UNNAMED, plain("1", "0")),
    "truth values": (NAMES["id2label"], plain(True, False)),
    "truth values with names": (TRUTH, plain(False, True)),
    "truth values with small names": ({"id2label": {0: "true", 1: "false"}}, plain(False, True)),
    "upstream's names": (UNNAMED, plain("LABEL_1", "LABEL_0")),
    "ClassLabel in another order": (NAMES["id2label"], named([0, 1], "good", "bad")),
    "ClassLabel of other names": (UNNAMED, named([1, 0], "bad", "good")),
    "formatted for torch": (NAMES["id2label"], plain(1, 0).with_format("torch")),
    "formatted for numpy": (NAMES["id2label"], plain(1, 0).with_format("numpy")),
    "called by numbers": ({"id2label": {0: "7", 1: "5"}}, plain(5, 7)),
    "called by numbers as text": ({"id2label": {0: "7", 1: "5"}}, plain("5", "7")),
}


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(["good film", "bad film"] * 5, vocab_size=40, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def small(kind, **fields):
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    model_class = {"acn": AcnBertForSequenceClassification, "bert": BertForSequenceClassification}[kind]
    return model_class(CONFIGS[kind](**sizes, num_hidden_layers=2, **fields))


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("fields", "data"), LABELS.values(), ids=LABELS)
def test_labels_of_every_kind_become_ids(tokenizer, kind, fields, data):
    texts = data.add_column("text", ["good film", "bad film"])
    rows, _ = prepare(small(kind, **fields), tokenizer, texts, Columns())
    assert list(rows.with_format(None)["labels"]) == [1, 0]


@pytest.mark.parametrize(
    ("fields", "data", "text"),
    [
        (NAMES["id2label"], plain("so"), "one of bad, good; got 'so'"),
        (NAMES["id2label"], plain(2), "one of bad, good; got 2"),
        (NAMES["id2label"], plain("2"), "one of bad, good; got 2"),
        (NAMES["id2label"], plain(0.5), r"one of bad, good; got 0\.5"),
        (NAMES["id2label"], named([-1], "bad", "good"), "one of bad, good; got -1"),  # an example without a label
        (NAMES["id2label"], named([1], "bad", "so"), "one of bad, good; got 'so'"),
        (UNNAMED, plain("good"), "one of LABEL_0, LABEL_1; got 'good'"),
        ({"id2label": {0: "7", 1: "5"}}, plain(1), "one of 7, 5; got 1"),
    ],
)
def test_labels_that_the_model_does_not_know_are_named(fields, data, text):
    classes = Classes.of(AcnBertConfig(**fields), data.features["label"])
    with pytest.raises(DataError, match=text):
        classes.id_of(data["label"][0])


def test_classes_are_found_in_formatted_data():
    assert find_classes(plain(3, 1, 3).with_format("torch"), "label") == ["1", "3"]
    assert label_fields(find_classes(plain("b", "a"), "label"))["id2label"] == {0: "a", 1: "b"}
