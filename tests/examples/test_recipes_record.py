"""The tables of recipes quote the records of their runs."""

import pytest

from tests.support.pages import ROOT
from tests.support.quoting import in_one_line, part_of_log, quoted, rows_of, runs_of

HEADINGS = {
    "recipes_scaled": "### First weights that fit the width",
    "recipes": "### The first weights of transformers",
    "recipes_digits": "### Digits, and the demo",
    "recipes_longer": "### For as long as the others took",
    "recipes_mixer": "### MLP-Mixer",
}
TRAINED = {"recipes_digits": (680, 719), "recipes_longer": (3756, 10_000)}
"""Steps, and examples that are measured, where they are not those of Fashion-MNIST."""
RECORDS = {name: runs_of(name) for name in HEADINGS}
NETWORKS = sorted({(record, run["name"]) for record, runs in RECORDS.items() for run in runs})


def part_of(record):
    """Return the part of the log that holds the table of a record."""
    return part_of_log("## 2026-11-29: ACNs that learn", HEADINGS[record])


@pytest.mark.parametrize(("record", "name"), NETWORKS)
def test_the_log_quotes_the_record(record, name):
    """Where layers left, not every seed has every depth; each is quoted at its own full depth too."""
    ours = [run for run in RECORDS[record] if run["name"] == name]
    seeds, *of_depths, full, layers, minutes = rows_of(part_of(record))[name]
    assert (int(seeds), len(of_depths)) == (len({run["seed"] for run in ours}), 5 if record == "recipes_longer" else 13)
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
        steps, examples = TRAINED.get(record, (1565, 10_000))
        assert (run["metric"], run["steps"], run["num_examples"]) == ("accuracy", steps, examples)
        width = run["settings"].get("initializer_range", 0.02)
        assert width == (0.02 if record == "recipes" else 0.0693)


def test_the_log_quotes_the_trials():
    """First weights and learning rates that were tried in one seed, 4 layers and 12, and masked words."""
    runs = [*RECORDS["recipes"], *runs_of("recipes_trials")]
    ends = {
        (run["name"], run["settings"]["initializer_range"], run["settings"]["learning_rate"]): run["values"][-1]
        for run in runs
        if run["seed"] == 0
    }
    weights, rates = (0.02, 0.07, 0.1, 0.125, 0.2), (1e-3, 2e-3, 3e-3)
    rows = [
        [ends["attention4+annealed", width, 1e-3] for width in weights],
        [ends["attention4+annealed", 0.02, rate] for rate in rates],
        [ends["residual4", width, 1e-3] for width in weights[:3]],
        [ends[name, 0.1, 1e-3] for name in ("residual", "attention+annealed", "attention", "strict")],
    ]
    said = in_one_line((ROOT / "docs" / "experiments.md").read_text().split("## 2026-11-29: ACNs that learn")[1])
    for values in rows:
        *first, last = map(quoted, ([value] for value in values))
        assert f"{', '.join(first)} and {last}" in said
    losses = [
        ends[name, width, 1e-3] for name, width in (("attention", 0.049), ("residual", 0.049), ("attention", 0.088))
    ]
    for loss in losses:
        assert f"{loss:.3f}" in said
