"""Pruning: its runs on a few real digits, and its section from results made by hand."""

import dataclasses

import pytest
import torch

from acn_hf import PruningCallback, measure_sparsity, prune_model, truncate
from acn_hf.data.rows import DataError
from tests.support.paper_lab import laboratory, load, result

pruning, experiment, training = load("pruning"), load("lab.experiment"), load("lab.training")
held_aside = load("lab.held_aside").held_aside


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A laboratory of small networks, and a sweep of few points."""
    small = {"SHORT": 1, "SHARES": (0.5, 0.1), "GRADUAL": (0.1,), "NUM_HELD_ASIDE": 60, "NUM_FINE_TUNING": 48}
    for name, value in small.items():
        monkeypatch.setattr(pruning, name, value)
    lab = laboratory(tmp_path, seeds=[3])
    lab.size = dataclasses.replace(lab.size, num_layers=2, num_train=200, num_test=50, num_epochs=1)
    return lab


def test_what_is_held_aside_follows_what_is_learned_from(small):
    rows = held_aside(small, "vit", 60)
    whole = load("lab.tasks").load_task(small.task("vit", num_train=None)).train
    assert len(rows) == 60
    assert torch.equal(rows["pixel_values"][:], whole.select(range(200, 260))["pixel_values"][:])
    assert len(held_aside(small, "vit", 5000)) == 1000
    for number in (1200, None):
        small.size = dataclasses.replace(small.size, num_train=number)
        with pytest.raises(DataError, match=f"must leave some of the 1200 training examples aside; got {number}"):
            held_aside(small, "vit", 60)


def test_the_runs_prune_networks_whole_cut_and_short(small):
    parts = [(job.settings["arch"], job.settings["part"]) for job in pruning.jobs(small)]
    assert parts == [
        ("acn", "full"), ("residual", "full"), ("acn", "cut"), ("residual", "cut"), ("residual", "short"),
    ]  # fmt: skip
    results = experiment.run(pruning.EXPERIMENT, small)
    trained = small.trained(small.network("vit", "residual"), 3)
    values = {parts[place]: found.values for place, found in enumerate(results)}

    whole = values["residual", "full"]
    pruned = [prune_model(trained.model, 0.5), prune_model(trained.model, 0.9)]
    zeros = [sum(measure_sparsity(model).zeros) for model in pruned]
    assert whole["remaining"] == [trained.model.num_parameters() - number for number in zeros]
    assert whole["one_shot"] == [small.accuracies(model, trained.task)[-1] for model in pruned]
    assert whole["unpruned"] == small.accuracies(trained.model, trained.task)[-1]

    task = dataclasses.replace(trained.task, train=trained.task.train.select(range(48)))
    for method in ("magnitude", "movement"):
        model = truncate(trained.model, 2)
        training.train(model, task, small.recipe("vit"), 3, [PruningCallback(0.9, method=method)])
        assert measure_sparsity(model).sparsity == pytest.approx(0.9, abs=1e-4)
        assert whole[method] == [small.accuracies(model, task)[-1]]

    depth = pruning.depth_of_acn(small, "vit", 3)
    assert [values[arch, "cut"]["depth"] for arch in ("acn", "residual")] == [depth, depth]
    assert values["residual", "cut"]["unpruned"] == small.accuracies(trained.model, trained.task)[depth]
    assert values["residual", "short"]["depth"] == 1
    assert {found["full_parameters"] for found in values.values()} == {trained.model.num_parameters()}
    assert pruning.EXPERIMENT.section(results).markdown().startswith("## Pruning")


def made(arch, part, *, seed=0, shift=0.0, parameters=1000, slope=1.0):
    """Return a run whose accuracy falls by `slope` for each part of the weights that went."""
    shares = pruning.SHARES
    fallen = [0.8 + shift - slope * (1 - share) / 10 for share in shares]
    gradual = [0.8 + shift - (1 - share) / 50 for share in pruning.GRADUAL]
    values = {
        "depth": 4,
        "full_parameters": 1000,
        "parameters": parameters,
        "remaining": [round(parameters * share) for share in shares],
        "unpruned": 0.8 + shift,
        "fine_tuned": 0.81 + shift,
        "one_shot": fallen,
        "magnitude": gradual,
        "movement": gradual,
    }
    return result({"family": "vit", "arch": arch, "part": part, "seed": seed}, values)


def test_the_section_by_hand(tmp_path):
    """ACN and residual network differ by .02 when pruned gradually, and by what the slope makes of it at once."""
    runs = [
        made("acn", "full"),
        made("residual", "full", shift=0.02, slope=2.0),
        made("acn", "cut", parameters=400),
        made("residual", "short", shift=-0.3, parameters=400),
    ]
    section = pruning.section(runs)
    # 0.8 - .5 / 10 = .75 and 0.82 - 2 * .5 / 10 = .72: the ACN is ahead at all five shares at once, and never else
    assert (
        "the ACN is ahead of the residual network at 5 of 11 points, and the claim holds here in part"
        in section.verdict
    )
    # .81 - .01: gradual pruning has .784 at most, so the ACN has it with nothing pruned alone; .801 is enough
    assert "the whole fine-tuned ACN (0.810) with so many of the full network's parameters: acn 100.0%, " in (
        section.verdict
    )
    assert "residual 5.0%, acn, cut 40.0%, residual, 3 layers from scratch never" in section.verdict
    lines = section.tables[0].splitlines()
    assert "| vit, acn | 4 | 1 | one shot | 0.800 | 0.750 | 0.730 | 0.720 | 0.710 | 0.705 |" in lines
    assert "| vit, acn | 4 | 1 | magnitude | 0.810 |  |  | 0.784 | 0.782 | 0.781 |" in lines
    assert "| vit, acn, cut | 40.0 | 20.0 | 12.0 | 8.0 | 4.0 | 2.0 |" in section.tables[1].splitlines()
    section.save_picture(tmp_path / "pruning.png")
    assert (tmp_path / "pruning.png").stat().st_size > 1000


def test_seeds_are_averaged():
    runs = [made("acn", "full", seed=0), made("acn", "full", seed=1, shift=0.1)]
    assert pruning.accuracies(runs, "one_shot", 0.5) == pytest.approx([0.75, 0.85])
    assert pruning.accuracies(runs, "movement", 0.5) == []
    assert pruning.fewest(runs, 0.8) == pytest.approx(0.05)  # (.781 + .881) / 2 = .831 gradually
    assert pruning.fewest(runs, 0.855) == pytest.approx(1.0)  # (.81 + .91) / 2 = .86 fine-tuned
    assert pruning.fewest(runs, 0.9) is None
    assert "there is nothing to compare" in pruning.section(runs).verdict


@pytest.mark.parametrize(
    ("shift", "words"),
    [(-0.5, "11 of 11 points, and the claim holds here;"), (0.5, "0 of 11 points, and the claim does")],
)
def test_the_verdict_follows_the_numbers(shift, words):
    assert words in pruning.section([made("acn", "full"), made("residual", "full", shift=shift)]).verdict
