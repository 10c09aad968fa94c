"""Continual learning: ACNs and residual networks that learn the classes of a data set task after task.

What is unusual: the tasks are told apart (task-incremental), so each has a head of its own on layers that all share;
Synaptic Intelligence takes part as an optimizer's step that is watched. It is acn_hf.evaluation's, since avalanche-lib
0.6.0 and continuum 1.2.7 import torchvision, which does not import beside the CPU build of torch 2.13.0. The honest
baseline is the residual network of the fewest layers.

    python examples/paper/continual_learning.py --image_data FASHION_MNIST --num_tasks 5
    python examples/paper/continual_learning.py --quick

Cost of one run on one CPU core: 12 seconds with 5 layers, 24 with 10, 34 with 15, and one minute for the data.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from lab.continual import SynapticIntelligence, average_accuracy, average_forgetting
from lab.experiment import Experiment, Job, main
from lab.laboratory import Arguments, Laboratory
from lab.networks import COMPARED, OURS, RIVALS
from lab.rendering import Section, cell, clear_difference, group, legend, mean, table
from lab.tasks import TaskSpec, class_tasks, load_task
from torch import nn
from transformers import PreTrainedModel

from acn_hf import ResidualAnnealingCallback, measure_depth_profile

METHODS = {"naive": None, "SI": 1.0, "SI-100": 100.0}
"""Strength of the penalty of Synaptic Intelligence, if it takes part."""

DEPTHS, QUICK_DEPTHS = (5, 10, 15), (2, 4)
EPOCHS, QUICK_EPOCHS = 2, 5
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
PART = {"num_train": 2000, "num_test": 1000}
"""Examples of each task, at most."""


@dataclass
class ContinualArguments(Arguments):
    """What this script takes besides."""

    num_tasks: int = field(default=5, metadata={"help": "Must divide the number of classes, and leave 2 to each."})
    methods: list[str] = field(
        default_factory=lambda: list(METHODS), metadata={"help": f"Any of {', '.join(METHODS)}. Defaults to all."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"--methods must be any of {', '.join(METHODS)}; got {method!r}")
        if self.num_tasks < 2:
            raise ValueError(f"--num_tasks must be at least 2, for one to be forgotten; got {self.num_tasks}")


def jobs(laboratory: Laboratory) -> list[Job]:
    return [
        job(laboratory, family, method, arch, num_layers, seed)
        for seed in laboratory.seeds
        for family in laboratory.families("mixer")
        for method in laboratory.arguments.methods
        for arch in laboratory.archs(*COMPARED)
        for num_layers in (QUICK_DEPTHS if laboratory.arguments.quick else DEPTHS)
    ]


def job(laboratory: Laboratory, family: str, method: str, arch: str, num_layers: int, seed: int) -> Job:
    number = laboratory.arguments.num_tasks
    tasks = tasks_of(laboratory.task(family), number)

    def measure() -> dict:
        network = laboratory.network(family, arch, num_layers)
        model = network.build(load_task(tasks[0]).fields, seed)
        epochs = QUICK_EPOCHS if laboratory.arguments.quick else EPOCHS
        matrix = learn_in_turn(model, tasks, METHODS[method], epochs, seed, network.annealing())
        return {
            "matrix": matrix,
            "average_accuracy": average_accuracy(matrix),
            "average_forgetting": average_forgetting(matrix),
            "learned": mean([row[-1] for row in matrix]),
        }

    settings = {"family": family, "method": method, "arch": arch, "depth": num_layers, "tasks": number, "seed": seed}
    return Job(settings, measure)


def tasks_of(whole: TaskSpec, number: int) -> list[TaskSpec]:
    """Return the tasks.

    Raises:
        ValueError: The classes cannot be divided into so many tasks of at least 2.
    """
    tasks = class_tasks(whole, number)
    if len(tasks[0].classes) < 2:
        raise ValueError(f"--num_tasks must leave at least 2 classes to each task; got {number} for {number} classes")
    parts = {
        name: most if getattr(whole, name) is None else min(most, getattr(whole, name)) for name, most in PART.items()
    }
    return [replace(task, **parts) for task in tasks]


def learn_in_turn(
    model: PreTrainedModel,
    tasks: Sequence[TaskSpec],
    strength: float | None,
    epochs: int,
    seed: int,
    annealing: ResidualAnnealingCallback | None = None,
) -> list[list[float]]:
    """Learn tasks one after another, and return the accuracies on those that were learned, after each.

    Every task begins with a head of the same first weights and with a fresh optimizer.

    Args:
        model (`PreTrainedModel`): Its classifier takes turns.
        tasks (sequence of `TaskSpec`): In this order.
        strength (`float`, *optional*): Of Synaptic Intelligence, if it takes part.
        epochs (`int`): Passes over each task.
        seed (`int`): Of the order of the examples.
        annealing (`ResidualAnnealingCallback`, *optional*): Says the residual scale while the first task is learned.
    """
    heads = [copy.deepcopy(model.classifier) for _ in tasks]
    intelligence = None
    if strength is not None:
        intelligence = SynapticIntelligence(model.base_model.named_parameters(), strength=strength)
    order, matrix = torch.Generator().manual_seed(seed), []
    for number, task in enumerate(tasks):
        model.classifier = heads[number]
        learn(model, rows(task, "train"), epochs, order, intelligence, annealing if number == 0 else None)
        matrix.append([accuracy(model, head, task) for head, task in zip(heads[: number + 1], tasks, strict=False)])
    return matrix


def learn(
    model: PreTrainedModel,
    data: dict[str, torch.Tensor],
    epochs: int,
    order: torch.Generator,
    intelligence: SynapticIntelligence | None,
    annealing: ResidualAnnealingCallback | None = None,
) -> None:
    """Learn one task."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    step, steps = 0, epochs * math.ceil(len(data["labels"]) / BATCH_SIZE)
    for _ in range(epochs):
        for batch in torch.randperm(len(data["labels"]), generator=order).split(BATCH_SIZE):
            step += 1
            if annealing is not None:
                scale = annealing.scale_at(step, steps, model.config.num_hidden_layers)
                model.config.residual_scale = model.base_model.config.residual_scale = scale
            optimizer.zero_grad()
            model(**{name: column[batch] for name, column in data.items()}).loss.backward()
            if intelligence is None:
                optimizer.step()
            else:
                with intelligence.step():
                    optimizer.step()
    if intelligence is not None:
        intelligence.end_task()


def accuracy(model: PreTrainedModel, head: nn.Module, task: TaskSpec) -> float:
    """Return the accuracy on the test data of a task, with its head."""
    model.classifier = head
    data = rows(task, "test")
    batches = [
        {name: column[first : first + 250] for name, column in data.items()}
        for first in range(0, len(data["labels"]), 250)
    ]
    return measure_depth_profile(model, batches, depths=()).values[-1]


@cache
def rows(task: TaskSpec, split: str) -> dict[str, torch.Tensor]:
    """Return the pixels and labels of a task, read once for all runs."""
    return dict(getattr(load_task(task), split)[:])


def section(results) -> Section:
    groups = by_network(results)
    header = ["network", "method", "layers", "tasks", "seeds", "average accuracy", "average forgetting"]
    header += ["accuracy just after learning", "at the end, task by task"]
    rows = [
        [
            f"{family}, {arch}",
            method,
            str(depth),
            str(tasks),
            str(len(runs)),
            *[cell(values_of(runs, name)) for name in ("average_accuracy", "average_forgetting", "learned")],
            " ".join(f"{mean(values):.3f}" for values in zip(*(run.values["matrix"][-1] for run in runs), strict=True)),
        ]
        for (family, tasks, method, arch, depth), runs in groups.items()
    ]
    return Section(
        title="Continual learning",
        paper="an ACN forgets up to 18% less than a residual network when tasks are learned one after another.",
        here="The classes in their order, in tasks that are told apart. Forgetting: the best accuracy that a task had "
        "before the last was learned minus that at the end, the mean of all tasks but the last." + strengths(results),
        tables=(table(header, rows),),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def strengths(results) -> str:
    """Return what the methods with Synaptic Intelligence stand for."""
    used = {method: METHODS[method] for (method,) in group(results, "method") if METHODS[method] is not None}
    named = ", ".join(f"{method} of strength {strength:g}" for method, strength in sorted(used.items()))
    return f" Synaptic Intelligence: {named}." if used else ""


def by_network(results) -> dict[tuple, list]:
    """Return results by family, number of tasks, method, architecture and depth, in order."""
    groups = group(results, "family", "tasks", "method", "arch", "depth")
    order = list(METHODS)
    return dict(sorted(groups.items(), key=lambda item: (*item[0][:2], order.index(item[0][2]), *item[0][3:])))


def values_of(runs, name: str) -> list[float]:
    """Return a value of each seed."""
    return [run.values[name] for run in runs]


def verdict(groups) -> str:
    sentences = []
    for family, tasks, method in dict.fromkeys(key[:3] for key in groups):
        by_depth = {
            arch: {key[4]: runs for key, runs in groups.items() if key[:4] == (family, tasks, method, arch)}
            for arch in (*OURS, *RIVALS.values())
        }
        for arch, name in OURS.items():
            ours, theirs = by_depth[arch], by_depth[RIVALS[arch]]
            pairs = {depth: (ours[depth], theirs[depth]) for depth in sorted(ours.keys() & theirs.keys())}
            if pairs:
                sentences.append(f"{family}, {tasks} tasks, {method}: {compared(name, pairs)}")
        if method != "naive":
            sentences += remembered(groups, family, tasks, method)
    if not sentences:
        return "There is nothing to compare with."
    return ". ".join(sentences) + ". Clearly: by more than the spread over seeds."


def compared(name: str, pairs) -> str:
    """Return what to say of ACNs and residual networks of the same depths."""
    less, more = clear(pairs, "average_forgetting")
    worse, better = clear(pairs, "average_accuracy")
    outcome = {0: "did not hold", len(pairs): "held"}.get(less, "held in part")
    forgotten = {depth: [mean(values_of(runs, "average_forgetting")) for runs in pair] for depth, pair in pairs.items()}
    numbers = "; ".join(f"{ours:.3f} against {theirs:.3f} with {n} layers" for n, (ours, theirs) in forgotten.items())
    ours = {depth: mean(values_of(acn, "average_accuracy")) for depth, (acn, _) in pairs.items()}
    best, short = max(ours, key=ours.__getitem__), min(pairs)
    return (
        f"the claim {outcome}, {name} forgets clearly less at {less} of {len(pairs)} depths and clearly more at "
        f"{more} ({numbers}); its average accuracy is clearly higher at {better} and clearly lower at {worse}; its "
        f"best is {ours[best]:.3f} with {best} layers, that of the residual network of {short} layers "
        f"{mean(values_of(pairs[short][1], 'average_accuracy')):.3f}"
    )


def remembered(groups, family: str, tasks: int, method: str) -> list[str]:
    """Return a sentence on what a method remembers more than the naive one, if both were run."""
    both = {
        (arch, depth): (runs, groups[family, tasks, "naive", arch, depth])
        for (*key, arch, depth), runs in groups.items()
        if key == [family, tasks, method] and (family, tasks, "naive", arch, depth) in groups
    }
    less, more = clear(both, "average_forgetting")
    found = f"in {less} of {len(both)} networks clearly less is forgotten with {method} than without"
    return [f"{family}, {tasks} tasks: {found}, in {more} clearly more"] if both else []


def clear(pairs, name: str) -> tuple[int, int]:
    """Return in how many pairs a value of the first is clearly lower, and clearly higher."""
    differences = [clear_difference(*(values_of(runs, name) for runs in pair)) for pair in pairs.values()]
    return sum(difference < 0 for difference in differences), sum(difference > 0 for difference in differences)


def draw(axes, groups) -> None:
    lines: dict[tuple, dict[int, float]] = {}
    for (family, tasks, method, arch, depth), runs in groups.items():
        line = lines.setdefault((family, tasks, method, arch), {})
        line[depth] = mean(values_of(runs, "average_forgetting"))
    for (family, _, method, arch), line in lines.items():
        axes.plot(list(line), list(line.values()), marker="o", label=f"{family}, {arch}, {method}")
    axes.set(xlabel="layers", ylabel="average forgetting", xticks=sorted({depth for *_, depth in groups}))
    legend(axes)


EXPERIMENT = Experiment("continual_learning", jobs, section, ContinualArguments)

if __name__ == "__main__":
    main(EXPERIMENT)
