"""What the command line says of the data that it reads, and how it is told to read them."""

import pytest

from acn_hf import DepthProfile
from tests.support.command_line import one_line, residual, run, tokenizer
from tests.support.families import by_name

__all__ = ["residual", "run"]

ROWS = [("good film", 2), ("bad", 0), ("good good good film", 1)]


@pytest.fixture
def written(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "data.csv").write_text(text, encoding=encoding)
        return tmp_path / "data.csv"

    return write


@pytest.fixture
def measured(run, residual, tmp_path):
    """Return a function that measures and returns what was said and how many examples there were."""

    def measure(data, *options):
        result = run("profile", residual, data, "--out", tmp_path / "p.json", "--overwrite", *options)
        assert result.exit_code == 0, result.output
        return " ".join(result.stderr.split()), DepthProfile.load(tmp_path / "p.json").num_examples

    return measure


def test_incomplete_rows_are_left_out_with_a_warning(measured, written):
    data = written("text,label\ngood film,2\n,0\nbad,\nbad,0\n")
    said, number = measured(data)
    assert f"warning: {data}: 2 of 4 rows are incomplete and left out: the first, {data}, line 3, has no 'text'" in said
    assert number == 2
    assert measured(written("text,label\ngood film,2\nbad,0\n")) == ("", 2)


def test_incomplete_rows_are_refused_if_asked_for(run, residual, written):
    data = written("text,label\ngood film,2\n,0\nbad,0\n")
    result = run("profile", residual, data, "--incomplete", "refuse")
    assert "every row must be complete (--incomplete skip leaves others out); 1 of 3 rows is inc" in one_line(result)


def test_cut_texts_are_counted(measured, written):
    data = written("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    said, number = measured(data, "--max-length", 4)
    assert (said, number) == (f"{data}: 1 of 3 texts is longer than 4 tokens and is cut", 3)
    assert measured(data) == ("", 3)


def test_separator_and_encoding_are_told(run, measured, residual, written):
    text = "text;label\n" + "".join(f"{text} café;{label}\n" for text, label in ROWS)
    data = written(text, "latin-1")
    refused = one_line(run("profile", residual, data))
    assert "must be text in UTF-8; " in refused
    assert "(--encoding latin-1, or cp1252" in refused
    assert measured(data, "--encoding", "latin-1") == (f"{data}: its columns are separated by ';'", 3)
    assert measured(data, "--encoding", "latin-1", "--separator", ";") == ("", 3)


def test_a_label_that_the_model_does_not_know_is_found_in_its_line(run, residual, written):
    data = written("text,label\ngood film,2\n\nbad,7\n")
    refused = one_line(run("profile", residual, data))
    assert f"{data}, line 4, column 'label': a label must be one of" in refused
    assert refused.endswith("got 7")


def test_labels_are_not_missed_where_tokens_are_masked(run, build, written, tmp_path):
    build(by_name("bert-ForMaskedLM")).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    result = run("profile", tmp_path / "model", written("text,label\ngood film,\nbad,\n"))
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output
