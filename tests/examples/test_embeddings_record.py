"""The tables of ways to embeddings at every depth quote the record of their runs."""

import pytest

from tests.support.quoting import part_of_log, quoted, rows_of, runs_of

SECTION = "## 2026-11-29: embeddings at every depth"
RUNS = runs_of("embeddings")
TABLES = {
    "### recall, 384 dimensions": ("recall", "384"),
    "### recall, 64 dimensions": ("recall", "64"),
    "### spearman, 384 dimensions": ("spearman", "384"),
    "### accuracy, 384 dimensions": ("accuracy", "384"),
    "### neighbour_accuracy, 384 dimensions": ("neighbour_accuracy", "384"),
}


@pytest.mark.parametrize("heading", TABLES)
def test_the_log_quotes_the_record(heading):
    measure, dimension = TABLES[heading]
    rows = rows_of(part_of_log(SECTION, heading))
    assert set(rows) == {run["name"] for run in RUNS}
    for name, (seeds, *of_depths, full) in rows.items():
        ours = [run for run in RUNS if run["name"] == name]
        values = [run["measures"][measure][dimension] for run in ours]
        assert (int(seeds), len(of_depths)) == (len({run["seed"] for run in ours}), 7)
        for depth, cell in enumerate(of_depths):
            held = [
                one[run["depths"].index(depth)] for one, run in zip(values, ours, strict=True) if depth in run["depths"]
            ]
            assert cell == (quoted(held) if held else "")
        assert full == quoted([one[-1] for one in values])


def test_the_log_quotes_the_minutes():
    rows = rows_of(part_of_log(SECTION, "### Minutes of training"))
    assert set(rows) == {run["name"] for run in RUNS}
    for name, (minutes,) in rows.items():
        ours = [run["train_runtime"] / 60 for run in RUNS if run["name"] == name]
        assert minutes == f"{sum(ours) / len(ours):.1f}".removeprefix("0")


def test_a_number_travels_with_its_circumstances():
    circumstances = {"date", "commit", "seed", "train_runtime", "torch", "transformers", "device", "load_average"}
    for run in RUNS:
        assert circumstances <= set(run)
        assert (run["metric"], run["num_examples"], run["settings"]["steps"]) == ("recall", 1000, 500)
        assert all("/" not in str(value) for value in run["settings"].values())
