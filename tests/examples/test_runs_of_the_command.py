"""The tables of tags, masked words and images quote the record of their runs."""

import pytest

from tests.support.quoting import part_of_log, quoted, rows_of, runs_of, values_at

RECORDS = {name: runs_of(name) for name in ("tags", "masked_words", "images")}
HEADINGS = {"tags": "### Tags", "masked_words": "### Masked words", "images": "### Images by the command"}
METRICS = {"tags": "f1_macro", "masked_words": "loss", "images": "accuracy"}
NETWORKS = sorted({(record, run["name"]) for record, runs in RECORDS.items() for run in runs})


def part_of(record):
    """Return the part of the log that holds the table of a record."""
    return part_of_log("## 2026-11-29: one command", HEADINGS[record])


@pytest.mark.parametrize(("record", "name"), NETWORKS)
def test_the_log_quotes_the_record(record, name):
    ours = [run for run in RECORDS[record] if run["name"] == name]
    seeds, *of_depths, test = rows_of(part_of(record))[name]
    assert (int(seeds), len(of_depths)) == (len({run["seed"] for run in ours}), 13 if record == "images" else 7)
    expected = {depth: quoted(values) for depth, values in values_at(RECORDS[record], name).items()}
    assert {depth: cell for depth, cell in enumerate(of_depths) if cell} == expected
    tested = [run["test"] for run in ours if run["test"] is not None]
    assert test == (quoted(tested) if len(tested) == len(ours) else "")


@pytest.mark.parametrize("record", RECORDS)
def test_every_row_of_the_log_is_in_the_record(record):
    assert set(rows_of(part_of(record))) == {run["name"] for run in RECORDS[record]}


@pytest.mark.parametrize("record", RECORDS)
def test_a_number_travels_with_its_circumstances(record):
    for run in RECORDS[record]:
        assert run["command"].startswith("acn-hf compress ")
        assert {"date", "commit", "seed", "seconds", "torch", "transformers", "device", "load_average"} <= set(run)
        assert (run["metric"], run["num_examples"] > 0) == (METRICS[record], True)
