"""Rows that lack something, texts that are cut and rows in two data sets are counted, whatever the columns hold."""

import datasets
import numpy as np
import pytest
from PIL import Image
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

from acn_hf.data.checks import (
    CutTexts,
    Incomplete,
    complete_rows,
    cut_texts,
    require_inputs,
    shared_rows,
    untaught_labels,
)
from acn_hf.data.files import load_data
from acn_hf.data.idx import DataError
from acn_hf.data.rows import Columns, prepare
from tests.support.families import by_name

SEQUENCES, TOKENS = by_name("bert-ForSequenceClassification"), by_name("bert-ForTokenClassification")


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(["good film", "bad film", "good good", "bad"] * 5, vocab_size=40, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def table(**columns):
    return datasets.Dataset.from_dict(columns)


# --- incomplete rows


@pytest.mark.parametrize(
    ("columns", "kept", "lacks"),
    [
        ({"text": ["a", None, "", " \n", "b"], "label": [0, 1, 1, 1, 1]}, [0, 4], "text"),
        ({"text": ["a", "b", "c"], "label": [0.0, float("nan"), None]}, [0], "label"),
        ({"text": ["a", "b", "c"], "label": ["x", None, ""]}, [0, 2], "label"),
        ({"text": [["a"], [], None, ["b"]], "label": [["X"], [], ["X"], None]}, [0], "text"),
        ({"text": [["", "a"], ["", " \n"], [None], ["b"]], "label": [["X", "X"]] * 4}, [0, 3], "text"),
        ({"text": ["a", "b"], "label": [[], None]}, [0], "label"),
        ({"question": ["a", "b"], "context": ["", "c"], "answers": [None, None]}, [1], "context"),
        ({"other": [None, "b"], "text": ["a", "b"], "label": [0, 1]}, [0, 1], None),
        ({"context": [None, "b"], "question": ["", ""], "text": ["a", "b"], "label": [0, 1]}, [0, 1], None),
        ({"context": ["a", "b"], "choices0": ["", "c"], "choices1": ["d", "e"], "label": [0, 1]}, [1], "choices0"),
        ({"text": ["a", "b"], "sad": [0, None], "long": [1, 1]}, [0], "sad"),
    ],
)
def test_rows_that_lack_something_are_left_out_and_counted(columns, kept, lacks):
    data = table(row=list(range(len(next(iter(columns.values()))))), **columns)
    rows, left_out = complete_rows(data, Columns(label="sad, long") if "sad" in columns else Columns())
    assert rows["row"][:] == kept
    if lacks is None:
        assert left_out is None
    else:
        first = next(row for row in range(len(data)) if row not in kept)
        assert left_out == Incomplete(len(data) - len(kept), len(data), lacks, f"row {first + 1}")
        assert Incomplete.from_dict(left_out.to_dict()) == left_out


def test_rows_of_several_files_are_told_apart():
    parts = [table(text=[["a"], ["", ""], ["b"]], label=[["X"]] * 3), table(text=[[], ["c"], [" "]], label=[["X"]] * 3)]
    rows, left_out = complete_rows(datasets.concatenate_datasets(parts).select([1, 2, 3, 4, 5, 0]), Columns())
    assert (rows["text"][:], left_out.number) == ([["b"], ["c"], ["a"]], 3)


def test_second_texts_and_images_are_missed_too(tmp_path):
    pairs = table(text=["a", "b"], other=["c", ""], label=[0, 1])
    assert complete_rows(pairs, Columns())[1] is None
    assert complete_rows(pairs, Columns(text_pair="other"))[1].column == "other"
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    images = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png"), None], "label": [0, 1]}, features)
    rows, left_out = complete_rows(images, Columns())
    assert (len(rows), left_out.column) == (1, "image")
    arrays = datasets.Features({"image": datasets.Array2D((2, 2), "uint8"), "label": datasets.Value("int64")})
    whole = datasets.Dataset.from_dict({"image": [np.zeros((2, 2))] * 2, "label": [0, 1]}, arrays)
    assert complete_rows(whole, Columns()) == (whole, None)


def test_blank_lines_of_texts_without_labels_stay():
    rows, left_out = complete_rows(table(text=["a", "", None], label=[None] * 3), Columns(), with_labels=False)
    assert rows["text"][:] == ["a", ""]
    assert left_out.number == 1


def test_what_was_left_out_is_said_in_words(tmp_path):
    (tmp_path / "data.csv").write_text("text,label\na,1\n,0\nc,\nd,1\n")
    data = load_data(str(tmp_path / "data.csv"))
    place = f"{tmp_path}/data.csv, line 3"
    assert str(complete_rows(data, Columns())[1]) == (
        f"2 of 4 rows are incomplete and left out: the first, {place}, has no 'text'"
    )
    assert str(complete_rows(data.select([0, 2]), Columns())[1]).endswith(
        "1 of 2 rows is incomplete and left out: " + f"{tmp_path}/data.csv, line 4 has no 'label'"
    )


def test_rows_of_which_none_is_complete_are_refused():
    with pytest.raises(DataError, match=r"lack nothing of text, label; 2 of 2 .*first, row 1, has no"):
        complete_rows(table(text=[None, "a"], label=[1, None]), Columns())


# --- texts that are cut


@pytest.mark.parametrize(("texts", "number"), [(["good", "bad bad", "good " * 3, "bad " * 4, "good " * 9], 2)])
def test_texts_that_are_cut_are_counted(build, tokenizer, texts, number):
    data, model = table(text=texts, label=[0] * len(texts)), build(SEQUENCES)
    rows, _ = prepare(model, tokenizer, data, Columns(), max_length=5)
    assert cut_texts(model, tokenizer, data, Columns(), rows, max_length=5) == CutTexts(number, len(texts), 5)
    rows, _ = prepare(model, tokenizer, data, Columns(), max_length=11)
    assert cut_texts(model, tokenizer, data, Columns(), rows, max_length=11) is None
    assert str(CutTexts(2, 5, 5)) == "2 of 5 texts are longer than 5 tokens and are cut"
    assert str(CutTexts(1, 5, 5)) == "1 of 5 texts is longer than 5 tokens and is cut"


def test_pairs_and_lists_of_words_are_counted(build, tokenizer):
    model, columns = build(SEQUENCES), Columns(text_pair="other")
    pairs = table(text=["good", "good bad"], other=["bad", "film good"], label=[0, 1])
    rows, _ = prepare(model, tokenizer, pairs, columns, max_length=6)
    assert cut_texts(model, tokenizer, pairs, columns, rows, max_length=6).number == 1
    tagger, words = build(TOKENS), table(text=[["good", "bad"], ["good"] * 3], label=[[0, 1], [0, 1, 0]])
    rows, _ = prepare(tagger, tokenizer, words, Columns(), max_length=4)
    assert cut_texts(tagger, tokenizer, words, Columns(), rows, max_length=4).number == 1


def test_images_and_blocks_are_not_cut(build, tokenizer):
    masked, texts = build(by_name("bert-ForMaskedLM")), table(text=["good film " * 12, "bad"])
    rows, _ = prepare(masked, tokenizer, texts, Columns())
    assert len(rows) == len(texts)  # by accident
    assert cut_texts(masked, tokenizer, texts, Columns(), rows) is None
    model = build(by_name("vit-ForImageClassification"))
    assert cut_texts(model, None, table(image=[1]), Columns(), table(pixel_values=[1])) is None


# --- rows in two data sets


def test_shared_texts_are_counted_whatever_their_labels_and_blanks():
    train = table(text=["a good film", "bad", "bad", "so  so"], label=[1, 0, 0, 0])
    test = table(text=[" a good\tfilm", "so so", "Bad", "a goodfilm", "so so"], label=[0, 1, 0, 1, 0])
    assert shared_rows(test, train, Columns()) == 3
    assert shared_rows(train, test, Columns()) == 2
    assert shared_rows(train, train, Columns()) == 4


def test_pairs_words_and_questions_are_compared_as_a_whole():
    one = table(text=["a", "a"], other=["b c", "c"])
    other = table(text=["a", "a b"], other=["b  c", "c"])
    assert shared_rows(one, other, Columns(text_pair="other")) == 1
    assert shared_rows(one, other, Columns()) == 2
    assert shared_rows(table(text=[["a", "b"], ["c"]]), table(text=[["a", "b"]]), Columns()) == 1
    questions = table(question=["who?", "who?"], context=["she", "he"], answers=["she", "he"])
    assert shared_rows(questions, questions.select([1]), Columns()) == 1
    choices = table(context=["x", "x"], choices=[["a", "b"], ["a", "c"]], label=[0, 1])
    assert shared_rows(choices, choices.select([1]), Columns()) == 1


def test_images_are_compared_by_their_bytes(tmp_path):
    for number in range(3):
        Image.new("L", (4, 4), 50 * number).save(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in (0, 1, 2)]
    features = datasets.Features({"image": datasets.Image()})
    files = datasets.Dataset.from_dict({"image": paths}, features)
    inside = datasets.Dataset.from_dict(
        {"image": [{"bytes": (tmp_path / "1.png").read_bytes(), "path": None}]}, features
    )
    assert shared_rows(files, inside, Columns()) == 1
    square = datasets.Features({"image": datasets.Array2D((2, 2), "uint8")})
    one, other = (
        datasets.Dataset.from_dict({"image": [np.full((2, 2), shade) for shade in shades]}, square)
        for shades in ((1, 2, 3), (3, 4))
    )
    assert shared_rows(one, other, Columns()) == 1


@pytest.mark.parametrize(
    "names", [["text"], ["image"], ["question"], ["context"], ["choices"], ["choices0", "choices1"]]
)
def test_data_that_lack_an_answer_or_a_label_have_inputs(names):
    """What they lack is said where it is read."""
    require_inputs(table(**{name: ["a"] for name in names}), Columns())
    with pytest.raises(DataError, match="must have a column 'text' of texts or 'image' of images; got label"):
        require_inputs(table(label=["a"]), Columns())


def test_data_sets_without_a_common_input_are_refused():
    with pytest.raises(DataError, match="must have a column 'text' of texts or 'image' of images; got sentence"):
        shared_rows(table(text=["a"]), table(sentence=["a"]), Columns())
    with pytest.raises(DataError, match="a column of texts or images in common; got text and sentence"):
        shared_rows(table(text=["a"]), table(sentence=["a"]), Columns(image="sentence"))


# --- labels that nobody can learn


@pytest.mark.parametrize(
    ("head", "fields", "train", "rows", "lacking"),
    [
        (SEQUENCES, {}, [0, 1, 1], [1, 2, 0], ["LABEL_2"]),
        (SEQUENCES, {}, [0, 1, 2], [1, 2], []),
        (TOKENS, {}, [[-100, 0, 1], [0]], [[-100, 2], [0, 1]], ["LABEL_2"]),
        (SEQUENCES, {"problem_type": "multi_label_classification"}, [[0, 0, 1]], [[0, 1, 1], [0, 0, 0]], ["LABEL_1"]),
        (SEQUENCES, {"num_labels": 1}, [0.5], [1.5], []),
        (by_name("bert-ForMultipleChoice"), {}, [0], [1], []),
    ],
    ids=["classes", "all of them", "tags", "several", "numbers", "choices"],
)
def test_labels_that_the_training_data_lack_are_named(build, head, fields, train, rows, lacking):
    model = build(head, **fields)
    assert untaught_labels(model, table(labels=train), table(labels=rows)) == lacking
