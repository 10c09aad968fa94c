"""The tables of pretraining, and of fine-tuning after it, quote the records of their runs."""

import statistics

import pytest

from acn_hf import DepthProfile
from tests.support.quoting import part_of_log, printed, rows_of, runs_of

SECTION = "## 2026-11-29: an AC-BERT that leaves the plateau"
HEADINGS = {"pretraining": "### Masked words", "reviews": "### Movie reviews"}
RECORDS = {name: runs_of(name) for name in HEADINGS}
NETWORKS = sorted({(record, run["name"]) for record, runs in RECORDS.items() for run in runs})
METRICS = {"pretraining": "loss", "reviews": "accuracy"}


@pytest.mark.parametrize(("record", "name"), NETWORKS)
def test_the_log_quotes_the_record(record, name):
    ours = sorted((run for run in RECORDS[record] if run["name"] == name), key=lambda run: run["seed"])
    profiles = [
        DepthProfile(tuple(run["depths"]), tuple(run["values"]), run["metric"], record == "reviews", 1000, (0,) * 9)
        for run in ours
    ]
    seeds, *of_depths, full, close, closer, minutes, saved = rows_of(part_of_log(SECTION, HEADINGS[record]))[name]
    assert int(seeds) == len({run["seed"] for run in ours})
    assert of_depths == [printed(values) for values in zip(*(run["values"] for run in ours), strict=True)]
    assert full == printed([run["values"][-1] for run in ours])
    assert (close, closer) == tuple(
        " ".join(str(profile.effective_depth(tolerance)) for profile in profiles) for tolerance in (0.005, 0.01)
    )
    assert (minutes, saved) == (f"{statistics.mean(run['train_runtime'] for run in ours) / 60:.1f}", "")


@pytest.mark.parametrize("record", RECORDS)
def test_every_row_of_the_log_is_in_the_record(record):
    assert set(rows_of(part_of_log(SECTION, HEADINGS[record]))) == {run["name"] for run in RECORDS[record]}
    for run in RECORDS[record]:
        assert (run["metric"], run["num_examples"]) == (METRICS[record], 1000)
