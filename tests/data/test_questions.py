"""Questions about texts: windows of tokens, places of answers, and what a metric of answers is told."""

import itertools
import json
import random

import datasets
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from torch.utils.data import DataLoader
from transformers import BertTokenizerFast

from acn_hf.data.files import load_data
from acn_hf.data.rows import Columns, DataError, prepare
from acn_hf.depth.rows_or_batches import batches
from tests.support.families import by_name

QUESTIONS = by_name("bert-ForQuestionAnswering")
WORDS = ["paris", "rome", "oslo", "lima", "cairo", "quito", "who", "what", "is", "in", "the", "of"]
TEXT = "paris is in the rome of oslo, what is lima in cairo of quito"


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator([TEXT, *WORDS] * 5, vocab_size=120, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


def squad(text=TEXT, answers=("cairo",), question="who is in"):
    found = {"text": list(answers), "answer_start": [text.index(answer) for answer in answers]}
    return {"question": [question], "context": [text], "answers": [found]}


def prepared(build, tokenizer, columns, length=40, **options):
    model = build(QUESTIONS, vocab_size=120, max_position_embeddings=length)
    return prepare(model, tokenizer, datasets.Dataset.from_dict(columns), Columns(), **options)


def answer_of(row):
    """Return what the tokens from start to end stand for in the text."""
    label = row["label"]
    return label["context"][label["starts"][row["start_positions"]] : label["ends"][row["end_positions"]]]


def places_of(row):
    """Return where the tokens of a window begin in the whole text, and -1 for others."""
    label = row["label"]
    return [place if place < 0 else place + label["begins"] for place in label["starts"]]


def test_a_text_that_fits_is_one_row(build, tokenizer):
    rows, _ = prepared(build, tokenizer, squad())
    assert len(rows) == 1
    assert answer_of(rows[0]) == "cairo"
    decoded = tokenizer.decode(rows[0]["input_ids"])
    assert decoded.startswith("[CLS] who is in [SEP] paris")
    assert {name: rows[0]["label"][name] for name in ("question", "none", "answers", "longest")} == {
        "question": 0,
        "none": 0,
        "answers": ["cairo"],
        "longest": 30,
    }


def test_every_window_of_a_long_text_has_the_answer_or_says_that_it_has_none(build, tokenizer):
    text = " ".join(random.Random(0).choices(WORDS, k=60))
    columns = squad(f"{text} lima {text}", ["lima"], "what is")
    columns["answers"][0]["answer_start"] = [len(text) + 1]
    rows, _ = prepared(build, tokenizer, columns, length=20)
    assert len(rows) > 8
    assert all(len(row["input_ids"]) <= 20 for row in rows)
    inside = [row for row in rows if row["start_positions"] != 0]
    assert 1 <= len(inside) < len(rows)
    for row in inside:
        assert places_of(row)[row["start_positions"]] == len(text) + 1
        assert answer_of(row) == "lima"
    assert all(row["end_positions"] == 0 for row in rows if row["start_positions"] == 0)
    seen = set()
    for row in rows:  # nothing of the text is left out
        seen |= {place for place in places_of(row) if place >= 0}
    whole = tokenizer(columns["context"][0], add_special_tokens=False, return_offsets_mapping=True)
    assert seen == {start for start, _ in whole["offset_mapping"]}


@pytest.mark.parametrize("overlap", [0, 4, 10])
def test_windows_overlap_as_asked_for(build, tokenizer, overlap):
    rows, _ = prepared(build, tokenizer, squad(" ".join(WORDS * 5), ["oslo"]), length=24, overlap=overlap)
    tokens = [[place for place in places_of(row) if place >= 0] for row in rows]
    shared = [set(one) & set(two) for one, two in itertools.pairwise(tokens)]
    assert {len(places) for places in shared} == {overlap}


def test_a_window_holds_no_more_of_the_text_than_its_tokens(build, tokenizer):
    columns = squad(" ".join(WORDS * 50), ["oslo"])
    rows, _ = prepared(build, tokenizer, columns, length=24)
    assert sum(len(row["label"]["context"]) for row in rows) < 3 * len(columns["context"][0])
    for row in rows:
        begins, context = row["label"]["begins"], row["label"]["context"]
        assert columns["context"][0][begins : begins + len(context)] == context


@pytest.mark.parametrize("overlap", [-1, 200])
def test_an_overlap_without_room_is_refused(build, tokenizer, overlap):
    with pytest.raises(DataError, match=rf"windows of 24 tokens must overlap by 0 to 10; got {overlap}"):
        prepared(build, tokenizer, squad(), length=24, overlap=overlap)


def test_a_long_question_leaves_room_for_the_text(build, tokenizer):
    rows, _ = prepared(build, tokenizer, squad(question="who is in " * 30), length=24)
    assert all(len(row["input_ids"]) <= 24 for row in rows)
    assert any(answer_of(row) == "cairo" for row in rows if row["start_positions"])


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["rome", "rome of oslo"], "answer_start": [16, 16]},
        [{"text": "rome", "answer_start": 16}, {"text": "rome of oslo", "answer_start": 16}],
    ],
    ids=["SQuAD", "list"],
)
def test_several_answers_are_kept_and_the_first_is_learned(build, tokenizer, answers):
    rows, _ = prepared(build, tokenizer, {**squad(), "answers": [answers]})
    assert rows[0]["label"]["answers"] == ["rome", "rome of oslo"]
    assert answer_of(rows[0]) == "rome"


@pytest.mark.parametrize(
    ("columns", "starts"),
    [
        ({"answers": ["is"], "answer_start": [35]}, [35]),  # the second of two
        ({"answers": ["is"]}, [6]),  # the first, where nobody says which
        ({"answers": [None]}, []),
        ({"answers": [""]}, []),
    ],
    ids=["place", "no place", "none", "empty"],
)
def test_flat_columns_are_read(build, tokenizer, columns, starts):
    rows, _ = prepared(build, tokenizer, {"question": ["what"], "context": [TEXT], **columns})
    assert [places_of(rows[0])[rows[0]["start_positions"]]] == (starts or [-1])
    assert rows[0]["label"]["answers"] == ["is"] * len(starts)


def test_no_answer_is_the_token_of_the_whole_text(build, tokenizer):
    rows, _ = prepared(build, tokenizer, squad(answers=[]))
    assert (rows[0]["start_positions"], rows[0]["end_positions"]) == (0, 0)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": ["rome"], "answer_start": [3]}, "^row 1: an answer must stand at 3 of its text; 'rome' does not$"),
        ("madrid", "^row 1: an answer must stand in its text; 'madrid' does not$"),
        (7, "^row 1: an answer must be a text; got 7$"),
    ],
    ids=["elsewhere", "absent", "number"],
)
def test_an_answer_that_is_not_there_is_named(build, tokenizer, answers, message):
    with pytest.raises(DataError, match=message):
        prepared(build, tokenizer, {**squad(), "answers": [answers]})


def test_the_line_of_a_wrong_answer_is_named(build, tokenizer, tmp_path):
    lines = ["question,context,answers", "what,oslo is here,oslo", "what,oslo is here,rome"]
    (tmp_path / "dev.csv").write_text("\n".join(lines))
    model = build(QUESTIONS, vocab_size=120, max_position_embeddings=40)
    with pytest.raises(DataError, match=r"dev.csv, line 3: an answer must stand in its text; 'rome' does not$"):
        prepare(model, tokenizer, load_data(str(tmp_path / "dev.csv")), Columns())


def test_batches_are_padded_and_say_what_is_right(build, tokenizer):
    columns = {
        name: one + two for (name, one), two in zip(squad().items(), squad("rome", ["rome"]).values(), strict=True)
    }
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer._tokenizer, padding_side="left")
    rows, collate = prepared(build, tokenizer, columns)
    batch = collate([rows[0], rows[1]])
    assert batch["attention_mask"][1, 0] == 1  # on the right, whatever the tokenizer says: places stay places
    assert batch["attention_mask"][1, -1] == 0
    assert set(batch) == {
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "start_positions",
        "end_positions",
    }
    assert [question["answers"] for question in batch.questions] == [["cairo"], ["rome"]]
    model = build(QUESTIONS, vocab_size=120, max_position_embeddings=40)
    (moved,) = batches(model, DataLoader(rows, batch_size=2, collate_fn=collate))
    assert moved.questions == batch.questions
    assert torch.equal(moved["input_ids"], batch["input_ids"])


def test_the_file_of_squad_is_read_as_it_is_published(tmp_path):
    questions = [
        {"id": "a", "question": "where?", "answers": [{"text": "oslo", "answer_start": 25}], "is_impossible": False},
        {"id": "b", "question": "why?", "answers": [], "plausible_answers": [], "is_impossible": True},
    ]
    articles = [{"title": "x", "paragraphs": [{"context": TEXT, "qas": questions}]}]
    (tmp_path / "dev.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    data = load_data(str(tmp_path / "dev.json"))
    assert data["question"][:] == ["where?", "why?"]
    assert data["context"][:] == [TEXT, TEXT]
    assert data["answers"][:] == [{"text": ["oslo"], "answer_start": [25]}, {"text": [], "answer_start": []}]


def test_rows_beside_a_version_are_read(tmp_path):
    rows = [{"question": "why?", "context": TEXT, "answers": {"text": ["oslo"], "answer_start": [25]}}]
    (tmp_path / "dev.json").write_text(json.dumps({"version": "1.0", "data": rows}))
    assert load_data(str(tmp_path / "dev.json")).to_list() == rows


def test_a_column_of_texts_that_is_called_data_stays(tmp_path):
    (tmp_path / "texts.csv").write_text("data\none\ntwo\n")
    assert load_data(str(tmp_path / "texts.csv"))["data"][:] == ["one", "two"]


def test_a_missing_column_is_named(build, tokenizer):
    columns = squad()
    del columns["answers"]
    with pytest.raises(DataError, match="the data must have a column 'answers'; got question, context"):
        prepared(build, tokenizer, columns)
