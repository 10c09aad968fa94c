"""The script that makes files of sentences."""

import gzip
import importlib.util

import pytest

from tests.support.pages import ROOT

SPEC = importlib.util.spec_from_file_location("make_sentences", ROOT / "examples" / "make_sentences.py")
make_sentences = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_sentences)


@pytest.fixture
def books(tmp_path):
    first = "  It was  a fine day; nobody was there! Oh no. Was it you?  " + "word " * 30
    (tmp_path / "first.txt.gz").write_bytes(gzip.compress(first.encode()))
    second = "Was it you?\n" + "\n".join(f"Chapter number {number} begins." for number in range(20))
    (tmp_path / "second.txt").write_text(second)
    return [str(tmp_path / "first.txt.gz"), str(tmp_path / "second.txt")]


def test_sentences_come_once_and_no_part_has_those_of_another(books, tmp_path, capsys):
    sizes = ["--num-train", "18", "--num-held-out", "5", "--shortest", "3"]
    make_sentences.main([*books, str(tmp_path / "a"), *sizes])
    assert capsys.readouterr().out == "held_out: 5 of 23 sentences\ntrain: 18 of 23 sentences\n"
    parts = [(tmp_path / "a" / name).read_text().splitlines() for name in ("train.txt", "held_out.txt")]
    of_first = {"It was a fine day;", "nobody was there!", "Was it you?"}
    assert {*parts[0], *parts[1]} == {*of_first, *(f"Chapter number {number} begins." for number in range(20))}
    assert [len(part) for part in parts] == [18, 5]
    make_sentences.main([*books, str(tmp_path / "b"), *sizes])
    assert (tmp_path / "b" / "train.txt").read_bytes() == (tmp_path / "a" / "train.txt").read_bytes()
    make_sentences.main([*books, str(tmp_path / "c"), *sizes, "--seed", "1"])
    assert (tmp_path / "c" / "train.txt").read_bytes() != (tmp_path / "a" / "train.txt").read_bytes()


def test_too_few_sentences_are_refused_before_anything_is_written(books, tmp_path):
    with pytest.raises(SystemExit, match="the books must hold 10000 sentences; they hold "):
        make_sentences.main([*books, str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()
