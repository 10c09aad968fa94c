"""What is said of an answer, and that a text, a label or a name does nothing."""

import re
from html.parser import HTMLParser

import pytest

from acn_hf import ConfidenceExit, PatienceExit
from acn_hf.app import Answer, answer_at_every_depth, load_checkpoint
from acn_hf.app.answers import AtDepth
from acn_hf.app.times import Times
from acn_hf.app.view import (
    MOST_CLASSES,
    exit_words,
    headline,
    milliseconds,
    percent,
    show_answers,
    show_refusal,
    show_title,
    show_waiting,
)
from tests.support.asked import EVIL, KINDS, question, write

TIMES = Times({0: 0.5, 1: 12.25, 2: 100.0, 3: 2000.0}, 5, "cpu")
NAMES = ("bad", "good")


class Seen(HTMLParser):
    """The elements of a page and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.attributes, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.words.append(data)


def answer(*said, kind="classes", names=NAMES, exit_depth=None):
    """Return an answer that says something else at each depth."""
    at = []
    for depth, name in enumerate(said):
        scores = tuple(0.9 if name == other else 0.1 / max(len(names) - 1, 1) for other in names)
        at.append(AtDepth(depth, name, 0.9, scores))
    return Answer(kind, names, tuple(at), exit_depth, "3 tokens")


@pytest.fixture
def checkpoint(build, tmp_path):
    return load_checkpoint(write("bert", tmp_path / "film", build))


def with_policy(checkpoint, policy):
    return type(checkpoint)("film", checkpoint.model, checkpoint.processor, "classes", checkpoint.depths, policy)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("times", [None, TIMES], ids=["without times", "with times"])
def test_every_kind_of_answer_is_shown(build, tmp_path, name, times):
    checkpoint = load_checkpoint(write(name, tmp_path / "model", build))
    given = answer_at_every_depth(checkpoint, question(name))
    taken = None if times is None else [Times(dict.fromkeys(checkpoint.depths, 1.5), 5, "cpu")]
    (html,) = show_answers([checkpoint], [given], taken)
    rows = re.findall(r'<tr class="row[^"]*" data-depth="(\d+)">', html)
    assert list(map(int, rows)) == list(checkpoint.depths)
    assert html.count("1.50 ms") == (0 if times is None else len(checkpoint.depths))
    assert ("is being measured" in html) is (times is None)
    assert given.full.said in Seen(html).words or given.kind == "tags"


def test_bars_are_as_long_as_the_scores(checkpoint):
    (html,) = show_answers([checkpoint], [answer("bad", "good")])
    assert re.findall(r'class="c(\d)" style="width:([\d.]+)%"', html) == [
        ("1", "90.00"),
        ("2", "10.00"),
        ("1", "10.00"),
        ("2", "90.00"),
    ]


def test_of_many_classes_those_have_a_colour_that_some_depth_thinks_likeliest(checkpoint):
    names = tuple(f"class {number}" for number in range(40))
    (html,) = show_answers([checkpoint], [answer("class 30", "class 7", names=names)])
    assert "34 others" in html
    legend = re.findall(r'swatch c(\d)"></span>([^<]+)<', html)
    assert legend[0] == ("1", "class 7")
    assert "class 30" in dict(map(reversed, legend))
    assert len(legend) == MOST_CLASSES + 1
    first, second = show_answers([checkpoint] * 2, [answer("class 30", names=names), answer("class 7", names=names)])
    colours = [re.findall(r'swatch c(\d)"></span>([^<]+)<', shown) for shown in (first, second)]
    assert colours[0] == colours[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer("good", "good", "good"), "The answer is the same at every depth, from 0 to 2."),
        (answer("good", "bad", "good", "good"), "The answer is the same from depth 2 of 3 on."),
        (answer("good", "good", "bad"), "The last layer decides: depth 1 of 2 still says good."),
        (answer("good"), "There is one depth, 0."),
        (answer("good", "bad", "bad", kind="labels"), "The labels are the same from depth 1 of 2 on."),
    ],
)
def test_from_where_on_the_answer_stays(given, said):
    assert headline(given) == said


@pytest.mark.parametrize(
    ("given", "times", "said"),
    [
        (answer("bad", "good", "good", exit_depth=1), None, "leaves at depth 1 of 2, with the same answer."),
        (answer("bad", "good", "good", exit_depth=0), None, "leaves at depth 0 of 2, with another answer."),
        (answer("bad", "good", "good", exit_depth=2), TIMES, "does not leave before full depth, 2."),
        (
            answer("bad", "good", "good", exit_depth=1),
            TIMES,
            "with the same answer; that depth takes 12.2 ms in the place of 100 ms.",
        ),
    ],
)
def test_where_early_exit_leaves(checkpoint, given, times, said):
    words = exit_words(with_policy(checkpoint, ConfidenceExit(0.875)), given, times)
    assert words.startswith("Early exit (ConfidenceExit threshold 0.875) ")
    assert words.endswith(said)
    assert "(PatienceExit patience 2)" in exit_words(with_policy(checkpoint, PatienceExit(2)), given, times)
    assert exit_words(checkpoint, given, times) is None


def test_as_many_tags_on_other_words_are_another_answer(checkpoint):
    said, full = "1 of 2 words tagged", ("O", "B-PER")
    at = tuple(AtDepth(depth, said, 0.9, tags=tags) for depth, tags in enumerate([("B-PER", "O"), full, full]))
    for exit_depth, words in ((0, "with another answer"), (1, "with the same answer")):
        given = Answer("tags", NAMES, at, exit_depth, "4 tokens", words=("Ann", "came"))
        assert words in exit_words(with_policy(checkpoint, ConfidenceExit(0.875)), given, None)


def test_numbers_as_they_are_read():
    assert [percent(value) for value in (0.004, 0.5, 0.9944, 0.9949, 0.999, 1.0)] == [
        "0%",
        "50%",
        "99%",
        "99.5%",
        "99.9%",
        "> 99.9%",
    ]
    assert [milliseconds(value) for value in (0.5, 12.25, 100.4, 2345.6)] == [
        "0.50 ms",
        "12.2 ms",
        "100 ms",
        "2,346 ms",
    ]


@pytest.mark.parametrize("name", ["bert", "tags", "labels", "number"])
def test_what_wants_to_do_something_is_shown(build, tmp_path, name):
    checkpoint = load_checkpoint(write(name, tmp_path / "model", build))
    names = {number: f"{EVIL} {number}" for number in range(checkpoint.model.config.num_labels)}
    checkpoint.model.config.id2label = names
    checkpoint = type(checkpoint)(EVIL, checkpoint.model, checkpoint.processor, checkpoint.kind, checkpoint.depths)
    given = answer_at_every_depth(checkpoint, question(name, EVIL))
    (html,) = show_answers([checkpoint], [given], [Times(dict.fromkeys(checkpoint.depths, 1.5), 5, "cpu")])
    html += show_waiting(checkpoint) + show_title(EVIL, EVIL) + show_refusal(EVIL)
    seen = Seen(html)
    assert not {"script", "img"} & set(seen.elements)
    assert not [attribute for attribute in seen.attributes if attribute.startswith("on")]
    assert EVIL in seen.words
