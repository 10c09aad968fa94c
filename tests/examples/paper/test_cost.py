"""Cost: epochs to equal quality by hand, the memory of a step of training, and its runs on a few real digits."""

import dataclasses
import subprocess
import types

import pytest
import torch

from acn_hf import measure_cost, truncate
from tests.support.paper_lab import laboratory, load, result

cost, memory, experiment, networks = (
    load(n) for n in ("cost", "lab.training_memory", "lab.experiment", "lab.networks")
)
FIELDS = {"num_labels": 10, "num_channels": 1, "image_size": 28, "patch_size": 7}


@pytest.mark.parametrize(("quality", "epochs"), [(0.5, 1), (0.6, 2), (0.7, 2), (0.71, 4), (0.9, None)])
def test_epochs_to_a_quality_by_hand(quality, epochs):
    assert cost.epochs_to([0.5, 0.7, 0.6, 0.8], quality) == epochs


def made(seed=0, *, acn=(0.5, 0.7, 0.8), cut=0.79, short=0.75, family="vit", depth=3):
    def one(layers, accuracy, history, seconds, step):
        return {
            "depth": layers,
            "num_parameters": 1000 * layers,
            "size_bytes": 4_000_000 * layers,
            "flops": 2_000_000 * layers,
            "latency_ms": {"1": 1.0 * layers, "32": 4.0 * layers},
            "step_ms": step,
            "training_bytes": 5_000_000 * layers,
            "accuracy": accuracy,
            "history": history,
            "train_seconds": seconds,
        }

    values = {
        "acn": one(12, acn[-1], list(acn), 30.0, 50.0),
        "acn_cut": one(depth, cut, list(acn), 30.0, 10.0),
        "residual": one(12, 0.85, [0.6, 0.82, 0.85], 36.0, 40.0),
        "residual_short": one(3, short, [0.4, 0.5, 0.75], 12.0, 10.0),
    }
    return result({"family": family, "seed": seed}, values)


def test_equal_quality_is_what_both_reach():
    """The ACN ends at .8, which the residual network has after two of three epochs of 12 seconds."""
    run = made()
    assert cost.equal_quality(run) == 0.8
    assert [cost.epochs_of(run, name) for name in cost.NAMES] == [3, 3, 2, None]
    assert [cost.seconds_of(run, name) for name in cost.NAMES] == [30.0, 30.0, 24.0, None]
    assert cost.equal_quality(made(acn=[0.7, 0.86, 0.9])) == 0.85
    assert cost.epochs_of(made(acn=[0.7, 0.86, 0.9]), "acn") == 2
    assert cost.ratio([made(), made(depth=6)], "acn_cut", lambda value: value["flops"]) == pytest.approx(
        (0.25 + 0.5) / 2
    )


def test_the_section_by_hand(tmp_path):
    section = cost.section([made(), made(1, acn=[0.5, 0.6, 0.8]), made(family="bert", cut=0.7, depth=9)])
    assert (
        "| vit, ACN, cut | 3 3 | 2 | 0.790 ± 0.000 | 3,000 | 12.00 ± 0.00 | 6.0 ± 0.0 | 3.00 ± 0.00 (0.25) "
        "| 12.00 ± 0.00 (0.25) | 10.00 ± 0.00 (0.25) | 15 ± 0 (0.25) | 3 3 | 30 ± 0 |"
    ) in section.tables[0].splitlines()
    assert section.tables[0].splitlines()[-1].endswith("| 15 (0.25) | never |  |")
    vit, bert = section.verdict.split("; bert:")
    assert vit == (
        "vit: 75% of the ACN's layers are saved: the claim holds here against the whole ACN, not against the residual "
        "network; cut, it has 25% of the parameters, 25% of the operations, 25% of the time and an accuracy of 0.790, "
        "against 0.850 of the whole residual network, and is more accurate than the short residual network from "
        "scratch, which has 25% of the parameters, 25% of the operations, 25% of the time and an accuracy of 0.750; to "
        "equal quality the ACN needs 3 3 epochs, the residual network 2 2"
    )
    assert "75% of the ACN's layers are saved: the claim holds here;" in cost.section([made(cut=0.845)]).verdict
    assert "25% of the ACN's layers are saved: the claim does not hold here" in bert
    assert "and is no more accurate than the short residual network" in bert
    section.save_picture(tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_runs_measure_four_networks(tmp_path, monkeypatch):
    """The only test that measures memory in its process: more layers take more of it."""
    monkeypatch.setattr(cost, "SHORT", 1)
    lab = laboratory(tmp_path, seeds=[3], family=["vit"])
    lab.size = dataclasses.replace(lab.size, num_layers=6, num_train=64, num_test=50, num_epochs=1)
    (run,) = experiment.run(cost.EXPERIMENT, lab)
    acn = lab.trained(lab.network("vit", "acn"), 3)
    accuracies = lab.accuracies(acn.model, acn.task)
    depth = load("lab.laboratory").effective_depth(accuracies)
    values = run.values
    assert {name: values[name]["depth"] for name in cost.NAMES} == {
        "acn": 6, "acn_cut": depth, "residual": 6, "residual_short": 1,
    }  # fmt: skip
    assert values["acn_cut"]["accuracy"] == accuracies[depth]
    expected = measure_cost(truncate(acn.model, depth), repeats=2)
    for name in ("num_parameters", "size_bytes", "flops"):
        assert values["acn_cut"][name] == getattr(expected, name)
    assert values["acn"]["history"] == [epoch["test_accuracy"] for epoch in acn.history]
    for one in values.values():
        assert min(one["step_ms"], *one["latency_ms"].values()) > 0
    # the activations of five layers, of 64 examples of 17 tokens of width 64, at least ten numbers of four bytes each
    more = values["residual"]["training_bytes"] - values["residual_short"]["training_bytes"]
    assert more > 5 * 10 * 64 * 17 * 64 * 4
    assert "| vit, residual | 6 | 1 |" in cost.EXPERIMENT.section([run]).markdown()


def test_a_process_that_fails_is_told(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("on a GPU there is no process")
    failed = types.SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nMemoryError: no room\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(RuntimeError, match="the process that measures memory failed: Traceback\nMemoryError: no room"):
        memory.peak_training_bytes([networks.Network("vit", "acn", 1)], FIELDS, 1)


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be >= 1; got 0"):
        memory.peak_training_bytes([networks.Network("vit", "acn", 1)], FIELDS, 0)
    with pytest.raises(ValueError, match=r"--arch must hold acn and residual, .*; got \['acn'\]"):
        cost.jobs(laboratory(tmp_path, arch=["acn"]))


@pytest.mark.gpu
def test_on_a_gpu_torch_says_what_it_allocated():
    few, many = memory.peak_training_bytes([networks.Network("vit", "acn", layers) for layers in (1, 6)], FIELDS, 64)
    assert many - few > 5 * 10 * 64 * 17 * 64 * 4
