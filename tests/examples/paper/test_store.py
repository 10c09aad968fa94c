"""The file of an experiment's results: whole at every moment, shared by processes, damage refused, old folders read."""

import json
import multiprocessing
import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.paper_lab import PAPER, counted, load, result, small, write_results

__all__ = ["small"]
store, experiment, run_all = load("lab.store"), load("lab.experiment"), load("run_all")

FORK = multiprocessing.get_context("fork")  # a fresh process would import torch first
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def no_questions_to_git(monkeypatch):
    monkeypatch.setattr(store, "circumstances", lambda _: {"commit": "abc1234"})


def save_all(folder, seeds, start):
    start.wait()
    for seed in seeds:
        store.Store(folder, "one").save(f"seed{seed:02}", {"seed": seed}, {"x": seed})


def save_and_be_killed_before_the_move(folder):
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    store.Store(folder, "one").save("second", {"seed": 2}, {"x": 2})


def test_two_processes_that_save_at_once_lose_nothing(tmp_path):
    start = FORK.Barrier(2)
    processes = [FORK.Process(target=save_all, args=(tmp_path, range(n, 60, 2), start)) for n in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    found = store.Store(tmp_path, "one").runs()
    assert {name: run.values["x"] for name, run in found.items()} == {f"seed{n:02}": n for n in range(60)}


def test_a_process_that_is_killed_before_the_move_leaves_the_old_file_whole(tmp_path):
    one = store.Store(tmp_path, "one")
    one.save("first", {"seed": 1}, {"x": 1})
    old = one.path.read_bytes()
    process = FORK.Process(target=save_and_be_killed_before_the_move, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (beside,) = tmp_path.glob(".one.jsonl-*")
    assert '"name": "second"' in beside.read_text()
    assert one.path.read_bytes() == old
    one.save("third", {"seed": 3}, {"x": 3})  # the lock of the killed process is free
    assert list(one.runs()) == ["first", "third"]


def test_lines_hold_the_names_and_are_in_their_order(tmp_path):
    one = store.Store(tmp_path, "one")
    for name in ("b", "c", "a"):
        one.save(name, {"seed": 0}, {"text": "two\nlines", "name": name})
    lines = one.path.read_text().split("\n")
    assert [json.loads(line)["name"] for line in lines[:-1]] == ["a", "b", "c"]
    assert lines[-1] == ""
    assert [run.values["name"] for run in one.results()] == ["a", "b", "c"]
    one.save("b", {"seed": 0}, {"name": "another b"})
    assert [run.values["name"] for run in one.results()] == ["a", "another b", "c"]


GOOD = json.dumps({"name": "1", **result({"seed": 1}, {"x": 1}).to_dict()})


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (GOOD[:-1], "Expecting ',' delimiter, column"),
        (" ", "Expecting value, column 2"),
        ("<<<<<<< HEAD", "Expecting value, column 1"),
        (f"{GOOD}{GOOD}", f"Extra data, column {len(GOOD) + 1}"),
        (b"\xff" + GOOD.encode(), "'utf-8' codec can't decode byte 0xff"),
        ("[1]", "it must have a name"),
        (GOOD.replace('"1"', "1"), "it must have a name"),
        (GOOD.replace("settings", "setting"), "these are not the fields of a Result: .*'setting'"),
        (GOOD.replace('"1"', '"0"'), "an earlier line has the name 0"),
    ],
    ids=["torn", "blank", "merge", "two", "bytes", "list", "number", "field", "name"],
)
def test_a_damaged_line_is_refused_with_its_file_and_number(tmp_path, line, text):
    one = store.Store(tmp_path, "one")
    write_results(one.path, result({"seed": 0}, {"x": 0}))
    line = line.encode() if isinstance(line, str) else line
    for rest in (b"", b"\n" + GOOD.replace('"1"', '"2"').encode() + b"\n"):
        damaged = one.path.read_bytes().split(b"\n")[0] + b"\n" + line + rest
        one.path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^line 2 of {re.escape(str(one.path))} holds no Result: {text}"):
            one.results()
        with pytest.raises(ValueError, match=r"^line 2 of "):
            one.save("3", {"seed": 3}, {"x": 3})
        assert one.path.read_bytes() == damaged


def test_an_empty_file_is_damaged(tmp_path):
    one = store.Store(tmp_path, "one")
    one.path.touch()
    with pytest.raises(ValueError, match=r"^line 1 of .*one\.jsonl holds no Result: Expecting value, column 1$"):
        one.results()


def test_a_folder_of_the_earlier_layout_is_read_and_goes_into_the_file(small):
    """One file a run: its runs are found, not run again, and stand in the file after the next one is saved."""
    one, made = counted(1)
    (job,) = one.jobs(small)
    earlier = small.store("counted").path.with_suffix("") / f"{job.name}.json"
    settings = {**job.settings, **vars(small.size)}
    result(settings, {"accuracies": [0.0, 0.25]}, commit="abc1234").save(earlier)
    assert [found.values["accuracies"] for found in experiment.run(one, small)] == [[0.0, 0.25]]
    assert "| 0.000 | 0.250 |" in experiment.said(one, small)
    assert made == []
    assert not small.store("counted").path.exists()

    two, made = counted(2)
    experiment.run(two, small)
    assert made == [1]
    earlier.unlink()
    found = small.store("counted").runs()
    assert {name: run.values["accuracies"][1] for name, run in found.items()} == {
        "vit-acn-seed0": 0.25,
        "vit-acn-seed1": 0.6,
    }


def test_a_run_in_both_layouts_is_the_one_of_the_file(tmp_path):
    one = store.Store(tmp_path, "one")
    result({"seed": 0}, {"x": "old"}).save(tmp_path / "one" / "0.json")
    write_results(one.path, result({"seed": 0}, {"x": "new"}))
    assert [run.values for run in one.results()] == [{"x": "new"}]


def test_a_damaged_file_of_the_earlier_layout_is_named(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "seed0.json").write_text(GOOD[:-20])
    with pytest.raises(ValueError, match=r"one/seed0\.json holds no Result"):
        store.Store(tmp_path, "one").results()


def test_the_results_in_the_repository_are_as_they_would_be_saved():
    """Saved again, they would be the same to the byte, so that a new run is one new line; and every file is read."""
    files = {path.name: path.read_text() for path in (PAPER / "results").iterdir() if path.name != ".locks"}
    assert files == {
        f"{name}.jsonl": store.as_lines(store.Store(PAPER / "results", name).runs()) for name in run_all.NAMES
    }
