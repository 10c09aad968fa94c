"""The script that makes tags out of capitals and punctuation."""

import gzip
import importlib.util
import json
import re
import sys

import pytest

from acn_hf.data import Columns, find_task, load_data
from tests.support.pages import ROOT

SPEC = importlib.util.spec_from_file_location("make_tags", ROOT / "examples" / "make_punctuation_tags.py")
make_tags = importlib.util.module_from_spec(SPEC)
sys.modules["make_tags"] = make_tags
SPEC.loader.exec_module(make_tags)
MARKS = {"COMMA": ",", "STOP": ".", "QUESTION": "?"}
ENOUGH = ("--num-train", "12", "--num-held-out", "4", "--num-words", "40")


def restored(passage):
    """Return the text that words and tags stand for, with a full stop for every mark that ends something."""
    parts = []
    for word, tag in zip(passage["text"], passage["label"], strict=True):
        names = tag.split("+")
        parts.append((word.capitalize() if "CAPITAL" in names else word) + MARKS.get(names[-1], ""))
    return " ".join(parts)


@pytest.fixture
def corpus(tmp_path):
    words = ["Emma", "spoke", "to", "Jane,", "who", "was", "silent;", "and", "then", "Harriet", "left."]
    lines = [" ".join([*words, f"The {'very ' * number}end."]) for number in range(20)]
    path = tmp_path / "corpus.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.mark.parametrize(
    "text",
    [
        "Emma agreed to it, and with a blush went out. Did he go? No one knew.",
        "Had the well-known doctor's house a view? Jane, Fanny, Kitty and Lydia thought it had.",
    ],
)
def test_the_tags_are_what_the_words_had(text):
    (passage,) = make_tags.passages(text, 32)
    assert restored(passage) == text
    assert passage["text"] == re.findall(r"[a-z'-]+", text.lower())


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("Mr. Weston and Mrs. Elton", ["CAPITAL", "CAPITAL", "O", "CAPITAL", "CAPITAL"]),
        ('"Oh!" cried _he_; "is it Emma?"', ["CAPITAL+STOP", "O", "STOP", "O", "O", "QUESTION"]),
        ("grief came--a gentle grief--but (as you know), late: so", [*["O"] * 8, "COMMA", "STOP", "O"]),
    ],
)
def test_marks_stand_behind_quotation_marks_and_points_belong_to_abbreviations(text, tags):
    assert [make_tags.tag_of(word, mark) for word, mark in make_tags.WORD.findall(text)] == tags


def test_short_ends_of_paragraphs_are_left_out():
    parts = make_tags.passages(" ".join(f"w{'x' * n}" for n in range(47)), 20)
    assert [len(part["text"]) for part in parts] == [20, 20]
    assert [len(part["text"]) for part in make_tags.passages("one two " * 24, 20)] == [20, 20, 8]


def test_the_parts_are_apart_and_always_the_same(corpus, tmp_path, capsys):
    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        make_tags.main([str(corpus), str(tmp_path / folder), *ENOUGH, "--seed", str(seed)])
    assert re.search(r"^train: 12 passages, \d+ words: O 0\.\d+, ", capsys.readouterr().out, re.M)
    parts = {}
    for name, size in (("train", 12), ("validation", 4), ("test", 4)):
        path = tmp_path / "one" / f"{name}.jsonl"
        assert path.read_bytes() == (tmp_path / "again" / f"{name}.jsonl").read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / f"{name}.jsonl").read_bytes()
        parts[name] = {tuple(json.loads(line)["text"]) for line in path.read_text().splitlines()}
        assert len(parts[name]) == size
    assert len(set().union(*parts.values())) == 20


def test_the_command_reads_what_is_written(corpus, tmp_path):
    make_tags.main([str(corpus), str(tmp_path), *ENOUGH])
    task = find_task(load_data(str(tmp_path / "train.jsonl")), Columns())
    classes = ("CAPITAL", "CAPITAL+COMMA", "O", "STOP")
    assert (task.name, task.classes) == ("token-classification", classes)


def test_a_corpus_that_is_too_small_is_refused(corpus, tmp_path):
    with pytest.raises(SystemExit, match="the corpus must hold 8000 passages; it holds "):
        make_tags.main([str(corpus), str(tmp_path / "tags")])
    assert not (tmp_path / "tags").exists()
