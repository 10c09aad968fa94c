"""Auto-compression: the accuracy at every depth of ACNs, residual networks and two ablations.

What is unusual: no network is cut, retrained or probed; the accuracy at depth k is that of the head on the depth state
`y_k`, from one pass. The ablations are a network without any connections, and an ACN whose layers learn from their own
long connection alone (`direct`). The honest baseline is a residual network of few layers, trained from scratch with as
many examples.

    python examples/paper/auto_compression.py --image_data FASHION_MNIST --text_data REVIEWS --family vit mixer bert
    python examples/paper/auto_compression.py --quick

Cost of one run on one CPU core: 3 minutes.
"""

from itertools import product

from lab.experiment import Experiment, Job, main
from lab.laboratory import SHORT, Laboratory, effective_depth
from lab.networks import ADDED, OURS, RIVALS
from lab.rendering import Section, at_the_end, cell, full_depths, group, legend, mean, series, table

ARCHS = ("acn", "residual", "feedforward", "direct", *ADDED)


def jobs(laboratory: Laboratory) -> list[Job]:
    runs = []
    for seed in laboratory.seeds:
        for family in laboratory.families("vit", "mixer", "bert"):
            for arch, num_layers in laboratory.networks(family, *ARCHS):
                runs.append(job(laboratory, family, arch, num_layers, seed))
    return runs


def job(laboratory: Laboratory, family: str, arch: str, num_layers: int, seed: int) -> Job:
    def measure() -> dict:
        trained = laboratory.trained(laboratory.network(family, arch, num_layers), seed)
        accuracies = laboratory.accuracies(trained.model, trained.task)
        depth = effective_depth(accuracies)
        return {"accuracies": accuracies, "effective_depth": depth, "train_seconds": trained.seconds}

    return Job({"family": family, "arch": arch, "depth": num_layers, "seed": seed}, measure)


def section(results) -> Section:
    full, groups = full_depths(results), group(results, "family", "arch", "depth")
    return Section(
        title="Auto-compression",
        paper="30 to 80% of the layers of ViT, MLP-Mixer and BERT can be left out while accuracy is maintained.",
        here="Accuracy on the test data at every depth; effective depth: the smallest within .005 of full depth.",
        tables=tuple(accuracies(part, full) for part in group(results, "data").values()),
        verdict=verdict(groups, full),
        draw=lambda axes: draw(axes, groups, full),
    )


def accuracies(results, full) -> str:
    """Return the table of the results on one data set."""
    deepest = max(result.settings["depth"] for result in results)
    rows = []
    for (family, arch, depth), runs in group(results, "family", "arch", "depth").items():
        cells = [cell(values) for values in series(runs, "accuracies")]
        name = f"{family}, {arch}" + (f", {depth} layers from scratch" if depth < full[family] else "")
        effective = " ".join(str(run.values["effective_depth"]) for run in runs)
        rows.append([name, str(len(runs)), *cells, *[""] * (deepest - depth), effective])
    return table(["network", "seeds", *map(str, range(deepest + 1)), "effective depth"], rows)


CLAIMED = 0.3
"""Share of the layers that can be left out at least, by the paper."""


def verdict(groups, full) -> str:
    sentences = []
    for family, arch in product(full, OURS):
        deepest = full[family]
        acn, residual = groups.get((family, arch, deepest)), groups.get((family, RIVALS[arch], deepest))
        if not acn or not residual:
            continue
        spared, theirs = share_left_out(acn, deepest), share_left_out(residual, deepest)
        outcome = "held" if spared >= CLAIMED else "did not hold"
        outcome += ", of the residual network as well" if min(spared, theirs) >= CLAIMED else ""
        sentence = (
            f"{family}: the claim {outcome}: {OURS[arch]} can leave out {spared:.0%} of its layers without loss, "
            f"the residual network {theirs:.0%}; the accuracy is {mean(at_the_end(acn)):.3f} against "
            f"{mean(at_the_end(residual)):.3f}"
        )
        short = groups.get((family, RIVALS[arch], SHORT)) if deepest > SHORT else None
        sentences.append(
            sentence + (f", and {mean(at_the_end(short)):.3f} of {SHORT} residual layers from scratch" if short else "")
        )
    return "; ".join(sentences) + "." if sentences else "There is nothing to compare with."


def share_left_out(runs, deepest: int) -> float:
    """Return the share of the layers above the effective depth, the mean over seeds."""
    return 1 - mean([run.values["effective_depth"] for run in runs]) / deepest


def draw(axes, groups, full) -> None:
    for (family, arch, depth), runs in groups.items():
        if family == "vit" and depth == full[family]:
            axes.plot([mean(values) for values in series(runs, "accuracies")], marker=".", label=arch)
    axes.set(xlabel="depth", ylabel="test accuracy", title="ViT")
    legend(axes)


EXPERIMENT = Experiment("auto_compression", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
