"""The page of a run in a real browser: one slider over the measurements moves all of it, at all widths."""

from itertools import pairwise

import pytest

from acn_hf.report import RunLog, write_report
from tests.report.test_in_browser import line_of
from tests.report.test_page import EVIL
from tests.report.test_run_page import evil_run
from tests.support.run_logs import entries, write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LOGS = {
    "shed": lambda: entries(left={20: 3, 40: 1}),
    "long": lambda: entries(steps=500, every=1, depths=24),
    "one": lambda: [entry for entry in entries() if entry.get("step") == 10],
    "other": lambda: entries(metric="my_own", prefix="eval_far"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, log in LOGS.items():
        write_report(folder / f"{name}.html", RunLog.of_folder(write_run(folder / name, log(), best_global_step=40)))
    write_report(folder / "evil.html", evil_run(folder / "evil"))
    return folder


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
@pytest.mark.parametrize("name", [*LOGS, "evil"])
def test_nothing_is_wider_than_the_window(opened, name, width, scheme):
    watched = opened(name, width=width, scheme=scheme)
    assert watched.page.locator(".chart svg").count() >= 4
    watched.check_width()


def state(watched):
    """Return what the page says of the measurement that it is at."""
    page = watched.page
    return {
        "slider": page.locator("#measurement").get_attribute("aria-valuetext"),
        "now": watched.text("#now"),
        "metric": watched.text("#c-metric"),
        "effective": watched.text("#c-at-effective"),
        "layers": watched.text("#c-layers"),
        "loss": watched.text("#c-loss"),
        "caption": watched.text("#cap-depths"),
        "depths": watched.texts("#depths tbody td"),
        "row": watched.text("#measurements tr[aria-current] th"),
        "profile": strong(page),
        **{f"line of {name}": line_of(page, name) for name in ("metric", "effective", "loss", "scale")},
    }


def strong(page):
    """Return the path of the line of the step that is looked at."""
    lines = page.locator("#chart-profile .mark-line path").all()
    found = [line.get_attribute("d") for line in lines if line.get_attribute("stroke-width") == "2.5"]
    assert len(found) == 1
    return found[0]


def test_the_arrow_keys_move_everything(opened):
    watched = opened("shed")
    states = [state(watched)]
    assert states[0]["row"] == "60"
    assert states[0]["slider"].startswith("step 60: eval_accuracy")
    watched.page.focus("#measurement")
    for key, step in (("Home", 10), ("ArrowRight", 20), ("ArrowRight", 30), ("ArrowRight", 40)):
        watched.page.keyboard.press(key)
        watched.wait(step)
        states.append(state(watched))
    assert [one["row"] for one in states] == ["60", "10", "20", "30", "40"]
    assert [one["layers"] for one in states] == ["1", "4", "4", "3", "3"]
    assert "best checkpoint" in states[-1]["slider"]
    for before, after in pairwise(states):
        same = {name for name in before if before[name] == after[name]}
        assert same <= {"layers", "effective"}
    watched.page.click("#to-last")
    watched.wait(60)
    assert state(watched) == states[0]


def test_the_mouse_moves_everything(opened):
    watched = opened("long")
    before, box = state(watched), watched.page.locator("#measurement").bounding_box()
    watched.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    watched.page.mouse.down()
    watched.page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2, steps=4)
    watched.page.mouse.up()
    watched.wait(1)
    after = state(watched)
    assert after["row"] == "1"
    assert {name for name in before if before[name] == after[name]} <= {"layers"}


def test_every_measurement_is_behind_the_one_that_is_looked_at(opened):
    page = opened("shed").page
    widths = [line.get_attribute("stroke-width") for line in page.locator("#chart-profile .mark-line path").all()]
    assert sorted(widths) == ["1"] * 6 + ["2.5"]
    lines = page.locator("#chart-metric .mark-line path").all()
    colours = {line.evaluate("line => getComputedStyle(line).stroke") for line in lines}
    assert len(lines) == len(colours) == 5
    rules = page.locator("#chart-effective .mark-rule line").all()
    assert [rule.get_attribute("stroke-dasharray") for rule in rules].count("2,3") == 2  # layers left twice


def test_the_row_of_the_slider_comes_into_view(opened):
    watched = opened("long")

    def is_seen():
        return watched.page.evaluate(
            "(() => { const row = document.querySelector('#measurements tr[aria-current]').getBoundingClientRect(), "
            "box = document.querySelector('.tall').getBoundingClientRect(); "
            "return row.top >= box.top && row.bottom <= box.bottom + 1; })()"
        )

    top = watched.page.evaluate("scrollY")
    assert is_seen()
    watched.page.focus("#measurement")
    watched.page.keyboard.press("Home")
    watched.wait(1)
    assert watched.page.locator("#measurements tr[aria-current]").count() == 1
    assert watched.page.evaluate("scrollY") == top
    for _ in range(3):
        watched.page.keyboard.press("PageUp")
    assert is_seen()


def test_what_a_text_wants_to_do_is_shown_and_not_done(opened):
    watched = opened("evil")
    assert watched.text("h1") == EVIL
    for key in ("Home", "ArrowRight", "End"):
        watched.page.focus("#measurement")
        watched.page.keyboard.press(key)
        watched.page.hover("#chart-profile svg")
    assert watched.page.locator("img").count() == 0
    assert watched.page.locator("script").count() == 3


def test_it_can_be_read_without_scripts(browser, files):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((files / "shed.html").as_uri())
    assert page.locator("noscript").count() == 1
    assert page.locator("#measurements tbody tr").count() == 6
    page.context.close()


@pytest.mark.parametrize(("name", "scheme"), [("shed", "light"), ("shed", "dark"), ("one", "light")])
def test_axe_finds_nothing_that_is_hard_to_reach(opened, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(opened(name, scheme=scheme, width=360 if scheme == "dark" else 1440).page).response["violations"]
    assert [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found] == []
