"""The page of a run as a file: it needs nothing else, stays small however long the run was, and says how it chose."""

import json
import re
from dataclasses import replace

import pytest

from acn_hf.report import RunLog, render_report, write_report
from tests.report.test_page import EVIL, LARGEST, URLS, Tags
from tests.support.run_logs import DEPTHS, STEPS, entries, value_at, write_run


def page_of(folder, log=None, name=None, metric=None, **fields):
    return render_report(RunLog.of_folder(write_run(folder, log, **fields), name=name, metric=metric))


def shown(page):
    return json.loads(Tags(page).data)


def test_it_needs_nothing_else_and_allows_no_script_but_its_own(tmp_path):
    page = page_of(tmp_path)
    fetched = [value for _, has in Tags(page).tags for name, value in has.items() if name in URLS]
    assert [value for value in fetched if not value.startswith(("#", "data:"))] == []
    policy = next(has["content"] for _, has in Tags(page).tags if has.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert len(page.encode()) <= LARGEST


def test_what_the_slider_shows_is_what_was_logged(tmp_path):
    rows = shown(page_of(tmp_path / "run", entries(left={20: 3}), best_global_step=40))["measurements"]
    first, last = rows[0], rows[-1]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert [row["full"] for row in rows] == [4, 4, 3, 3, 3, 3]
    assert [row["gone"] for row in rows] == [0, 0, 1, 1, 1, 1]
    assert [row["is_best"] for row in rows] == [False, False, False, True, False, False]
    assert last["metric"] == f"{value_at(60, 3):.4f}"
    assert (last["effective"], last["at_effective"]) == ("1", f"{value_at(60, 1):.4f}")
    assert last["change"] == f"{value_at(60, 3) - value_at(10, 4):+.4f}"
    assert last["loss"] == "1.5000"
    assert last["depths"]["1"] == [
        f"{value_at(60, 1):.4f}",
        f"{value_at(60, 1) - value_at(60, 3):+.4f}".replace("-", "−"),
        "worse",
        f"{value_at(60, 1) - value_at(10, 1):+.4f}",
        "better",
    ]
    assert first["depths"]["4"][1] == first["depths"]["4"][3] == "0.0000"


def test_it_can_be_read_without_scripts(tmp_path):
    page = page_of(tmp_path / "run", entries(left={20: 3, 40: 1}), best_global_step=40)
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", page[page.index('<table id="measurements"') :])
    at_40 = [f"{value_at(40, depth):.4f}" for depth in range(4)]
    place = cells.index("40")
    assert cells[place : place + 9] == ["40", "4.00", "1", *at_40, "", "best checkpoint"]
    for words in (
        "After 60 steps eval_accuracy is",
        "Step 20: layer 4 left, and 3 stayed.",
        "Step 40: layers 2 to 3 left, and 1 stayed.",
        "3 of 4 layers left while it trained, which saved 25% of all layers times steps.",
        "All 6 measurements are shown.",
        "loss was logged 60 times.",
        "<dd>60 of 60</dd>",
        "The log names no command.",
    ):
        assert words in page


def test_what_there_is_not_is_said(tmp_path):
    bare = [entry for entry in entries() if "eval_effective_depth" in entry][:1]
    page = page_of(tmp_path, bare)
    assert "None: the log names no layer that left." in page
    assert "The log holds no loss." in page
    assert "chart-scale" not in page
    data = shown(page)
    assert len(data["measurements"]) == 1
    assert data["measurements"][0]["loss"] == ""
    del bare[0]["eval_effective_depth"]
    assert shown(page_of(tmp_path, bare))["measurements"][0]["effective"] == ""


def test_a_metric_of_which_less_is_more(tmp_path):
    page = page_of(tmp_path, entries(metric="loss"))
    assert "Smaller is better." in page
    assert shown(page)["measurements"][-1]["depths"]["0"][2] == "better"  # than full depth, whose number is greater
    unknown = page_of(tmp_path, entries(metric="my_own"))
    assert "is better." not in unknown
    assert {words[2] for row in shown(unknown)["measurements"] for words in row["depths"].values()} == {""}


def test_other_metrics_are_named(tmp_path):
    log = sorted([*entries(), *entries(prefix="eval_far")], key=lambda entry: entry["step"])
    assert "holds other metrics at every depth too: eval_far_accuracy." in page_of(tmp_path, log)
    assert shown(page_of(tmp_path, log, metric="eval_far_accuracy"))["metric"] == "eval_far_accuracy"


@pytest.mark.slow
def test_a_long_run_makes_no_large_page(tmp_path):
    log = entries(steps=100_000, every=10, depths=48, left={50_000: 40})
    page = page_of(tmp_path, log, max_steps=100_000)
    assert len(page.encode()) <= LARGEST
    assert "Of 10,000 measurements " in page
    assert "loss was logged 100,000 times; each point is the mean of 200" in page
    assert "residual_scale was logged 100,000 times; 500 are shown, evenly spread." in page


@pytest.mark.slow
def test_ten_times_as_long_a_run_makes_no_larger_page(tmp_path):
    few, many = (page_of(tmp_path, entries(steps=steps, every=2, losses=1)) for steps in (1_000, 10_000))
    assert "Of 5,000 measurements 100 are shown: the first and the last, others evenly spread." in many
    assert len(many.encode()) < 1.1 * len(few.encode())


@pytest.mark.slow
def test_hundreds_of_depths_stay_below_the_limit(tmp_path):
    assert len(page_of(tmp_path, entries(steps=100, every=1, depths=300)).encode()) <= LARGEST


def evil_run(folder):
    """Return the log of a run whose names want to do something."""
    metric = EVIL.replace("/", "")
    write_run(folder, entries(metric=metric), best_model_checkpoint=f"runs/{EVIL}", best_metric=EVIL)
    (folder / "config.json").write_text(json.dumps({"architectures": [EVIL], "transformers_version": EVIL}))
    (folder / "model_card.json").write_text(json.dumps({"training": {EVIL: EVIL}}))
    return replace(RunLog.of_folder(folder, name=EVIL, command=EVIL), others=(EVIL,))


def test_what_a_text_wants_to_do_is_not_in_the_page(tmp_path):
    page = render_report(evil_run(tmp_path))
    parsed = Tags(page)
    assert [tag for tag, _ in parsed.tags if tag == "img"] == []
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 3
    assert "<script>document.title" not in page
    assert "{{ 7*7 }}" in page
    assert json.loads(parsed.data)["metric"].startswith("eval_<")


def test_it_is_written_whole_or_not_at_all(tmp_path):
    run = RunLog.of_folder(write_run(tmp_path / "run"))
    write_report(tmp_path / "page" / "run.html", run)
    assert (tmp_path / "page" / "run.html").read_text(encoding="utf-8") == render_report(run)
    assert len(run.measurements[0].values) == DEPTHS + 1
    assert run.step == STEPS
