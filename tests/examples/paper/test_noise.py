"""The experiment on noise: it runs on digits, and its sentences follow from its numbers."""

import dataclasses

import pytest
import torch

from tests.support.paper_lab import check_verdict_on_both, laboratory, load, result

noise, experiment, store, tasks = load("noise"), load("lab.experiment"), load("lab.store"), load("lab.tasks")


@pytest.fixture
def small(tmp_path):
    """A laboratory whose networks train in a second, with one noise of each kind."""
    made = laboratory(tmp_path)
    made.arguments = noise.NoiseArguments(**{**vars(made.arguments), "gaussian": [0.0], "salt_and_pepper": [1.0]})
    made.arguments.family, made.arguments.arch = ["vit"], ["acn"]
    made.size = dataclasses.replace(made.size, num_layers=1, num_train=64, num_test=50, num_epochs=1)
    return made


def test_it_runs(small):
    """No noise changes nothing; on images of nothing but noise a network is no better than the largest class."""
    (run,) = experiment.run(noise.EXPERIMENT, small)
    found = run.values["accuracies"]
    assert list(found) == ["clean", "Gaussian 0", "salt and pepper 1"]
    assert found["Gaussian 0"] == found["clean"]
    assert len(found["salt and pepper 1"]) == 2
    assert max(found["salt and pepper 1"]) < 0.4
    assert (run.settings["gaussian"], run.settings["salt_and_pepper"]) == ([0.0], [1.0])
    assert "| vit, acn | 1 |" in noise.section([run]).tables[0]
    small.arguments.gaussian = [0.2]
    with pytest.raises(store.MixedResultsError, match=r"was made with gaussian=\[0\.0\]; got \[0\.2\]"):
        experiment.run(noise.EXPERIMENT, small)


def test_networks_of_one_seed_see_the_same_images():
    task = tasks.load_task(tasks.TaskSpec("digits", "image", num_test=7))
    one, same, other = (
        noise.noisy_batches(task, noise.add_gaussian_noise, 0.1, seed, batch_size=4) for seed in (1, 1, 2)
    )
    assert [len(batch["labels"]) for batch in one] == [4, 3]
    assert torch.cat([batch["labels"] for batch in one]).tolist() == task.test["labels"][:].tolist()
    assert torch.equal(one[1]["pixel_values"], same[1]["pixel_values"])
    assert not torch.equal(one[1]["pixel_values"], other[1]["pixel_values"])
    clean = task.test["pixel_values"][:]
    noisy = torch.cat([batch["pixel_values"] for batch in one])
    assert noisy.abs().max() <= 1
    grey = clean.abs() < 0.4  # far from black and white: hardly cut off
    assert abs((noisy - clean)[grey].std() - 0.2) < 0.02  # a tenth of the range of 2


@pytest.mark.parametrize("name", ["gaussian", "salt_and_pepper"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_strengths_outside_the_unit_interval_are_refused(name, value):
    with pytest.raises(SystemExit, match=rf"^error: --{name} must lie in \[0, 1\]; got {value}$"):
        experiment.main(noise.EXPERIMENT, [f"--{name}", ".1", str(value)])


def test_texts_are_refused(small):
    small.arguments.family, small.arguments.text_data = ["bert"], "reviews"
    with pytest.raises(ValueError, match="--family must be vit or mixer, since noise is added to images; got bert"):
        noise.jobs(small)


def made(arch, seed, depth, clean, weak, strong):
    """Return a result whose accuracies at the depths are given; it uses 1 layer."""
    accuracies = {"clean": clean, "Gaussian 0.1": weak, "salt and pepper 0.1": strong}
    settings = {"family": "vit", "arch": arch, "depth": depth, "seed": seed}
    return result(settings, {"accuracies": accuracies, "effective_depth": 1})


def results():
    """The residual network leads by .1 when clean, by .05 ± .07 under weak noise, and is .2 behind under strong noise.

    That of three layers leads by .1 everywhere.
    """
    return [
        made("acn", 0, 4, [0.1, 0.8, 0.8, 0.8, 0.8], [0.1, 0.7, 0.7, 0.7, 0.7], [0.1, 0.4, 0.4, 0.4, 0.6]),
        made("acn", 1, 4, [0.1, 0.8, 0.8, 0.8, 0.8], [0.1, 0.6, 0.6, 0.6, 0.6], [0.1, 0.4, 0.4, 0.4, 0.6]),
        made("residual", 0, 4, [0.1, 0.9, 0.9, 0.9, 0.9], [0.1, 0.2, 0.7, 0.7, 0.7], [0.1, 0.2, 0.4, 0.4, 0.4]),
        made("residual", 1, 4, [0.1, 0.9, 0.9, 0.9, 0.9], [0.1, 0.2, 0.7, 0.7, 0.7], [0.1, 0.2, 0.4, 0.4, 0.4]),
        made("residual", 0, 3, [0.1, 0.9, 0.9, 0.9], [0.1, 0.2, 0.7, 0.8], [0.1, 0.2, 0.4, 0.7]),
        made("residual", 1, 3, [0.1, 0.9, 0.9, 0.9], [0.1, 0.2, 0.7, 0.7], [0.1, 0.2, 0.4, 0.7]),
    ]


def test_statistics_by_hand():
    first = results()[0]
    assert noise.accuracy(first, "salt and pepper 0.1") == 0.6
    assert noise.accuracy(first, "salt and pepper 0.1", cut=True) == 0.4
    assert noise.loss(first, "salt and pepper 0.1") == pytest.approx(0.2)
    assert noise.relative_loss(first, "salt and pepper 0.1") == pytest.approx(0.25)
    assert noise.relative_loss(first, "salt and pepper 0.1", cut=True) == pytest.approx(0.5)
    leads = noise.lead_of(results()[:2], results()[2:4], ["Gaussian 0.1"])
    assert leads == {"clean": pytest.approx([-0.1, -0.1]), "Gaussian 0.1": pytest.approx([0, -0.1])}
    assert noise.turned({"clean": [-0.1], "a": [0.2], "b": [-0.2], "c": [0.3, -0.3]}) == ["a"]


def test_the_section_by_hand(tmp_path):
    section = noise.section(results())
    accuracies, losses, leads, depths = section.tables
    row = "| vit, acn | 2 | 0.800 ± 0.000 | 0.650 ± 0.071 | 0.600 ± 0.000 |"
    assert row in accuracies
    assert "| vit, acn, cut at 1 1 | 2 | 0.800 ± 0.000 | 0.650 ± 0.071 | 0.400 ± 0.000 |" in accuracies
    assert "| vit, acn | 0.150 ± 0.071 (19%) | 0.200 ± 0.000 (25%) |" in losses
    row = "| vit, residual, 4 layers | -0.100 ± 0.000 | -0.050 ± 0.071 | +0.200 ± 0.000 | salt and pepper 0.1 |"
    assert row in leads
    assert "| nowhere |" in leads
    # The mean of .65 and .4, and of .7 and .6 less .1 for the second seed.
    assert "| vit, acn | 0.100 ± 0.000 | 0.525 ± 0.035 | 0.525 ± 0.035 | 0.525 ± 0.035 | 0.625 ± 0.035 |" in depths
    assert "| vit, residual, 3 layers from scratch | 0.100 ± 0.000 | 0.200 ± 0.000 |" in depths
    deep, short = section.verdict.split("; vit, ")
    assert "against the residual network of 4 layers: under 2 noises the ACN is ahead in 1 and behind in 0 by" in deep
    assert "more than the spread over seeds (at best +20.0 points, salt and pepper 0.1; on clean images -10.0)" in deep
    # (.125 + .25 + .25 + .25) / 4, and (.2222 + .5556) / 2
    assert "noise costs it 22% of its accuracy, the residual network 39%" in deep
    assert deep.endswith("turns round in 1: the claim holds in 1 of them")
    assert "of 3 layers: under 2 noises the ACN is ahead in 0 and behind in 2 by more than the spread" in short
    assert short.endswith("turns round in 0: the claim does not hold.")
    section.save_picture(tmp_path / "noise.png")
    assert (tmp_path / "noise.png").stat().st_size > 1000


def test_results_with_other_noises_are_refused():
    other = made("acn", 2, 4, [0.8], [0.7], [0.6])
    del other.values["accuracies"]["Gaussian 0.1"]
    with pytest.raises(store.MixedResultsError, match=r"must share their noises; got .*'salt and pepper 0\.1'\)"):
        noise.section([*results(), other])


def test_an_acn_alone_is_not_judged():
    assert noise.section(results()[:2]).verdict == "No ACN stands beside a residual network of the same seed."


def test_the_annealed_acn_has_a_sentence_of_its_own():
    check_verdict_on_both(noise.section, results())
