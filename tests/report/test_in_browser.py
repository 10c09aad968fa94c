"""The page in a real browser: it opens from a file, one slider moves all of it, and all of it fits into the window."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from acn_hf import ConfidenceExit, EarlyExitReport
from acn_hf.report import ReportRecord, write_report
from tests.report.test_page import EVIL, evil_record
from tests.support.reported import CLASSES, LABELS, LANGUAGE, NUMBERS, QUESTIONS, TAGS, answers, result, rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TASKS = {
    "classes": CLASSES,
    "labels": LABELS,
    "numbers": NUMBERS,
    "tags": TAGS,
    "questions": QUESTIONS,
    "language": LANGUAGE,
}
EXITS = EarlyExitReport(ConfidenceExit(0.9), 0.9, (10, 20, 30, 0, 0))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A page of each task, and one whose texts, labels and names want to do something."""
    folder = tmp_path_factory.mktemp("pages")
    for name, task in TASKS.items():
        made = result(task, number=200)
        record = ReportRecord.of(made, rows=rows(made.measurements.answers().num_examples), exits=EXITS, name=name)
        write_report(folder / f"{name}.html", record)
    write_report(folder / "evil.html", evil_record())
    for name, depths in {"one": (4,), "without 0": (1, 4)}.items():
        known = answers(number=50)
        made = result(of=replace(known, at={depth: known.at[depth] for depth in depths}), depth=depths[0])
        write_report(folder / f"{name}.html", ReportRecord.of(made))
    return folder


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
@pytest.mark.parametrize("name", [*TASKS, "evil", "one", "without 0"])
def test_nothing_is_wider_than_the_window(opened, name, width, scheme):
    watched = opened(name, width=width, scheme=scheme)
    assert watched.page.locator(".chart svg").count() >= 5
    watched.check_width()


def state(watched):
    """Return what the page says of the depth that it is at."""
    page = watched.page
    return {
        "slider": page.locator("#depth").get_attribute("aria-valuetext"),
        "now": watched.text("#now"),
        "metric": watched.text("#c-metric"),
        "parameters": watched.text("#c-parameters"),
        "row": watched.text("#depths tr[aria-current] th"),
        "classes": watched.text("#cap-classes"),
        "recall": watched.texts("#classes tbody td:nth-child(5)"),
        "lost": watched.text("#h-lost"),
        "gained": watched.text("#h-gained"),
        **{f"line of {name}": line_of(page, name) for name in ("metric", "latency", "parameters", "mb")},
    }


def line_of(page, chart):
    """Return how far to the right the upright line of a chart stands."""
    lines = page.locator(f"#chart-{chart} .mark-rule line").all()
    upright = [line for line in lines if line.get_attribute("stroke-width") == "2"]
    assert len(upright) == 1
    return upright[0].get_attribute("transform")


def test_the_arrow_keys_move_everything(opened):
    watched = opened("classes")
    states = [state(watched)]
    assert states[0]["row"] == "2"
    assert ", chosen" in states[0]["slider"]
    watched.page.focus("#depth")
    for key, depth in (("ArrowRight", 3), ("Home", 0)):
        watched.page.keyboard.press(key)
        watched.wait(depth)
        states.append(state(watched))
    assert [one["row"] for one in states] == ["2", "3", "0"]
    for before, after in pairwise(states):
        assert {name for name in before if before[name] == after[name]} == set()
    watched.page.click("#to-chosen")
    watched.wait(2)
    assert state(watched) == states[0]


def test_the_mouse_moves_everything(opened):
    watched = opened("classes")
    before, box = state(watched), watched.page.locator("#depth").bounding_box()
    middle = box["y"] + box["height"] / 2
    watched.page.mouse.move(box["x"] + box["width"] / 2, middle)
    watched.page.mouse.down()
    watched.page.mouse.move(box["x"] + box["width"] - 2, middle, steps=4)
    watched.page.mouse.up()
    watched.wait(4)
    after = state(watched)
    assert after["row"] == "4"
    assert {name for name in before if before[name] == after[name]} == set()


def test_numbers_have_residuals_that_move(opened):
    watched = opened("numbers")

    def bars(depth):
        watched.wait(depth)
        paths = watched.page.locator("#chart-residuals .mark-rect path").all()
        return [path.get_attribute("d") for path in paths], watched.texts("#residuals tbody td")

    before = bars(2)
    watched.page.focus("#depth")
    watched.page.keyboard.press("ArrowLeft")
    after = bars(1)
    assert len(before[0]) == len(after[0]) == 30
    assert before[0] != after[0]
    assert before[1] != after[1]
    heights = [bar.bounding_box()["height"] for bar in watched.page.locator("#chart-residuals .mark-rect path").all()]
    assert max(heights) > 50
    assert "Farther off at depth 1" in watched.text("#h-lost")


def test_the_examples_are_those_of_the_record(opened, files):
    watched = opened("classes")
    data = json.loads(watched.page.locator("#data").text_content())["examples"]
    lost = data["lost"]["2"]
    assert watched.page.locator("#lost li").count() == len(lost["shown"]) == 10
    first = data["examples"][lost["shown"][0]]
    assert watched.text("#lost li p") == first["text"].strip()
    assert f"depth 2: {first['at']['2'][0]} ({first['at']['2'][1]:.3f})" in watched.text("#lost li .said")
    assert watched.text("#h-lost").endswith(f"10 of {lost['count']}")


def test_the_close_up_moves_the_scale(opened):
    watched = opened("classes")
    before = watched.texts("#chart-metric .role-axis-label text")
    watched.page.check("#closeup")
    watched.wait(2)
    assert watched.texts("#chart-metric .role-axis-label text") != before


def test_what_a_text_wants_to_do_is_shown_and_not_done(opened):
    watched = opened("evil")
    assert "layers" in watched.page.title()
    assert watched.text("h1") == EVIL
    assert EVIL in watched.text("#lost li p")
    for key in ("Home", "ArrowRight", "End"):
        watched.page.focus("#depth")
        watched.page.keyboard.press(key)
        watched.page.hover("#chart-metric svg")
    assert watched.page.locator("img").count() == 0
    assert watched.page.locator("script").count() == 3


def test_it_can_be_read_without_scripts(browser, files):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((files / "classes.html").as_uri())
    assert page.locator("noscript").count() == 1
    assert page.locator("#depths tbody tr").count() == 5
    page.context.close()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("classes", "light"), ("classes", "dark"), ("labels", "light"), ("numbers", "dark"), ("language", "light")],
)
def test_axe_finds_nothing_that_is_hard_to_reach(opened, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(opened(name, scheme=scheme, width=360 if scheme == "dark" else 1440).page).response["violations"]
    assert [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found] == []
