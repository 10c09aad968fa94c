"""Transfer: networks that are trained on one set of images and fine-tuned on another, and the depth they use there.

What is unusual: every network is its own short networks, so the fine-tuned one has an accuracy at every depth. The
rivals of the ACN are the residual network, that with LayerSkip, and those whose losses at all depths grow linearly
(`aligned`); each is fine-tuned with the losses that it was trained with. All weights learn, the classifier is new. The
honest baselines are the same networks from scratch, and residual networks of few layers. If both sets are the same,
the first half of its classes is learned first and the other half is the target.

    python examples/paper/transfer.py --image_data FASHION_MNIST --target_data digits
    python examples/paper/transfer.py --quick

Cost of one run on one CPU core: 14 to 21 seconds beside the training of its network, 3 minutes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from lab.experiment import Experiment, Job, main
from lab.laboratory import SHORT, Arguments, Laboratory, effective_depth
from lab.networks import ADDED, OURS, RIVALS, Network, are_compared
from lab.rendering import Section, cell, group, leads, legend, mean, series, spread, table
from lab.store import MixedResultsError
from lab.tasks import TaskSpec, class_tasks, load_task
from lab.training import Recipe, train

METHODS = {
    "acn": ("acn", None),
    "residual": ("residual", None),
    "layerskip": ("layerskip", "layerskip"),
    "residual-aligned": ("residual", "linear"),
    "acn-aligned": ("acn", "linear"),
}
"""Architecture and supervision of each method; another architecture is a method of its own, without supervision."""
LEARNING_RATE = 1e-3
"""Out of 3e-4, 1e-3 and 2e-3, the best on average for ACN and residual network with few and all images of digits.

Chosen once, on a quarter of the training images that was held aside: .738, against .651 and .714.
"""
AMOUNTS = {
    "10": Recipe(num_epochs=20, learning_rate=LEARNING_RATE, batch_size=16),
    "all": Recipe(num_epochs=8, learning_rate=LEARNING_RATE),
}
"""How the target is learned from so many training images a class; a quick run has a quarter of the epochs."""


@dataclass
class TransferArguments(Arguments):
    """What this script takes."""

    target_data: str = field(default="digits", metadata={"help": "What is learned afterwards; like --image_data."})


def methods(laboratory: Laboratory) -> dict[str, tuple[str, str | None]]:
    """Return the methods whose architectures are asked for."""
    archs = laboratory.archs("acn", "residual", "layerskip", *ADDED)
    chosen = {name: method for name, method in METHODS.items() if method[0] in archs}
    return {**chosen, **{arch: (arch, None) for arch in archs if arch not in chosen}}


def jobs(laboratory: Laboratory) -> list[Job]:
    runs = []
    for seed in laboratory.seeds:
        for family in laboratory.families("vit"):
            if family == "bert":
                raise ValueError("--family must be vit or mixer, since images are transferred; got bert")
            networks = [(name, laboratory.depth(family), *method) for name, method in methods(laboratory).items()]
            shown = [arch for arch in RIVALS.values() if arch in methods(laboratory)]
            networks += [(arch, SHORT, arch, None) for arch in shown]
            for name, num_layers, arch, supervision in networks:
                network = laboratory.network(family, arch, num_layers)
                for start in ("pretrained",) if supervision else ("pretrained", "scratch"):
                    runs += [job(laboratory, name, network, supervision, start, amount, seed) for amount in AMOUNTS]
    return runs


def job(
    laboratory: Laboratory, name: str, network: Network, supervision: str | None, start: str, amount: str, seed: int
) -> Job:
    recipe = replace(AMOUNTS[amount], supervision=supervision)
    if laboratory.arguments.quick:
        recipe = replace(recipe, num_epochs=recipe.num_epochs // 4)

    def measure() -> dict:
        source, target = source_and_target(laboratory, network.family, None if amount == "all" else int(amount))
        task, values = load_task(target), {}
        model = network.build(task.fields, seed)
        if start == "pretrained":
            first = laboratory.recipe(network.family, supervision=supervision)
            trained = laboratory.trained(network, seed, task=source, recipe=first)
            model.base_model.load_state_dict(trained.model.base_model.state_dict())
            values["source_accuracy"] = trained.history[-1]["test_accuracy"]
        begin = time.perf_counter()
        history = train(model, task, recipe, seed, network.callbacks() if start == "scratch" else ())
        seconds = time.perf_counter() - begin
        values["accuracies"] = laboratory.accuracies(model, task)
        values["effective_depth"] = effective_depth(values["accuracies"])
        return {**values, "history": history, "train_seconds": seconds}

    settings = {"family": network.family, "method": name, "depth": network.num_hidden_layers, "start": start}
    return Job({**settings, "images": amount, "target": target_name(laboratory), "seed": seed}, measure)


def halved(laboratory: Laboratory) -> bool:
    """Return whether the first data are also the target, so that each is a half of the classes."""
    return Path(laboratory.arguments.target_data) == Path(laboratory.arguments.image_data)


def target_name(laboratory: Laboratory) -> str:
    """Return what the target is called, without where it lies."""
    return Path(laboratory.arguments.target_data).name + ("-second-half" if halved(laboratory) else "")


def source_and_target(laboratory: Laboratory, family: str, per_class: int | None) -> tuple[TaskSpec, TaskSpec]:
    """Return what is learned first and what is learned afterwards."""
    source = laboratory.task(family)
    target = replace(source, source=laboratory.arguments.target_data)
    if halved(laboratory):
        source, target = class_tasks(source, 2)
    return source, replace(target, per_class=per_class)


def section(results) -> Section:
    targets = {result.settings["target"] for result in results}
    if len(targets) > 1:
        raise MixedResultsError(f"the results of one table must share their target; got {', '.join(sorted(targets))}")
    groups = group(results, "images", "family", "method", "depth", "start")
    return Section(
        title="Transfer",
        paper="an ACN transfers to other data better than a residual network.",
        here=f"Accuracy on the test data at every depth after fine-tuning on {targets.pop()}, all weights, with a new "
        f"classifier; before: the accuracy on {results[0].settings['data']}, of whose classes the first half alone is "
        "learned if the target is the second half. LayerSkip and aligned have losses at all depths in both trainings.",
        tables=tuple(
            target_table(images, {key[1:]: runs for key, runs in groups.items() if key[0] == images})
            for (images,) in group(results, "images")
        ),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def target_table(images: str, groups) -> str:
    """Return the table of one amount of training images."""
    deepest = max(key[2] for key in groups)
    rows = [
        [
            f"{family}, {label(method, depth, start, deepest)}",
            str(len(runs)),
            cell([run.values["source_accuracy"] for run in runs]) if start == "pretrained" else "",
            *[cell(values) for values in series(runs, "accuracies")],
            *[""] * (deepest - depth),
            " ".join(str(used(run)) for run in runs),
        ]
        for (family, method, depth, start), runs in groups.items()
    ]
    header = [f"{images} images a class", "seeds", "before", *map(str, range(deepest + 1)), "effective depth"]
    return table(header, rows)


def label(method: str, depth: int, start: str, deepest: int) -> str:
    """Return what a network is called."""
    return method + (f" of {depth} layers" if depth < deepest else "") + (" from scratch" if start == "scratch" else "")


def at_full_depth(run) -> float:
    """Return the accuracy of the whole network."""
    return run.values["accuracies"][-1]


def used(run) -> int:
    """Return the depth that a network uses."""
    return run.values["effective_depth"]


def verdict(groups) -> str:
    sentences = []
    for (images, family), arch in product(dict.fromkeys(key[:2] for key in groups), OURS):
        deepest = max(key[3] for key in groups if key[:2] == (images, family))
        runs = groups.get((images, family, arch, deepest, "pretrained"))
        if not runs:
            continue
        rivals = {
            label(*key[2:], deepest): leads(runs, others, at_full_depth)
            for key, others in groups.items()
            if key[:2] == (images, family) and others is not runs and are_compared(arch, key[2])
        }
        said = [f"{compared(values)} over {name}" for name, values in rivals.items() if values]
        accuracy, depth = (mean(values) for values in (map(at_full_depth, runs), map(used, runs)))
        held = outcome(rivals.get(RIVALS[arch], []))
        sentences.append(
            f"{family}, {images} images a class: {OURS[arch]} has {accuracy:.3f} and uses {depth:.1f} of its {deepest} "
            f"layers; its lead in points is {', '.join(said)}; against the residual network the claim {held}"
        )
    return "; ".join(sentences) + "." if sentences else "No ACN was transferred."


def compared(values: Sequence[float]) -> str:
    """Return leads over the seeds in points."""
    text = f"{100 * mean(values):+.1f}"
    return text if len(values) == 1 else f"{text} ± {100 * spread(values):.1f}"


def outcome(values: Sequence[float]) -> str:
    """Return whether leads over the seeds say that the claim held."""
    if not values:
        return "was not looked at"
    if abs(mean(values)) <= spread(values):
        return f"is not decided by {len(values)} seeds"
    return "holds" if mean(values) > 0 else "does not hold"


def draw(axes, groups) -> None:
    """Draw the accuracies at every depth for the first amount of images."""
    images, family = next(iter(groups))[:2]
    chosen = {key[2:]: runs for key, runs in groups.items() if key[:2] == (images, family)}
    for (method, depth, start), runs in chosen.items():
        name = label(method, depth, start, max(key[1] for key in chosen))
        line = "-" if start == "pretrained" else ":"
        axes.plot([mean(values) for values in series(runs, "accuracies")], line, marker=".", label=name)
    axes.set(xlabel="depth", ylabel="test accuracy", title=f"{family}, {images} images a class")
    legend(axes)


EXPERIMENT = Experiment("transfer", jobs, section, TransferArguments)

if __name__ == "__main__":
    main(EXPERIMENT)
