"""Which labelled data a script reads, and what it holds out."""

import datasets
import pytest
from transformers import (
    AutoModelForSequenceClassification,
    BertTokenizerFast,
)

from acn_hf.data.rows import Columns, DataError
from acn_hf.scripts.arguments import ModelArguments
from acn_hf.scripts.data_arguments import DataArguments
from acn_hf.scripts.labelled_data import load_labelled, needed, prepare_splits
from acn_hf.scripts.models import build_model, label_fields
from tests.support.command_line import WORDS
from tests.support.families import by_name
from tests.support.training import arguments


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"row {number},{number % 2}\n" for number in range(10)))
    return str(path)


def test_the_last_examples_are_held_out_and_the_first_are_trained_on(table):
    splits = load_labelled(DataArguments(train_file=table, num_held_out=3, max_train_samples=2))
    assert splits["train"]["text"][:] == ["row 0", "row 1"]
    assert splits["validation"]["text"][:] == ["row 7", "row 8", "row 9"]


@pytest.mark.parametrize("number", [0, 10, -1])
def test_holding_out_nothing_or_all_is_refused(table, number):
    with pytest.raises(DataError, match=rf"--num_held_out must lie in \[1, 9\] for these data; got {number}"):
        load_labelled(DataArguments(train_file=table, num_held_out=number))


def test_holding_out_beside_validation_data_is_refused(table):
    with pytest.raises(DataError, match="needs training data and no validation data; got train, validation"):
        load_labelled(DataArguments(train_file=table, validation_file=table, num_held_out=3))


def test_a_class_of_which_no_example_is_left_is_named(tmp_path):
    features = datasets.Features({"label": datasets.ClassLabel(names=["cat", "dog"])})
    data = datasets.Dataset.from_dict({"label": [0, 0, 0, 1, 1]}, features=features)
    data.save_to_disk(tmp_path / "data")
    assert len(load_labelled(DataArguments(dataset_name=str(tmp_path / "data"), num_held_out=1))["validation"]) == 1
    with pytest.raises(DataError, match="the last 2 are all that there are of dog: data that are sorted by class"):
        load_labelled(DataArguments(dataset_name=str(tmp_path / "data"), num_held_out=2))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_data_that_are_named_in_two_ways_are_refused(table, split):
    with pytest.raises(DataError, match=f"--dataset_name names all the data; --{split}_file must not be given"):
        load_labelled(DataArguments(dataset_name=table, **{f"{split}_file": table}))


def test_no_data_are_named():
    with pytest.raises(DataError, match="there must be data; give --dataset_name, --train_file"):
        load_labelled(DataArguments())


def test_a_missing_split_is_named(table, tmp_path):
    splits = load_labelled(DataArguments(train_file=table))
    with pytest.raises(DataError, match=r"there must be validation data; give --validation_file.*; got train"):
        needed(splits, arguments(tmp_path, do_train=True, do_eval=True))
    with pytest.raises(DataError, match="--train_split must be one of train; got 'training'"):
        load_labelled(DataArguments(dataset_name=table, train_split="training"))


def test_heads_of_sequences_are_built_too():
    asked = ModelArguments(config_overrides="hidden_size=16,num_attention_heads=2,num_hidden_layers=1")
    options = {"default_type": "acn_bert", "from_data": {**label_fields(None), "vocab_size": 40}}
    model = build_model(AutoModelForSequenceClassification, asked, **options)
    assert type(model) is by_name("bert-ForSequenceClassification").acn
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")


def test_incomplete_rows_are_left_out_with_a_warning_or_refused(tmp_path, caplog):
    path = tmp_path / "data.csv"
    path.write_text("text,label,other\na,1,x\n,0,x\nb,,x\nc,1,\n")
    assert load_labelled(DataArguments(train_file=str(path)))["train"]["text"][:] == ["a", "c"]
    assert f"train: 2 of 4 rows are incomplete and left out: the first, {path}, line 3, has no 'text'" in caplog.text
    unlabelled = load_labelled(DataArguments(train_file=str(path)), with_labels=False)
    assert unlabelled["train"]["text"][:] == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"every row must be complete .*; train: 2 of 4 rows are incomplete"):
        load_labelled(DataArguments(train_file=str(path), incomplete="refuse"))


def test_files_are_read_as_they_were_written(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("text;label\ncafé;1\n", encoding="latin-1")
    how = {"separator": ";", "encoding": "latin-1"}
    for source in ({"dataset_name": str(tmp_path)}, {"train_file": str(tmp_path / "train.csv")}):
        assert load_labelled(DataArguments(**source, **how))["train"].to_dict() == {"text": ["café"], "label": [1]}
    with pytest.raises(DataError, match="give the encoding that it has"):
        load_labelled(DataArguments(dataset_name=str(tmp_path)))


def test_texts_that_are_cut_are_counted(build, caplog):
    tokenizer = BertTokenizerFast(vocab={name: number for number, name in enumerate(WORDS)})
    texts = datasets.Dataset.from_dict({"text": ["good", "bad " * 30], "label": [0, 1]})
    splits = {"train": texts, "test": texts}
    model = build(by_name("bert-ForSequenceClassification"))
    rows = prepare_splits(model, tokenizer, splits, Columns())
    assert {name: len(part) for name, (part, _) in rows.items()} == {"train": 2, "test": 2}
    for name in splits:
        assert f"{name}: 1 of 2 texts is longer than 16 tokens and is cut (--max_seq_length)" in caplog.text
