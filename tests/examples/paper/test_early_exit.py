"""Early exit: heads for each depth against their definition, thresholds by hand, its runs on a few real digits."""

import dataclasses

import numpy as np
import pytest
import torch

from acn_hf import EntropyExit, depth_logits, predict_early_exit
from tests.support.paper_lab import check_verdict_on_both, laboratory, load, result

early_exit, exits, experiment, networks = (
    load(n) for n in ("early_exit", "lab.exits", "lab.experiment", "lab.networks")
)
timing = load("lab.timing")
FIELDS = {"num_channels": 1, "image_size": 8, "patch_size": 4}


def built(family="vit", num_labels=3, num_layers=3):
    network = networks.Network(family, "acn", num_layers, hidden_size=8)
    return network.build({**FIELDS, "num_labels": num_labels}, seed=0).eval()


def batches(num_labels=3, number=3, size=20):
    return [
        {"pixel_values": torch.randn(size, 1, 8, 8), "labels": torch.arange(size) % num_labels} for _ in range(number)
    ]


EVIDENCE = exits.Evidence(
    entropies=np.array([[0.0, 0.3, 0.1, 0.9], [0.0, 0.8, 0.7, 0.6], [0.0, 0.2, 0.9, 0.1]]),
    hits=np.array([[True, False, True, True], [True, False, False, True], [True, True, False, False]]),
)


@pytest.mark.parametrize(
    ("threshold", "depths", "accuracy"),
    [
        (0.05, [3, 3, 3], 2 / 3),  # nobody leaves at depth 0, whatever its entropy
        (0.1, [2, 3, 3], 2 / 3),
        (0.2, [2, 3, 1], 1.0),
        (0.3, [1, 3, 1], 2 / 3),
        (0.7, [1, 2, 1], 1 / 3),
        (1.0, [1, 1, 1], 1 / 3),
    ],
)
def test_exits_by_hand(threshold, depths, accuracy):
    assert EVIDENCE.exit_depths(threshold).tolist() == depths
    assert EVIDENCE.accuracy(np.array(depths)) == pytest.approx(accuracy)


def test_the_threshold_is_the_largest_that_loses_little():
    thresholds = (0.05, 0.1, 0.2, 0.3, 0.7, 1.0)
    assert EVIDENCE.accuracies == pytest.approx([1, 1 / 3, 1 / 3, 2 / 3])
    assert EVIDENCE.calibrate(thresholds, 0.005) == 0.3
    assert EVIDENCE.calibrate(thresholds, 0.4) == 1.0
    assert EVIDENCE.calibrate((0.7, 1.0), 0.005) is None
    assert exits.policy_of(None, 3) == EntropyExit(0.0, min_depth=3)
    assert exits.policy_of(0.3, 3) == EntropyExit(0.3, min_depth=1)


@pytest.mark.parametrize("num_labels", [2, 3])
@pytest.mark.parametrize("family", ["vit", "mixer"])
def test_branches_are_logistic_regressions_on_what_the_head_reads(family, num_labels):
    """No linear head separates the examples better than ours: the gradient of its loss is that of the penalty."""
    model, data = built(family, num_labels), batches(num_labels)
    branched = exits.with_branches(model, data)
    features = exits._at_every_depth(exits.replace_submodule(model, "classifier", torch.nn.Identity()), data)
    labels = torch.cat([batch["labels"] for batch in data])
    for depth in range(4):
        mean, std = features[depth].mean(0), features[depth].std(0, correction=0)
        scaled = (features[depth] - mean) / std
        weight = (branched.classifier.weight[depth] * std).detach().requires_grad_()
        bias = branched.classifier.bias[depth] + branched.classifier.weight[depth] @ mean
        loss = torch.nn.functional.cross_entropy(scaled @ weight.T + bias, labels, reduction="sum")
        # scikit-learn's penalty is w^2 / 2, of w = w1 - w0 for two classes, half of which each of our rows holds
        (loss + weight.square().sum() / (2 if num_labels > 2 else 1)).backward()
        torch.testing.assert_close(weight.grad, torch.zeros_like(weight), atol=0.02, rtol=0)
    assert isinstance(model.classifier, torch.nn.Linear)


@pytest.mark.parametrize("branched", [False, True])
@pytest.mark.parametrize("family", ["vit", "mixer"])
def test_the_examples_leave_where_the_evidence_says(family, branched):
    model, data = built(family), batches()
    if branched:
        model = exits.with_branches(model, data)
    evidence = exits.gather(model, data)
    at_every_depth = exits._at_every_depth(model, data)
    if not branched:
        torch.testing.assert_close(at_every_depth[:, :20], depth_logits(model, pixel_values=data[0]["pixel_values"]))
    threshold = float(np.median(evidence.entropies[:, 1:]))
    flops, depths = exits.flops_at_exits(model, data[0]), evidence.exit_depths(threshold)
    assert len(set(depths.tolist())) > 1
    for number, batch in enumerate(data):
        rows = slice(20 * number, 20 * number + 20)
        policy = EntropyExit(threshold, min_depth=1)
        logits, found = exits.leave_early(model, batch, policy)
        assert found.tolist() == depths[rows].tolist()
        torch.testing.assert_close(logits, at_every_depth[found, torch.arange(60)[rows]])
        counted = exits.flops_of(lambda batch=batch, policy=policy: exits.leave_early(model, batch, policy))
        assert counted == pytest.approx(sum(flops[depth] for depth in found))
        torch.testing.assert_close(exits.stay(model, batch), at_every_depth[3, rows])
        if not branched:
            assert torch.equal(found, predict_early_exit(model, batch, policy).exit_depths)


def test_what_cannot_branch_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"every class must occur among the examples .* got none of \[2\]"):
        exits.with_branches(built(), batches(num_labels=2))
    with pytest.raises(ValueError, match=r"--family must name families of images here.*; got 'bert'"):
        early_exit.jobs(laboratory(tmp_path, family=["vit", "bert"], text_data="reviews"))


def test_times_are_medians_in_turns(monkeypatch):
    """Of the three times of a batch the median counts: 2 and 3 for one function, twice as much for the other."""
    clock, calls = {"now": 0.0}, []
    durations = {"first": iter([9, 1, 2, 5, 3, 1, 8]), "second": iter([9, 2, 4, 10, 6, 2, 16])}

    def run(name, batch):
        calls.append((name, batch))
        clock["now"] += next(durations[name]) / 1000

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock["now"])
    runs = [lambda batch, name=name: run(name, batch) for name in durations]
    assert timing.median_times(runs, ["a", "b"], 3) == pytest.approx([2 + 3, 4 + 6])
    assert len(calls) == 2 + 2 * 2 * 3
    for given in ([], 3), (["a"], 0):
        with pytest.raises(ValueError, match="there must be a batch and repeats >= 1; got"):
            timing.median_times(runs, *given)


def test_the_runs_measure_all_heads(tmp_path, monkeypatch):
    for name, value in {
        "SHORT": 1,
        "NUM_HELD_ASIDE": 60,
        "TIMED": {1: 2, 32: 40},
        "THRESHOLDS": (0.0, 0.5, 1.0),
    }.items():
        monkeypatch.setattr(early_exit, name, value)
    monkeypatch.setattr(early_exit, "SHOWN", (0.5,))
    lab = laboratory(tmp_path, seeds=[3])
    lab.size = dataclasses.replace(lab.size, num_layers=2, num_train=120, num_test=50, num_epochs=1)
    results = experiment.run(early_exit.EXPERIMENT, lab)
    found = {(run.settings["arch"], run.settings["heads"]): run.values for run in results}
    assert list(found) == [
        *(
            (arch, heads)
            for heads in ("shared", "supervised", "branches")
            for arch in ("acn", "residual", "acn-annealed", "residual-scaled")
        ),
        ("residual", "short"),
        ("residual-scaled", "short"),
    ]
    trained = lab.trained(lab.network("vit", "acn"), 3, recipe=lab.recipe("vit", supervision="linear"))
    values = found["acn", "supervised"]
    assert values["accuracies"] == pytest.approx(lab.accuracies(trained.model, trained.task))
    assert values["curve_depths"][-1] == 1.0
    assert values["curve_accuracies"][-1] == pytest.approx(values["accuracies"][1])
    assert sum(values["exit_counts"]) == 50
    assert sum(depth * count for depth, count in enumerate(values["exit_counts"])) / 50 == values["mean_depth"]
    assert found["acn", "shared"]["accuracies"] != values["accuracies"]
    for one in found.values():
        assert all(early > 0 and full > 0 for early, full in one["times_ms"].values())
    assert 0.4 < found["residual", "short"]["flops"] < 0.7
    assert "## Early exit" in early_exit.EXPERIMENT.section(results).markdown()


def made(arch, heads, *, depth=2.0, accuracy=0.78, flops=0.5, threshold=0.1, seed=0):
    number = len(early_exit.THRESHOLDS)
    values = {
        "accuracies": [0.1, 0.7, 0.75, 0.8],
        "curve_accuracies": [0.8] * (number - 1) + [0.7],
        "curve_depths": [3.0] * (number - 1) + [1.0],
        "curve_flops": [1.0] * (number - 1) + [0.25],
        "threshold": threshold,
        "accuracy": accuracy,
        "mean_depth": depth,
        "exit_counts": [0, 0, 1, 0],
        "flops": flops,
        "times_ms": {"1": [30.0, 40.0], "32": [10.0, 40.0]},
    }
    return result({"family": "vit", "arch": arch, "heads": heads, "seed": seed}, values)


def test_the_section_by_hand(tmp_path):
    runs = [
        made("acn", "shared", depth=1.2),
        made("acn", "shared", depth=1.6, accuracy=0.8, flops=0.7, threshold=None, seed=1),
        made("residual", "shared", depth=3.0, accuracy=0.85, flops=1.0),
        made("acn", "branches", depth=2.5),
        made("residual", "branches", depth=2.0, accuracy=0.7, flops=0.4),
        made("residual", "short", depth=1.0, accuracy=0.75, flops=0.55),
    ]
    section = early_exit.section(runs)
    assert (
        "| vit, acn | shared | 2 | 0.800 ± 0.000 | 0.1 none | 0.790 ± 0.014 | 1.4 ± 0.3 | 0.750 ± 0.000 | 0.60 ± 0.14 "
        "| 0.75 ± 0.00 | 0.25 ± 0.00 |"
    ) in section.tables[0].splitlines()
    assert "| vit, residual, 3 layers from scratch |  | 1 | 0.750 |  |  | 1.0 |  | 0.55 | 0.75 | 0.25 |" in (
        section.tables[0].splitlines()
    )
    assert "| vit, acn | branches | " + " | ".join(["0.800 at 3.0"] * 4) + " |" in section.tables[1].splitlines()
    assert section.verdict == (
        "vit: the claim held in part: through the head as trained examples leave the ACN earlier (0.790 with 1.40 "
        "layers) than the residual network (0.850 with 3.00 layers); through a head for each depth examples do not "
        "leave the ACN earlier (0.780 with 2.50 layers) than the residual network (0.700 with 2.00 layers); 2 of 4 "
        "early exits are more accurate than the same network cut to as many layers; a residual network of 3 layers "
        "from scratch has 0.750 with 55% of the operations and no early exit, less than 3 of the 4 early exits, of "
        "which 1 need no more operations."
    )
    section.save_picture(tmp_path / "early_exit.png")
    assert (tmp_path / "early_exit.png").stat().st_size > 1000
    assert early_exit.section(runs[:1]).verdict == "vit: there is nothing to compare."


def test_the_annealed_acn_has_a_sentence_of_its_own():
    check_verdict_on_both(early_exit.section, [made("acn", "shared", depth=1.2), made("residual", "shared", depth=3.0)])
