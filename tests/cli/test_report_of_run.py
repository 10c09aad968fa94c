"""`acn-hf report` of the output folder of a Trainer: the page of the run."""

import json
import sys

import pytest

from tests.report.test_run_page import shown
from tests.support.command_line import one_line, run, wrong_usage
from tests.support.run_logs import entries, write_run

__all__ = ["run"]


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "my run")


def test_a_page_of_a_run(run, folder):
    done = run("report", folder)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == f"wrote {folder / 'report.html'}"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>my run</h1>" in page
    assert [row["step"] for row in shown(page)["measurements"]] == [10, 20, 30, 40, 50, 60]
    assert "is there already (--overwrite writes over it)" in wrong_usage(run("report", folder))


def test_of_another_metric_under_another_title(run, tmp_path):
    log = sorted([*entries(), *entries(prefix="eval_far")], key=lambda entry: entry["step"])
    write_run(tmp_path / "run" / "checkpoint-60", log)
    done = run(
        "report", tmp_path / "run", "--out", tmp_path / "p.html", "--metric", "eval_far_accuracy", "--name", "Far"
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<h1>Far</h1>" in page
    assert shown(page)["metric"] == "eval_far_accuracy"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "trainer_state.json is damaged: Expecting property name"),
        (json.dumps({"log_history": []}), "trainer_state.json: the log is empty"),
        (json.dumps({"log_history": [{"loss": 1.0, "step": 1}]}), "trainer_state.json has no metric at any depth"),
    ],
)
def test_what_is_wrong_is_one_line(run, folder, text, words):
    (folder / "trainer_state.json").write_text(text)
    assert words in one_line(run("report", folder))
    assert not (folder / "report.html").exists()


def test_options_of_the_other_kind_are_wrong_usage(run, folder, tmp_path):
    (tmp_path / "exits.json").write_text("{}")
    line = wrong_usage(run("report", folder, "--exits", tmp_path / "exits.json"))
    assert "--exits is for the result of a compression, and" in line
    (tmp_path / "empty").mkdir()
    assert "--metric is for the log of a run, and" in wrong_usage(run("report", tmp_path / "empty", "--metric", "loss"))
    assert "or of the trainer_state.json of a run" in one_line(run("report", tmp_path / "empty"))
    assert "must be one of those that the log holds" in one_line(run("report", folder, "--metric", "loss"))


def test_the_result_of_a_compression_comes_first(run, folder):
    (folder / "result.json").write_text("{}")
    assert "result.json holds no Figures" in one_line(run("report", folder))


def test_without_the_extra_one_line_says_what_to_install(run, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    line = one_line(run("report", folder))
    assert line == "error: ImportError: the page needs altair and vl-convert: pip install 'acn-hf[report]'"
