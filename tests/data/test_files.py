"""Files that are not what they are called are refused with what to do, and a row is found again in its file."""

import gzip
import json
import pickle

import datasets
import pytest
from transformers import BertTokenizerFast

from acn_hf.data.files import load_data, load_splits
from acn_hf.data.idx import DataError
from acn_hf.data.labels import find_classes
from acn_hf.data.places import RowError, place_of
from acn_hf.data.rows import Columns, prepare, require_text
from tests.support.command_line import WORDS
from tests.support.families import by_name

TWO = {"text": ["good, really", "bad"], "label": [1, 0]}


def written(folder, name, text, encoding="utf-8"):
    path = folder / name
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"], ids=["comma", "semicolon", "bar", "tab"])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.csv.gz"])
def test_the_separator_of_each_file_is_found(tmp_path, separator, name):
    """With quotes, also where a text or a title holds another one."""
    text = f'"text"{separator}label\n"good, really"{separator}1\nbad{separator}0\n'
    path = written(tmp_path, name, text)
    data = load_data(path)
    assert data.to_dict() == load_data(path, separator=separator).to_dict() == TWO
    assert place_of(data, 1) == f"{path}, line 3"
    other = {",": ";"}.get(separator, ",")
    titled = load_data(written(tmp_path, name, f"a{other} b{separator}label\ngood{separator}1\n"))
    assert titled.to_dict() == {f"a{other} b": ["good"], "label": [1]}


@pytest.mark.parametrize(
    ("separator", "shown"), [(";", "';'"), ("|", r"'\|'"), ("\t", r"\$'\\t'")], ids=["semicolon", "bar", "tab"]
)
def test_a_separator_that_only_the_header_shows_is_asked_for(tmp_path, separator, shown):
    path = written(tmp_path, "data.csv", f"text{separator}label\ngood\nbad{separator}0\n")
    with pytest.raises(DataError, match=rf"must be separated by ','; its first line is .*\(--separator {shown}\)"):
        load_data(path)
    assert load_data(path, separator=separator)["text"][:] == ["good", "bad"]


def test_a_separator_that_a_file_does_not_have_is_refused(tmp_path):
    """It is said for all files at once; a file of one column has none."""
    path = written(tmp_path, "data.csv", "text,label\ngood,1\n")
    with pytest.raises(
        DataError, match=r"data\.csv must be separated by ';'; its first line is .*: leave the separator"
    ):
        load_data(path, separator=";")
    for text in ("text\ngood, really\n", "text\ngood\n"):
        assert load_data(written(tmp_path, "one.csv", text), separator=";").column_names == ["text"]
    assert load_data(written(tmp_path, "one.csv", "text\ngood\n")).column_names == ["text"]


def test_of_several_splits_the_first_is_read_that_exists(tmp_path):
    for name, text in (("train", "a"), ("validation", "b"), ("test", "c")):
        written(tmp_path, f"{name}.csv", f"text,label\n{text},0\n")
    texts = [load_data(str(tmp_path), split=split)["text"][0] for split in (None, "test", ("dev", "test"), ("train",))]
    assert texts == ["b", "c", "c", "a"]
    with pytest.raises(DataError, match="split must be one of"):
        load_data(str(tmp_path), split=("dev", "exam"))


def test_another_encoding_is_seen_and_can_be_given(tmp_path):
    texts = {"data.csv": "text,label\ncafé,1\nbad,0\n", "data.jsonl": '{"text": "café"}\n', "data.txt": "café\n"}
    hint = r"\(--encoding latin-1, or cp1252 for files of Windows\)"
    for name, text in texts.items():
        path = written(tmp_path, name, text, "latin-1")
        with pytest.raises(DataError, match=rf"{name} must be text in UTF-8; .* at byte .*{hint}"):
            load_data(path)
        assert load_data(path, encoding="latin-1")["text"][0] == "café"


def test_utf_16_is_known_by_its_first_bytes(tmp_path):
    texts = {"data.csv": "text,label\ncafé,1\nbad,0\n", "data.jsonl": '{"text": "café"}\n', "data.txt": "café\n"}
    for name, text in texts.items():
        path = written(tmp_path, name, text, "utf-16")
        with pytest.raises(
            DataError, match=rf"{name} must be text in UTF-8; .* \(--encoding utf-16, as its first bytes"
        ):
            load_data(path)
        assert load_data(path, encoding="utf-16")["text"][0] == "café"


def test_the_files_of_a_folder_are_read_alike(tmp_path):
    written(tmp_path, "train.csv", "text;label\ncafé;1\n", "latin-1")
    written(tmp_path, "test.tsv", "text\tlabel\ncafé\t1\n", "latin-1")
    found = load_splits(str(tmp_path), encoding="latin-1")
    assert found["train"].to_dict() == found["test"].to_dict() == {"text": ["café"], "label": [1]}
    (tmp_path / "test.tsv").unlink()
    splits = load_splits(str(tmp_path), separator=";", encoding="latin-1")
    assert splits["train"].to_dict() == {"text": ["café"], "label": [1]}


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("data.csv", "", {}, r"at least one example; .*data\.csv is empty"),
        ("data.csv", "\n  \n", {}, r"at least one example; .*data\.csv is empty"),
        ("data.jsonl", "", {}, r"at least one example; .*data\.jsonl is empty"),
        ("data.csv.gz", "", {}, r"at least one example; .*data\.csv\.gz is empty"),
        ("data.csv", "text,label\n", {}, r"at least one example; .*data\.csv holds a header and no row below it"),
        (
            "data.csv",
            "text,label\na, b,1\n",
            {},
            r"must have 2 cells, as its header; the first has 3: a text that",
        ),
        (
            "data.csv",
            "text,label\na,1\nb, c,1\n",
            {},
            r"cannot be read as .* line 3, saw 3: a text that holds",
        ),
        ("data.jsonl", '{"text": "a"}\n{"text":\n', {}, r"data\.jsonl cannot be read as a data set: JSON parse error"),
        ("data.csv", "text,label\na,1\n", {"separator": "::"}, "a separator is one character, of a CSV file; got '::'"),
        ("data.jsonl", '{"text": "a"}\n', {"separator": ";"}, "a separator is one character, of a CSV file; got ';'"),
        ("data.csv", "text,label\na,1\n", {"encoding": "klingon"}, "one that Python knows, as latin-1; got 'klingon'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, text, options, message):
    with pytest.raises(DataError, match=message):
        load_data(written(tmp_path, name, text), **options)


def test_how_files_are_read_is_for_files(tmp_path):
    datasets.Dataset.from_dict(TWO).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"separator and encoding are for CSV, JSON and text files; .*saved holds none"):
        load_data(str(tmp_path / "saved"), separator=";", encoding="latin-1")
    datasets.Dataset.from_dict(TWO).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match="an encoding is for CSV, JSON and text files; got 'latin-1'"):
        load_data(str(tmp_path / "data.parquet"), encoding="latin-1")


# --- where a row stands

QUOTED = 'text,label\n"a\nb",1\n\nc,0\n   \n"d ""e""\n\nf",1\ng,\n'


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("data.csv", QUOTED, [2, 5, 7, 10]),
        ("data.csv.gz", QUOTED, [2, 5, 7, 10]),
        ("data.tsv", "text\tlabel\na\t1\nb\t0\n", [2, 3]),
        ("data.csv", "\ufefftext,label\r\na,1\r\nb,0\r\n", [2, 3]),
        ("data.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}\n', [1, 3]),
        ("data.txt", "a\n\nb\n", [1, 2, 3]),
    ],
)
def test_a_row_is_found_in_the_line_of_its_file(tmp_path, name, text, lines):
    path = written(tmp_path, name, text)
    data = load_data(path)
    assert [place_of(data, row) for row in range(len(data))] == [f"{path}, line {line}" for line in lines]
    turned = data.select(range(len(data) - 1, 0, -1)).shuffle(seed=0).flatten_indices()
    for row in range(len(turned)):
        original = next(index for index in range(len(data)) if data[index] == turned[row])
        assert place_of(turned, row) == f"{path}, line {lines[original]}"
    narrow = data.select_columns(["text"])
    assert place_of(narrow, len(data) - 1) == f"{path}, line {lines[-1]}"


def test_a_row_without_a_line_has_its_number(tmp_path):
    path = written(tmp_path, "data.json", '[{"text": "a"},\n{"text": "b"}]\n')
    assert place_of(load_data(path).select([1]), 0) == f"{path}, row 2"
    datasets.Dataset.from_dict(TWO).to_parquet(tmp_path / "data.parquet")
    assert place_of(load_data(str(tmp_path / "data.parquet")), 1) == f"{tmp_path}/data.parquet, row 2"
    assert place_of(datasets.Dataset.from_dict(TWO), 1) == "row 2"


def test_a_file_that_was_changed_is_not_quoted_wrongly(tmp_path):
    path = written(tmp_path, "data.csv", "text,label\na,1\nb,0\n")
    data = load_data(path)
    assert place_of(data.map(lambda row: {"text": row["text"] * 2}), 1) == f"{path}, row 2"
    written(tmp_path, "data.csv", "words\nc\n")
    assert place_of(data, 1) == f"{path}, row 2"
    (tmp_path / "data.csv").unlink()
    assert place_of(data, 1) == "row 2"


def test_values_of_every_kind_are_found(tmp_path):
    rows = [{"text": [one], "label": True, "n": 0.5, "m": {"x": 1}} for one in "ab"]
    rows.append(dict.fromkeys(rows[0]))
    path = written(tmp_path, "data.jsonl", "\n".join(map(json.dumps, rows)))
    data = load_data(path)
    assert [place_of(data, row) for row in range(3)] == [f"{path}, line {line}" for line in (1, 2, 3)]


def test_messages_say_the_line(tmp_path):
    path = written(tmp_path, "data.csv", "text,label\na,1\n,0\nc,\n")
    data = load_data(path).select([2, 1, 0])
    with pytest.raises(DataError, match=r"data\.csv, line 3: column 'text' must hold text; got None"):
        require_text(data, Columns().text)
    with pytest.raises(DataError, match=r"data\.csv, line 4: every row of column 'label' must have a label; got None"):
        find_classes(data, "label")


def test_what_is_mapped_says_the_line_too(build, tmp_path):
    tagger = build(by_name("bert-ForTokenClassification"))
    rows = [{"text": ["a"], "label": [0]}, {"text": ["a", "b"], "label": [0]}, {"text": ["a"], "label": [9]}]
    path = written(tmp_path, "data.jsonl", "\n".join(map(json.dumps, rows)))
    tokenizer = BertTokenizerFast(vocab={name: number for number, name in enumerate(WORDS)})
    data = load_data(path)
    with pytest.raises(DataError, match=r"data\.jsonl, line 2: every word must have a label; got 1 labels for 2 words"):
        prepare(tagger, tokenizer, data.select([1, 0]), Columns())
    with pytest.raises(DataError, match=r"data\.jsonl, line 3, column 'label': a label must be one of .*; got 9"):
        prepare(tagger, tokenizer, data.select([0, 2]), Columns())


def test_an_error_of_a_row_can_be_read_without_its_data():
    error = RowError(1, "it is wrong", "label")
    assert str(error) == "row 2, column 'label': it is wrong"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
