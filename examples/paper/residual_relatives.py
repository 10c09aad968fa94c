"""Residual relatives at equal epochs: DenseFormer, DenseNet-style and the learned hybrid, and the depth each uses.

What is unusual: all networks have the same layers and the same head; only what a layer reads differs
(`lab/relatives.py`), so each has an accuracy at every depth.

    python examples/paper/residual_relatives.py --image_data FASHION_MNIST
    python examples/paper/residual_relatives.py --quick

Cost of one run on one CPU core: 3 to 5 minutes.
"""

from lab.experiment import Experiment, Job, main
from lab.laboratory import Laboratory, effective_depth
from lab.networks import ADDED, OURS, are_compared
from lab.rendering import Section, cell, group, legend, mean, series, table

from acn_hf import residual_scales


def jobs(laboratory: Laboratory) -> list[Job]:
    return [
        job(laboratory, family, arch, seed)
        for seed in laboratory.seeds
        for family in laboratory.families("vit")
        for arch in laboratory.archs("acn", "residual", "hybrid", "denseformer", "densenet", *ADDED)
    ]


def job(laboratory: Laboratory, family: str, arch: str, seed: int) -> Job:
    def measure() -> dict:
        trained = laboratory.trained(laboratory.network(family, arch), seed)
        accuracies = laboratory.accuracies(trained.model, trained.task)
        values = {
            "accuracies": accuracies,
            "effective_depth": effective_depth(accuracies),
            "train_seconds": trained.seconds,
            "num_parameters": trained.model.num_parameters(),
        }
        if arch == "hybrid":
            values["scales"] = list(residual_scales(trained.model).scales)
        return values

    return Job({"family": family, "arch": arch, "seed": seed}, measure)


def section(results) -> Section:
    groups = group(results, "family", "arch")
    depth = max(len(result.values["accuracies"]) for result in results) - 1
    header = ["network", "seeds", *map(str, range(depth + 1)), "effective depth", "parameters"]
    rows = [
        [
            f"{family}, {arch}",
            str(len(runs)),
            *[cell(values) for values in series(runs, "accuracies")],
            " ".join(str(run.values["effective_depth"]) for run in runs),
            f"{runs[0].values['num_parameters']:,}",
        ]
        for (family, arch), runs in groups.items()
    ]
    tables = [table(header, rows)]
    hybrids = {family: runs for (family, arch), runs in groups.items() if arch == "hybrid"}
    if hybrids:
        rows = [[family, *[cell(values, 2) for values in series(runs, "scales")]] for family, runs in hybrids.items()]
        tables.append(table(["learned scale of layer", *map(str, range(1, depth + 1))], rows))
    return Section(
        title="Residual relatives",
        paper="DenseFormer, DenseNet and a hybrid with learned scales need all or most of their layers; "
        "the ACN reaches their accuracy with fewer.",
        here="Accuracy on the test data at every depth after equally many epochs; the hybrid starts at scale .5.",
        tables=tuple(tables),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def verdict(groups) -> str:
    sentences = []
    for family in dict.fromkeys(family for family, _ in groups):
        depth, accuracy = {}, {}
        for (name, arch), runs in groups.items():
            if name == family:
                depth[arch] = mean([run.values["effective_depth"] for run in runs])
                accuracy[arch] = mean([run.values["accuracies"][-1] for run in runs])
        numbers = ", ".join(f"{arch} {accuracy[arch]:.3f} with {depth[arch]:.1f} layers used" for arch in depth)
        said = [
            claim(arch, depth, accuracy, relatives)
            for arch in OURS
            if arch in depth and (relatives := sorted(other for other in depth if others(arch, other)))
        ]
        sentences.append(f"{family}: " + (f"{', and '.join(said)} ({numbers})" if said else numbers))
    return "; ".join(sentences) + "."


def others(arch: str, other: str) -> bool:
    """Return whether another architecture is one that an ACN is compared with."""
    return other != arch and are_compared(arch, other)


def claim(arch: str, depth: dict[str, float], accuracy: dict[str, float], relatives: list[str]) -> str:
    """Return what to say of an ACN beside its relatives."""
    fewest = depth[arch] < min(depth[relative] for relative in relatives)
    best = max((arch, *relatives), key=accuracy.__getitem__)
    lag = accuracy[best] - accuracy[arch]
    behind = f"is {lag:.3f} behind {best}" if lag else "has the best accuracy"
    held = "held" if fewest and not lag else "held in part" if fewest else "did not hold"
    return f"the claim {held}: {OURS[arch]} {'uses' if fewest else 'does not use'} the fewest layers and {behind}"


def draw(axes, groups) -> None:
    for (family, arch), runs in groups.items():
        axes.plot([mean(values) for values in series(runs, "accuracies")], marker=".", label=f"{family}, {arch}")
    axes.set(xlabel="depth", ylabel="test accuracy")
    legend(axes)


EXPERIMENT = Experiment("residual_relatives", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
