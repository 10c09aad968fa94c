"""The tables of tags, masked words and images quote the record of their runs."""

import json
import re

import pytest

from tests.support.pages import ROOT

RECORDS = {
    name: json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["runs"]
    for name in ("tags", "masked_words", "images")
}
HEADINGS = {"tags": "### Tags", "masked_words": "### Masked words", "images": "### Images by the command"}
METRICS = {"tags": "f1_macro", "masked_words": "loss", "images": "accuracy"}
RUNS = [(name, run["name"]) for name, runs in RECORDS.items() for run in runs]


def quoted(value):
    """Return a value as the tables write it."""
    return f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"


def part_of(name):
    """Return the part of the log that holds the table of a record."""
    section = (ROOT / "docs" / "experiments.md").read_text().split("## 2026-11-29: one command")[1]
    return re.split(r"^#{2,3} ", section.split(HEADINGS[name])[1], flags=re.M)[0]


@pytest.mark.parametrize(("name", "run_name"), RUNS)
def test_the_log_quotes_the_record(name, run_name):
    run = next(run for run in RECORDS[name] if run["name"] == run_name)
    cells = re.search(rf"^\| {run_name} \| (.*) \|$", part_of(name), re.M)[1].split("|")
    *of_depths, test = [cell.strip() for cell in cells]
    assert len(of_depths) == (13 if name == "images" else 7)
    expected = dict(zip(run["depths"], map(quoted, run["values"]), strict=True))
    assert {depth: cell for depth, cell in enumerate(of_depths) if cell} == expected
    assert test == ("" if run["test"] is None else quoted(run["test"]))


@pytest.mark.parametrize("name", RECORDS)
def test_every_row_of_the_log_is_in_the_record(name):
    rows = re.findall(r"^\| ([a-z]\S*) \|", part_of(name), re.M)
    assert sorted(set(rows) - {"network"}) == sorted(run["name"] for run in RECORDS[name])


@pytest.mark.parametrize("name", RECORDS)
def test_a_number_travels_with_its_circumstances(name):
    for run in RECORDS[name]:
        assert run["command"].startswith("acn-hf compress ")
        assert {"date", "commit", "seed", "seconds", "torch", "transformers", "device", "load_average"} <= set(run)
        assert (run["metric"], run["num_examples"] > 0) == (METRICS[name], True)
