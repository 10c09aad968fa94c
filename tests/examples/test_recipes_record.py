"""The tables of recipes quote the records of their runs."""

import re

import pytest

from tests.support.pages import ROOT
from tests.support.quoting import quoted, rows_of, runs_of

HEADINGS = {
    "recipes_scaled": "### First weights that fit the width",
    "recipes": "### The first weights of transformers",
}
RECORDS = {name: runs_of(name) for name in HEADINGS}
NETWORKS = sorted({(record, run["name"]) for record, runs in RECORDS.items() for run in runs})


def part_of(record):
    """Return the part of the log that holds the table of a record."""
    section = (ROOT / "docs" / "experiments.md").read_text().split("## 2026-11-29: ACNs that learn")[1]
    return re.split(r"^#{2,3} ", section.split(HEADINGS[record])[1], flags=re.M)[0]


@pytest.mark.parametrize(("record", "name"), NETWORKS)
def test_the_log_quotes_the_record(record, name):
    """Where layers left, not every seed has every depth; each is quoted at its own full depth too."""
    ours = [run for run in RECORDS[record] if run["name"] == name]
    seeds, *of_depths, full, layers, minutes = rows_of(part_of(record))[name]
    assert (int(seeds), len(of_depths)) == (len({run["seed"] for run in ours}), 13)
    for depth, cell in enumerate(of_depths):
        held = [run["values"][depth] for run in ours if depth < len(run["values"])]
        assert cell == (quoted(held) if len(held) == len(ours) else "")
    assert full == quoted([run["values"][-1] for run in ours])
    assert layers == " ".join(str(run["depths"][-1]) for run in sorted(ours, key=lambda run: run["seed"]))
    assert minutes == f"{sum(run['train_runtime'] for run in ours) / 60 / len(ours):.1f}"


@pytest.mark.parametrize("record", RECORDS)
def test_every_row_of_the_log_is_in_the_record(record):
    assert set(rows_of(part_of(record))) == {run["name"] for run in RECORDS[record]}


@pytest.mark.parametrize("record", RECORDS)
def test_a_number_travels_with_its_circumstances(record):
    circumstances = {"date", "commit", "seed", "train_runtime", "torch", "transformers", "device", "load_average"}
    for run in RECORDS[record]:
        assert circumstances <= set(run)
        assert (run["metric"], run["steps"], run["num_examples"]) == ("accuracy", 1565, 10_000)
        width = run["settings"].get("initializer_range", 0.02)
        assert width == {"recipes": 0.02, "recipes_scaled": 0.0693}[record]
