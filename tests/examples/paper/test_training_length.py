"""Training length: its runs on real digits, and its section from results made by hand."""

import dataclasses

import pytest

from tests.support.paper_lab import laboratory, load, result

length, experiment = load("training_length"), load("lab.experiment")


def test_every_length_is_a_training_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(load("lab.laboratory"), "SHORT", 1)
    lab = laboratory(tmp_path)
    lab.seeds = [5]
    lab.size = dataclasses.replace(lab.size, num_layers=3, num_train=50, num_test=50, num_epochs=1)
    results = experiment.run(length.EXPERIMENT, lab)
    assert [(run.settings["arch"], run.settings["depth"], run.settings["epochs"]) for run in results] == [
        (arch, depth, epochs)
        for arch, depth in (("acn", 3), ("residual", 3), ("residual", 1), ("residual", 2))
        for epochs in (1, 2)
    ]
    trained = lab.trained(lab.network("vit", "acn"), 5, recipe=lab.recipe("vit", num_epochs=2))
    assert len(trained.history) == 2
    assert results[1].values["accuracies"] == lab.accuracies(trained.model, trained.task)
    assert results[1].values["train_loss"] == trained.history[-1]["train_loss"]
    assert length.section(results).markdown().startswith("## Training length")


def runs_of(accuracies, depth=2):
    """Return runs of networks of a depth; of each architecture, length and depth that is used one for each accuracy."""
    return [
        result(
            {"family": "vit", "arch": arch, "depth": depth, "epochs": epochs, "seed": seed},
            {
                "accuracies": [*[0.1, 0.2][:depth], last],
                "effective_depth": used,
                "train_loss": 0.5,
                "train_seconds": 1.0,
            },
        )
        for (arch, epochs, used), values in accuracies.items()
        for seed, last in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("longer", "outcome"),
    [
        ([0.8, 0.82], "held"),
        ([0.79, 0.81], "held"),  # .01 behind, and the seeds spread by .014
        ([0.7, 0.72], "did not hold"),
    ],
)
def test_the_claim_is_that_more_training_makes_good(longer, outcome, tmp_path):
    made = length.section(
        runs_of(
            {
                ("acn", 5, 1): [0.6, 0.62],
                ("acn", 20, 2): longer,
                ("residual", 5, 2): [0.8, 0.82],
                ("residual", 20, 2): [0.9, 0.9],
            }
        )
        + runs_of({("residual", 20, 1): [0.7, 0.8], ("residual", 5, 1): [0.6]}, depth=1)
    )
    last = sum(longer) / 2
    assert made.verdict == (
        f"vit: the claim {outcome}: the ACN has {last:.3f} after 20 epochs, the residual network 0.810 after 5; with "
        f"equally many it is 0.200 behind after 5 and {0.9 - last:.3f} after 20, and uses 1.0 and 2.0 layers, "
        "1 residual layers from scratch have 0.750 after 20."
    )
    assert (
        "| vit, acn | 5 | 2 | 0.100 ± 0.000 | 0.200 ± 0.000 | 0.610 ± 0.014 | 1 1 | 0.500 ± 0.000 |" in made.tables[0]
    )
    made.save_picture(tmp_path / "length.png")
    assert (tmp_path / "length.png").stat().st_size > 1000


def test_one_network_is_not_compared():
    assert length.section(runs_of({("acn", 5, 1): [0.6]})).verdict == "There is nothing to compare with."
