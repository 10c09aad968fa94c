"""Low data: its runs on a few real digits, and its section from results made by hand."""

import dataclasses

import matplotlib
import pytest

from tests.support.paper_lab import check_verdict_on_both, laboratory, load, result

low_data, experiment, rendering = load("low_data"), load("lab.experiment"), load("lab.rendering")


@pytest.mark.parametrize(
    ("values", "others", "difference"),
    [
        ([0.8, 0.9], [0.5, 0.6], 0.3),
        ([0.5, 0.6], [0.8, 0.9], -0.3),
        ([0.5, 0.7], [0.6, 0.6], 0),  # no difference
        ([0.5, 0.9], [0.6, 0.6], 0),  # .1, and the seeds spread by .283
        ([0.7, 0.7], [0.4, 0.8], 0),
        ([0.7], [0.6], 0.1),  # one seed spreads by 0
    ],
)
def test_a_difference_is_clear_beyond_the_spread(values, others, difference):
    assert rendering.clear_difference(values, others) == pytest.approx(difference)


def test_the_runs_learn_a_few_images_of_each_class(tmp_path, monkeypatch):
    small = {"QUICK_PER_CLASS": 3, "QUICK_EPOCHS": 2, "BATCH_SIZE": 8, "EPOCH_TEST": 30}
    for name, value in small.items():
        monkeypatch.setattr(low_data, name, value)
    monkeypatch.setattr(load("lab.laboratory"), "SHORT", 1)
    lab = laboratory(tmp_path, seeds=[5])
    lab.size = dataclasses.replace(lab.size, num_layers=2, num_test=50)
    networks = [(job.settings["arch"], job.settings["depth"]) for job in low_data.jobs(lab)]
    assert networks == [
        *[("acn", 2), ("residual", 2), ("acn-annealed", 2), ("residual-scaled", 2)],
        *[("residual", 1), ("residual-scaled", 1)],
    ]

    results = experiment.run(low_data.EXPERIMENT, lab)
    trained = lab.trained(
        lab.network("vit", "acn"),
        5,
        task=lab.task("vit", per_class=3, num_test=30),
        recipe=lab.recipe("vit", num_epochs=2, batch_size=8),
    )
    assert (len(trained.task.train), len(trained.task.test)) == (30, 30)
    settings, values = results[0].settings, results[0].values
    assert (settings["per_class"], settings["epochs"], settings["batch"]) == (3, 2, 8)
    assert values["accuracies"] == lab.accuracies(trained.model, load("lab.tasks").load_task(lab.task("vit")))
    for name in ("train_loss", "test_loss", "test_accuracy"):
        assert values[name] == [epoch[name] for epoch in trained.history]
    assert values["best_accuracy"] == max(values["test_accuracy"])
    assert values["loss_gap"] == values["test_loss"][1] - values["train_loss"][1]
    assert len(results[4].values["accuracies"]) == 2
    assert "vit, residual, 1 layers" in low_data.EXPERIMENT.section(results).markdown()


def test_without_residual_networks_there_is_none_to_compare_with(tmp_path):
    lab = laboratory(tmp_path, arch=["acn"], family=["vit", "mixer"])
    assert [(job.settings["family"], job.settings["arch"]) for job in low_data.jobs(lab)] == [
        ("vit", "acn"),
        ("mixer", "acn"),
    ]
    only = [made("acn", 2, seed=0, accuracy=0.5, train=0.1, test=1.0)]
    assert low_data.verdict(rendering.group(only, "family", "arch", "depth"), {"vit": 2}) == (
        "There is nothing to compare with."
    )


def made(arch, depth, seed, accuracy, train, test):
    values = {
        "train_loss": [2.0, train],
        "test_loss": [1.5, test],
        "test_accuracy": [accuracy + 0.1, accuracy],
        "accuracies": [0.1] + [accuracy] * depth,
        "effective_depth": 1,
        "best_accuracy": accuracy + 0.1,
        "loss_gap": test - train,
        "train_seconds": 1.0,
    }
    part = {"per_class": 100, "epochs": 2, "batch": 16}
    return result({"family": "vit", "arch": arch, "depth": depth, **part, "seed": seed}, values)


def two_seeds(arch, depth, accuracies, train, test):
    return [made(arch, depth, seed, accuracy, train, test) for seed, accuracy in enumerate(accuracies)]


def test_the_section_of_results_made_by_hand():
    results = [
        *two_seeds("acn", 4, [0.70, 0.72], train=0.01, test=1.26),
        *two_seeds("residual", 4, [0.60, 0.62], train=0.02, test=2.02),
        *two_seeds("residual", 3, [0.70, 0.70], train=0.03, test=1.0),
    ]
    section = low_data.section(results)
    assert "100 images of each class, 2 epochs in batches of 16." in section.here
    rows = section.tables[0].splitlines()
    spread = "± 0.014"  # of .70 and .72, and wherever one is added to both
    assert rows[2] == (
        f"| vit, acn | 2 | 0.710 {spread} | 0.810 {spread} | 0.010 ± 0.000 | 1.260 ± 0.000 | 1.260 ± 0.000 "
        "| 1.250 ± 0.000 | 4 | 1 1 |"
    )
    assert rows[3].startswith("| vit, residual | 2 | 0.610")
    assert "2.020 ± 0.000 | 1.500 ± 0.000 | 2.000 ± 0.000" in rows[3]
    assert rows[4].startswith("| vit, residual, 3 layers | 2 | 0.700 ± 0.000")
    assert section.verdict == (
        "vit: the claim held against as many layers, but not against fewer: the ACN has 0.710, the residual network of "
        "4 layers 0.610 (clearly less), the residual network of 3 layers 0.700 (no clear difference); train loss "
        "0.01 against 0.02, test loss 1.26 against 2.02 with 4 layers. Clearly: by more than the spread over seeds."
    )


@pytest.mark.parametrize(
    ("residual", "short", "said"),
    [
        (0.6, 0.6, "the claim held:"),
        (0.7, 0.6, "the claim did not hold:"),
        (0.8, 0.8, "the claim did not hold:"),
        (0.6, 0.8, "the claim held against as many layers, but not against fewer:"),
    ],
)
def test_the_verdict_follows_the_numbers(residual, short, said):
    results = [
        made("acn", 4, 0, 0.7, 0.1, 1.0),
        made("residual", 4, 0, residual, 0.1, 1.0),
        made("residual", 3, 0, short, 0.1, 1.0),
    ]
    section = low_data.section(results)
    assert said in section.verdict
    assert ("4 layers 0.800 (clearly more)" in section.verdict) == (residual == 0.8)


def test_the_picture_has_the_losses_of_one_family():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = [*two_seeds("acn", 4, [0.7, 0.72], 0.01, 1.26), made("residual", 4, 0, 0.6, 0.02, 2.0)]
    other = dataclasses.replace(results[0], settings={**results[0].settings, "family": "mixer"})
    figure, axes = pyplot.subplots()
    low_data.section([*results, other]).draw(axes)
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines == {
        "vit, acn, test": [1.5, 1.26],
        "vit, acn, train": [2.0, 0.01],
        "vit, residual, test": [1.5, 2.0],
        "vit, residual, train": [2.0, 0.02],
    }
    pyplot.close(figure)


def test_the_annealed_acn_has_a_sentence_of_its_own():
    check_verdict_on_both(
        low_data.section, [*two_seeds("acn", 4, [0.7, 0.72], 0.01, 1.26), made("residual", 4, 0, 0.6, 0.02, 2.0)]
    )
