"""Training length: ACNs and residual networks that were trained for as many epochs as elsewhere, and for more.

What is unusual: the rate of learning falls to 0 at the end of each training, so every length is a training of its own.
The longer one is there to see whether an ACN only lags behind. The honest baselines are residual networks of few
layers, one of them of as many as the ACN uses after the longer training.

    python examples/paper/training_length.py --image_data FASHION_MNIST
    python examples/paper/training_length.py --quick

Cost of one run on one CPU core: 10 minutes, 3 with 3 layers.
"""

from lab.experiment import Experiment, Job, main
from lab.laboratory import Laboratory, effective_depth
from lab.rendering import Section, at_the_end, cell, clear_difference, full_depths, group, legend, mean, series, table

LONGER, QUICK_LONGER = 4, 2
"""How many times as many epochs the longer training has."""

CHOSEN = 2
"""Layers that the ACN uses after the longer training: a residual network of as many is trained, too."""


def jobs(laboratory: Laboratory) -> list[Job]:
    runs = []
    for seed in laboratory.seeds:
        for family in laboratory.families("vit"):
            for arch, num_layers in networks(laboratory, family):
                for times in (1, QUICK_LONGER if laboratory.arguments.quick else LONGER):
                    runs.append(job(laboratory, family, arch, num_layers, times, seed))
    return runs


def networks(laboratory: Laboratory, family: str) -> list[tuple[str, int]]:
    """Return architecture and depth of each network."""
    found = laboratory.networks(family, "acn", "residual")
    chosen = [("residual", CHOSEN)] if "residual" in dict(found) else []
    return list(dict.fromkeys([*found, *chosen]))


def job(laboratory: Laboratory, family: str, arch: str, num_layers: int, times: int, seed: int) -> Job:
    epochs = times * laboratory.recipe(family).num_epochs
    recipe = laboratory.recipe(family, num_epochs=epochs)

    def measure() -> dict:
        trained = laboratory.trained(laboratory.network(family, arch, num_layers), seed, recipe=recipe)
        accuracies = laboratory.accuracies(trained.model, trained.task)
        return {
            "accuracies": accuracies,
            "effective_depth": effective_depth(accuracies),
            "train_loss": trained.history[-1]["train_loss"],
            "train_seconds": trained.seconds,
        }

    return Job({"family": family, "arch": arch, "depth": num_layers, "epochs": epochs, "seed": seed}, measure)


def section(results) -> Section:
    deepest = max(result.settings["depth"] for result in results)
    full = full_depths(results)
    header = ["network", "epochs", "seeds", *map(str, range(deepest + 1)), "effective depth", "train loss"]
    rows, groups = [], dict(sorted(group(results, "family", "arch", "depth", "epochs").items()))
    for (family, arch, depth, epochs), runs in groups.items():
        cells = [cell(values) for values in series(runs, "accuracies")]
        name = f"{family}, {arch}" + (f", {depth} layers from scratch" if depth < full[family] else "")
        effective = " ".join(str(run.values["effective_depth"]) for run in runs)
        losses = cell([run.values["train_loss"] for run in runs])
        rows.append([name, str(epochs), str(len(runs)), *cells, *[""] * (deepest - depth), effective, losses])
    return Section(
        title="Training length",
        paper="an ACN is trained longer for the same accuracy: AC-ViT for 700 epochs against 300, AC-BERT for twice "
        "the steps.",
        here="Accuracy on the test data at every depth. The rate of learning falls to 0 at the end of each training. "
        "The train loss is the mean over the last epoch.",
        tables=(table(header, rows),),
        verdict=verdict(groups, full),
        draw=lambda axes: draw(axes, groups, full),
    )


def verdict(groups, full) -> str:
    sentences = []
    for family, deepest in full.items():
        acn, residual = (
            {epochs: runs for (*key, epochs), runs in groups.items() if key == [family, arch, deepest]}
            for arch in ("acn", "residual")
        )
        shared = sorted(set(acn) & set(residual))
        if len(shared) > 1:
            parts = [compared(acn, residual, shared[0], shared[-1]), *short_ones(groups, family, deepest, shared[-1])]
            sentences.append(f"{family}: {', '.join(parts)}")
    return "; ".join(sentences) + "." if sentences else "There is nothing to compare with."


def compared(acn, residual, few: int, many: int) -> str:
    """Return what to say of an ACN beside a residual network of as many layers, after few epochs and after many."""
    behind = clear_difference(at_the_end(residual[few]), at_the_end(acn[many])) > 0
    lags = {epochs: mean(at_the_end(residual[epochs])) - mean(at_the_end(acn[epochs])) for epochs in (few, many)}
    used = {epochs: mean([run.values["effective_depth"] for run in acn[epochs]]) for epochs in (few, many)}
    return (
        f"the claim {'did not hold' if behind else 'held'}: the ACN has {mean(at_the_end(acn[many])):.3f} after {many} "
        f"epochs, the residual network {mean(at_the_end(residual[few])):.3f} after {few}; with equally many it is "
        f"{lags[few]:.3f} behind after {few} and {lags[many]:.3f} after {many}, and uses {used[few]:.1f} and "
        f"{used[many]:.1f} layers"
    )


def short_ones(groups, family: str, deepest: int, epochs: int) -> list[str]:
    """Return what to say of each residual network of fewer layers, trained as long."""
    return [
        f"{depth} residual layers from scratch have {mean(at_the_end(runs)):.3f} after {epochs}"
        for (name, arch, depth, trained), runs in groups.items()
        if (name, arch, trained) == (family, "residual", epochs) and depth < deepest
    ]


def draw(axes, groups, full) -> None:
    first = next(iter(full))
    for (family, arch, depth, epochs), runs in groups.items():
        if family == first and depth == full[family]:
            label = f"{family}, {arch}, {epochs} epochs"
            axes.plot([mean(values) for values in series(runs, "accuracies")], marker=".", label=label)
    axes.set(xlabel="depth", ylabel="test accuracy")
    legend(axes)


EXPERIMENT = Experiment("training_length", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
