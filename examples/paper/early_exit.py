"""Early exit by entropy: how early examples leave ACNs and residual networks, and what that saves.

What is unusual: one threshold decides, and it is chosen on training examples held aside; the curves over all
thresholds are those of the test data, and nothing is chosen on them. Operations are counted, and times taken, on the
passes in which examples leave, every reading of a head included. Heads: the one of the network (`shared`), the same
after training with the losses at all depths (`supervised`), or one logistic regression for each depth on the frozen
network (`branches`). The honest baseline is a residual network of few layers, trained from scratch.

    python examples/paper/early_exit.py --image_data FASHION_MNIST
    python examples/paper/early_exit.py --quick

Cost of one seed on one CPU core: 2 to 3 minutes, once the networks are trained.
"""

import math

import numpy as np
import torch
from lab.exits import flops_at_exits, flops_of, gather, leave_early, policy_of, stay, with_branches
from lab.experiment import Experiment, Job, main
from lab.held_aside import held_aside
from lab.laboratory import SHORT, Laboratory
from lab.networks import COMPARED, OURS, RIVALS
from lab.rendering import Section, cell, group, legend, mean, series, table
from lab.timing import median_times
from transformers import PreTrainedModel

HEADS = {
    "shared": "the head as trained",
    "supervised": "a head trained at all depths",
    "branches": "a head for each depth",
}
THRESHOLDS = (0.0, *(round(10 ** (power / 10), 6) for power in range(-40, 1)))
"""Of the entropy as a share of the largest: 0, and ten in each power of ten from .0001 to 1."""
SHOWN = (0.001, 0.01, 0.1, 0.316228)
TOLERANCE = 0.005
NUM_HELD_ASIDE = 5000
TIMED = {1: 200, 32: 960}
"""How many test examples are timed, by batch size."""


def jobs(laboratory: Laboratory) -> list[Job]:
    archs = laboratory.archs(*COMPARED)
    kinds = [(arch, heads) for heads in HEADS for arch in archs]
    kinds += [(arch, "short") for arch in archs if arch in RIVALS.values()]
    families = laboratory.families("vit")
    if "bert" in families:
        raise ValueError("--family must name families of images here, whose heads read no mask; got 'bert'")
    return [
        job(laboratory, family, arch, heads, seed)
        for seed in laboratory.seeds
        for family in families
        for arch, heads in kinds
    ]


def job(laboratory: Laboratory, family: str, arch: str, heads: str, seed: int) -> Job:
    def measure() -> dict:
        network = laboratory.network(family, arch)
        recipe = laboratory.recipe(family, supervision="linear" if heads == "supervised" else None)
        trained = laboratory.trained(network, seed, recipe=recipe)
        test = batches(trained.task.test, 250)
        if heads == "short":
            short = laboratory.trained(laboratory.network(family, arch, SHORT), seed).model
            return baseline(
                placed(short), placed(trained.model), trained.task.test, laboratory.accuracies(short, trained.task)
            )
        model = placed(trained.model)
        if heads == "branches":
            model = with_branches(model, batches(trained.task.train, 250))
        aside = batches(held_aside(laboratory, family, NUM_HELD_ASIDE), 250)
        return exits(model, aside, test, trained.task.test)

    return Job({"family": family, "arch": arch, "heads": heads, "seed": seed}, measure)


def placed(model: PreTrainedModel) -> PreTrainedModel:
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def batches(rows, size: int, number: int | None = None) -> list[dict]:
    """Return the rows, or the first so many, in batches where the networks are."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = rows if number is None else rows.select(range(min(number, len(rows))))
    return [{name: value.to(device) for name, value in batch.items()} for batch in chosen.iter(batch_size=size)]


def exits(model: PreTrainedModel, aside, test, rows) -> dict:
    """Return what every threshold does on the test data, and what the chosen one costs.

    Args:
        model (`PreTrainedModel`): The network.
        aside, test (sequence of `dict`): Batches that the threshold is chosen on, and that it is measured on.
        rows (`datasets.Dataset`): The test data as rows, of which the first are timed.
    """
    evidence, num_layers = gather(model, test), model.config.num_hidden_layers
    chosen = gather(model, aside).calibrate(THRESHOLDS, TOLERANCE)
    flops = np.array(flops_at_exits(model, batches(rows, 1, 1)[0]))
    full_flops = flops_of(lambda: stay(model, batches(rows, 1, 1)[0]))
    policy = policy_of(chosen, num_layers)
    depths = np.full(len(evidence.hits), num_layers) if chosen is None else evidence.exit_depths(chosen)
    sweep = [evidence.exit_depths(threshold) for threshold in THRESHOLDS]
    times = {
        str(size): median_times([lambda one: leave_early(model, one, policy), lambda one: stay(model, one)], timed, 3)
        for size, number in TIMED.items()
        for timed in [batches(rows, size, number)]
    }
    return {
        "accuracies": evidence.accuracies,
        "curve_accuracies": [evidence.accuracy(found) for found in sweep],
        "curve_depths": [float(found.mean()) for found in sweep],
        "curve_flops": [float(flops[found].mean()) / full_flops for found in sweep],
        "threshold": chosen,
        "accuracy": evidence.accuracy(depths),
        "mean_depth": float(depths.mean()),
        "exit_counts": np.bincount(depths, minlength=num_layers + 1).tolist(),
        "flops": float(flops[depths].mean()) / full_flops if chosen is not None else 1.0,
        "times_ms": times,
    }


def baseline(short: PreTrainedModel, full: PreTrainedModel, rows, accuracies) -> dict:
    """Return what the short network costs, as shares of the full one."""
    one = batches(rows, 1, 1)[0]
    times = {
        str(size): median_times([lambda one: stay(short, one), lambda one: stay(full, one)], timed, 3)
        for size, number in TIMED.items()
        for timed in [batches(rows, size, number)]
    }
    return {
        "accuracies": accuracies,
        "accuracy": accuracies[-1],
        "mean_depth": float(short.config.num_hidden_layers),
        "flops": flops_of(lambda: stay(short, one)) / flops_of(lambda: stay(full, one)),
        "times_ms": times,
    }


def section(results) -> Section:
    groups = group(results, "family", "arch", "heads")
    header = ["network", "heads", "seeds", "full depth", "threshold", "early exit", "mean depth", "as many layers cut"]
    header += ["operations", *(f"time, batches of {size}" for size in TIMED)]
    rows = [_row(key, runs) for key, runs in groups.items()]
    curves = [
        [f"{family}, {arch}", heads, *(_point(runs, THRESHOLDS.index(threshold)) for threshold in SHOWN)]
        for (family, arch, heads), runs in groups.items()
        if heads in HEADS
    ]
    return Section(
        title="Early exit",
        paper="the first layers of an ACN carry most of what the task needs, so that easy examples can leave early.",
        here=f"The threshold of the entropy is the largest that loses at most {TOLERANCE} on training examples held "
        "aside. Accuracy on the test data at full depth, with early exit, and of the network cut to the mean depth "
        "(rounded up); operations and time as shares of full depth, counted and taken in one run. The second table "
        "has accuracy and mean depth for some thresholds.",
        tables=(
            table(header, rows),
            table(["network", "heads", *(f"threshold {value:.3g}" for value in SHOWN)], curves),
        ),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def _row(key, runs) -> list[str]:
    family, arch, heads = key
    times = [cell([time_ratio(run, size) for run in runs], 2) for size in TIMED]
    shares = [cell([run.values["flops"] for run in runs], 2), *times]
    if heads == "short":
        accuracy = cell([run.values["accuracy"] for run in runs])
        name = f"{family}, {arch}, {SHORT} layers from scratch"
        return [name, "", str(len(runs)), accuracy, "", "", cell(depths_of(runs), 1), "", *shares]
    thresholds = " ".join(
        "none" if run.values["threshold"] is None else f"{run.values['threshold']:.2g}" for run in runs
    )
    return [
        f"{family}, {arch}",
        heads,
        str(len(runs)),
        cell([run.values["accuracies"][-1] for run in runs]),
        thresholds,
        cell([run.values["accuracy"] for run in runs]),
        cell(depths_of(runs), 1),
        cell([cut(run) for run in runs]),
        *shares,
    ]


def depths_of(runs) -> list[float]:
    return [run.values["mean_depth"] for run in runs]


def cut(run) -> float:
    """Return the accuracy of the network that is cut to the mean depth, rounded up."""
    return run.values["accuracies"][math.ceil(run.values["mean_depth"])]


def time_ratio(run, size: int) -> float:
    """Return the time with early exit as a share of the time at full depth."""
    early, full = run.values["times_ms"][str(size)]
    return early / full


def _point(runs, place: int) -> str:
    accuracy, depth = (mean(series(runs, f"curve_{name}")[place]) for name in ("accuracies", "depths"))
    return f"{accuracy:.3f} at {depth:.1f}"


def verdict(groups) -> str:
    sentences = []
    for family in dict.fromkeys(key[0] for key in groups):
        kinds = [arch for arch in OURS if any(key[:2] == (family, arch) for key in groups)]
        sentences += [_verdict(groups, family, kind) for kind in kinds or ["acn"]]
    return "; ".join(sentences) + "."


def _verdict(groups, family: str, kind: str) -> str:
    parts, leaving = [], []
    for heads, said in HEADS.items():
        acn, residual = (groups.get((family, arch, heads)) for arch in (kind, RIVALS[kind]))
        if acn and residual:
            earlier = mean(depths_of(acn)) < mean(depths_of(residual))
            leaving.append(earlier)
            numbers = [
                f"{mean([run.values['accuracy'] for run in runs]):.3f} with {mean(depths_of(runs)):.2f} layers"
                for runs in (acn, residual)
            ]
            leave = "leave" if earlier else "do not leave"
            parts.append(
                f"through {said} examples {leave} {OURS[kind]} earlier ({numbers[0]}) than "
                f"the residual network ({numbers[1]})"
            )
    compared = {(family, kind), (family, RIVALS[kind])}
    early = [runs for key, runs in groups.items() if key[:2] in compared and key[2] in HEADS]
    if parts:
        held = "held" if all(leaving) else "held in part" if any(leaving) else "did not hold"
        parts[0] = f"the claim {held}: {parts[0]}"
        ahead = sum(_gain(runs)[0] > mean([cut(run) for run in runs]) for runs in early)
        parts.append(
            f"{ahead} of {len(early)} early exits are more accurate than the same network cut to as many layers"
        )
    short = groups.get((family, RIVALS[kind], "short"))
    if short:
        accuracy, flops = _gain(short)
        others = [_gain(runs) for runs in early]
        better = [found for found in others if found[0] > accuracy]
        parts.append(
            f"a residual network of {SHORT} layers from scratch has {accuracy:.3f} with {flops:.0%} of the operations "
            f"and no early exit, less than {len(better)} of the {len(others)} early exits, of which "
            f"{sum(found[1] <= flops for found in better)} need no more operations"
        )
    return f"{family}: {'; '.join(parts) or 'there is nothing to compare'}"


def _gain(runs) -> tuple[float, float]:
    """Return accuracy and share of the operations, means over the seeds."""
    return mean([run.values["accuracy"] for run in runs]), mean([run.values["flops"] for run in runs])


def draw(axes, groups) -> None:
    styles = dict(zip(HEADS, ("-", "--", ":"), strict=True))
    colors = {arch: f"C{number}" for number, arch in enumerate(dict.fromkeys(key[1] for key in groups))}
    for (_, arch, heads), runs in groups.items():
        if heads == "short":
            flops, accuracy = (mean([run.values[name] for run in runs]) for name in ("flops", "accuracy"))
            axes.plot(flops, accuracy, "k*", label=f"{SHORT} layers from scratch")
        else:
            points = [[mean(column) for column in series(runs, f"curve_{name}")] for name in ("flops", "accuracies")]
            axes.plot(*points, styles[heads], color=colors[arch], label=f"{arch}, {heads}")
    axes.set(xlabel="operations, share of full depth", ylabel="test accuracy")
    legend(axes)


EXPERIMENT = Experiment("early_exit", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
