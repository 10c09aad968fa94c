"""The tables of pretraining, and of fine-tuning after it, quote the records of their runs."""

import statistics

import pytest

from acn_hf import DepthProfile
from tests.support.quoting import in_one_line, part_of_log, printed, rows_of, runs_of

PLATEAU = "## 2026-11-29: an AC-BERT that leaves the plateau"
ALIKE = "## 2026-11-29: masked words where every depth counts alike"
PARTS = {
    "pretraining": (PLATEAU, "### Masked words"),
    "pretraining_alike": (ALIKE, "### Masked words"),
    "reviews": (PLATEAU, "### Movie reviews"),
    "reviews_alike": (ALIKE, "### Movie reviews"),
}
RECORDS = {name: runs_of(name) for name in PARTS}
NETWORKS = sorted({(record, run["name"]) for record, runs in RECORDS.items() for run in runs})


def metric_of(record):
    return "accuracy" if record.startswith("reviews") else "loss"


@pytest.mark.parametrize(("record", "name"), NETWORKS)
def test_the_log_quotes_the_record(record, name):
    """Where layers left, not every seed has every depth."""
    ours = sorted((run for run in RECORDS[record] if run["name"] == name), key=lambda run: run["seed"])
    profiles = [
        DepthProfile(
            tuple(run["depths"]),
            tuple(run["values"]),
            run["metric"],
            metric_of(record) == "accuracy",
            1000,
            (0,) * len(run["depths"]),
        )
        for run in ours
    ]
    seeds, *of_depths, full, close, closer, minutes, saved = rows_of(part_of_log(*PARTS[record]))[name]
    assert (int(seeds), len(of_depths)) == (len({run["seed"] for run in ours}), 9)
    for depth, cell in enumerate(of_depths):
        held = [run["values"][depth] for run in ours if depth < len(run["values"])]
        assert cell == (printed(held) if held else "")
    assert full == printed([run["values"][-1] for run in ours])
    assert (close, closer) == tuple(
        " ".join(str(profile.effective_depth(tolerance)) for profile in profiles) for tolerance in (0.005, 0.01)
    )
    assert minutes == f"{statistics.mean(run['train_runtime'] for run in ours) / 60:.1f}"
    assert saved == (printed([run["saved"] for run in ours]) if "saved" in ours[0] else "")


@pytest.mark.parametrize("record", RECORDS)
def test_every_row_of_the_log_is_in_the_record(record):
    assert set(rows_of(part_of_log(*PARTS[record]))) == {run["name"] for run in RECORDS[record]}
    for run in RECORDS[record]:
        assert (run["metric"], run["num_examples"]) == (metric_of(record), 1000)


def test_the_log_quotes_the_trials():
    ends = {run["name"]: f"{run['values'][-1]:.3f}" for run in runs_of("pretraining_trials")}
    said = in_one_line(part_of_log(*PARTS["pretraining_alike"]))
    assert (
        f"a peak learning rate of 1e-3 ends at {ends['residual-uniform']} (residual-uniform) and {ends['acn-uniform']} "
        f"(acn-uniform), 2e-3 at {ends['residual-uniform-2e-3']} (residual-uniform). "
        f"Without supervision 3e-4 ends at {ends['residual-3e-4']}."
    ) in said


def test_the_log_quotes_the_gradient_flow():
    flows = {run["name"]: run for run in runs_of("gradient_flow")}
    part = part_of_log(ALIKE, "### Gradient flow")
    for name, flow in flows.items():
        assert f"| {name} | {' | '.join(f'{norm:.2f}' for norm in flow['full'])} |" in part
    through_others = flows["strict-uniform"]["mediated"]
    assert (
        f"At depth 2 to 7 at most {max(through_others[2:8]):.3f} of the gradient comes through the layers above; all "
        f"else is that of a layer's own long connection. Depth 0 gets {through_others[0]:.2f} through them."
    ).replace(" 0.", " .") in in_one_line(part)
