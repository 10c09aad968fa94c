"""Task difficulty: the depth that ACNs and residual networks use for 2, 5 and 10 classes of the same data.

What is unusual: the classes are the first of the data set, so that the smaller tasks are parts of the larger ones.

    python examples/paper/task_difficulty.py --image_data FASHION_MNIST
    python examples/paper/task_difficulty.py --quick

Cost of one run on one CPU core: 2 to 3 minutes.
"""

from lab.experiment import Experiment, Job, main
from lab.laboratory import Laboratory, effective_depth
from lab.rendering import Section, cell, group, legend, mean, series, table
from lab.tasks import load_task

NUM_CLASSES = (2, 5, 10)


def jobs(laboratory: Laboratory) -> list[Job]:
    return [
        job(laboratory, family, arch, num_classes, seed)
        for seed in laboratory.seeds
        for family in laboratory.families("vit")
        for arch in laboratory.archs("acn", "residual")
        for num_classes in NUM_CLASSES
    ]


def job(laboratory: Laboratory, family: str, arch: str, num_classes: int, seed: int) -> Job:
    def measure() -> dict:
        whole = laboratory.task(family)
        all_classes = load_task(whole).num_labels
        part = whole if num_classes == all_classes else laboratory.task(family, classes=tuple(range(num_classes)))
        trained = laboratory.trained(laboratory.network(family, arch), seed, task=part)
        accuracies = laboratory.accuracies(trained.model, trained.task)
        return {"accuracies": accuracies, "effective_depth": effective_depth(accuracies)}

    return Job({"family": family, "arch": arch, "classes": num_classes, "seed": seed}, measure)


def section(results) -> Section:
    groups = dict(sorted(group(results, "family", "arch", "classes").items()))
    depth = max(len(result.values["accuracies"]) for result in results) - 1
    header = ["network", "classes", "seeds", *map(str, range(depth + 1)), "effective depth"]
    rows = [
        [
            f"{family}, {arch}",
            str(num_classes),
            str(len(runs)),
            *[cell(values) for values in series(runs, "accuracies")],
            " ".join(str(run.values["effective_depth"]) for run in runs),
        ]
        for (family, arch, num_classes), runs in groups.items()
    ]
    return Section(
        title="Task difficulty",
        paper="an ACN uses more layers for a harder task (more classes of CIFAR-10), a residual network always all.",
        here="Accuracy on the test data at every depth, for the first 2, 5 and 10 classes.",
        tables=(table(header, rows),),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def depths(groups, family: str, arch: str) -> dict[int, float]:
    """Return the mean effective depth for each number of classes."""
    return {
        key[2]: mean([run.values["effective_depth"] for run in runs])
        for key, runs in sorted(groups.items())
        if key[:2] == (family, arch)
    }


def verdict(groups) -> str:
    sentences = []
    for (family,) in dict.fromkeys(key[:1] for key in groups):
        found = {arch: depths(groups, family, arch) for name, arch, _ in groups if name == family}
        rising = {
            arch: list(used.values()) == sorted(used.values()) and len(set(used.values())) > 1
            for arch, used in found.items()
        }
        parts = [
            f"with {arch} the depth used {'rises' if rising[arch] else 'does not rise'} "
            f"({', '.join(f'{depth:.1f} layers for {classes} classes' for classes, depth in used.items())})"
            for arch, used in found.items()
        ]
        sentences.append(f"{family}: {outcome(rising)}{', '.join(parts)}")
    return "; ".join(sentences) + "."


def outcome(rising: dict[str, bool]) -> str:
    """Return what became of the claim, as the beginning of a sentence; nothing if there is no ACN."""
    if "acn" not in rising:
        return ""
    if not rising["acn"]:
        return "the claim did not hold: "
    return (
        "the claim held in part, the residual network does so too: " if rising.get("residual") else "the claim held: "
    )


def draw(axes, groups) -> None:
    for family, arch in dict.fromkeys(key[:2] for key in groups):
        found = depths(groups, family, arch)
        axes.plot(list(map(str, found)), list(found.values()), marker="o", label=f"{family}, {arch}")
    axes.set(xlabel="classes", ylabel="effective depth", ylim=(0, None))
    legend(axes)


EXPERIMENT = Experiment("task_difficulty", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
