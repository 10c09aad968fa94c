"""Noise: the accuracy on noisy images of networks that were trained on clean ones.

What is unusual: every depth is measured on every noise in one pass, so the network that is cut at the depth chosen on
clean images is measured too. The noise is drawn with the seed of the run: networks of one seed see the same images. A
standard deviation is a share of the range of the pixels. The honest baseline is a residual network of few layers.

    python examples/paper/noise.py --image_data FASHION_MNIST
    python examples/paper/noise.py --quick --gaussian .2 --salt_and_pepper .05 .1

Cost of one run on one CPU core: 40 seconds beside the training of its network, 3 minutes.
"""

from dataclasses import dataclass, field
from itertools import product

from lab.experiment import Experiment, Job, main
from lab.laboratory import SHORT, Arguments, Laboratory, effective_depth
from lab.networks import COMPARED, OURS, RIVALS
from lab.noise import add_gaussian_noise, add_salt_and_pepper
from lab.rendering import Section, cell, full_depths, group, leads, legend, mean, spread, table
from lab.store import MixedResultsError
from lab.tasks import Task

from acn_hf import measure_depth_profile

CLEAN = "clean"


@dataclass
class NoiseArguments(Arguments):
    """What this script takes."""

    gaussian: list[float] = field(
        default_factory=lambda: [0.1, 0.2, 0.4], metadata={"help": "Standard deviations, in [0, 1]."}
    )
    salt_and_pepper: list[float] = field(
        default_factory=lambda: [0.01, 0.05, 0.1], metadata={"help": "Shares of the pixels, in [0, 1]."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gaussian", "salt_and_pepper"):
            for strength in getattr(self, name):
                if not 0 <= strength <= 1:
                    raise ValueError(f"--{name} must lie in [0, 1]; got {strength}")


def jobs(laboratory: Laboratory) -> list[Job]:
    runs = []
    for seed in laboratory.seeds:
        for family in laboratory.families("vit", "mixer"):
            if family == "bert":
                raise ValueError("--family must be vit or mixer, since noise is added to images; got bert")
            for arch, num_layers in laboratory.networks(family, *COMPARED):
                runs.append(job(laboratory, family, arch, num_layers, seed))
    return runs


def job(laboratory: Laboratory, family: str, arch: str, num_layers: int, seed: int) -> Job:
    strengths = {name: getattr(laboratory.arguments, name) for name in ("gaussian", "salt_and_pepper")}

    def measure() -> dict:
        trained = laboratory.trained(laboratory.network(family, arch, num_layers), seed)
        accuracies = {CLEAN: laboratory.accuracies(trained.model, trained.task)}
        for strength in strengths["gaussian"]:
            batches = noisy_batches(trained.task, add_gaussian_noise, strength, seed)
            accuracies[f"Gaussian {strength:g}"] = list(measure_depth_profile(trained.model, batches).values)
        for strength in strengths["salt_and_pepper"]:
            batches = noisy_batches(trained.task, add_salt_and_pepper, strength, seed)
            accuracies[f"salt and pepper {strength:g}"] = list(measure_depth_profile(trained.model, batches).values)
        return {"accuracies": accuracies, "effective_depth": effective_depth(accuracies[CLEAN])}

    return Job({"family": family, "arch": arch, "depth": num_layers, **strengths, "seed": seed}, measure)


def noisy_batches(task: Task, add_noise, strength: float, seed: int, batch_size: int = 250) -> list[dict]:
    """Return the test images of a task with noise, in batches."""
    rows = task.test[:]
    pixels = add_noise(rows["pixel_values"], strength, low=-1.0, high=1.0, seed=seed)
    parts = zip(pixels.split(batch_size), rows["labels"].split(batch_size), strict=True)
    return [{"pixel_values": images, "labels": labels} for images, labels in parts]


def accuracy(run, noise: str, cut: bool = False) -> float:
    """Return the accuracy of a run at full depth, or cut at the depth that was chosen on clean images."""
    return run.values["accuracies"][noise][run.values["effective_depth"] if cut else -1]


def loss(run, noise: str, cut: bool = False) -> float:
    """Return the accuracy that noise costs."""
    return accuracy(run, CLEAN, cut) - accuracy(run, noise, cut)


def relative_loss(run, noise: str, cut: bool = False) -> float:
    """Return the part of the clean accuracy that noise costs."""
    return loss(run, noise, cut) / accuracy(run, CLEAN, cut)


def noises_of(results) -> list[str]:
    """Return the noises that all results were measured with.

    Raises:
        MixedResultsError: They were measured with different ones.
    """
    found = {tuple(run.values["accuracies"]) for run in results}
    if len(found) > 1:
        raise MixedResultsError(
            "the results of one table must share their noises; got " + " and ".join(map(str, sorted(found)))
        )
    return [noise for noise in found.pop() if noise != CLEAN]


def section(results) -> Section:
    noises, groups = noises_of(results), group(results, "family", "arch", "depth")
    full = full_depths(results)
    names = {
        key: f"{key[0]}, {key[1]}" + (f", {key[2]} layers from scratch" if key[2] < full[key[0]] else "")
        for key in groups
    }
    return Section(
        title="Noise",
        paper="an ACN is more robust to noise on images than a residual network, by up to 6.4 points.",
        here="Accuracy on the test images at full depth, and of the network cut at the depth that was chosen on clean "
        "images (the smallest within .005 of full depth). Differences are between networks of the same seed.",
        tables=(
            table(["network", "seeds", CLEAN, *noises], accuracy_rows(groups, names, noises)),
            table(["lost to noise", *noises], loss_rows(groups, names, noises)),
            table(["ACN is ahead of", CLEAN, *noises, "order turned round"], lead_rows(groups, full, noises)),
            depth_table(groups, names, noises),
        ),
        verdict=verdict(groups, full, noises),
        draw=lambda axes: draw(axes, groups, names, noises),
    )


def kinds(groups, names):
    """Yield name, runs and whether they are cut, of each network whole and cut."""
    for key, runs in groups.items():
        yield names[key], runs, False
        yield names[key] + ", cut at " + " ".join(str(run.values["effective_depth"]) for run in runs), runs, True


def accuracy_rows(groups, names, noises) -> list[list[str]]:
    return [
        [name, str(len(runs)), *[cell([accuracy(run, noise, cut) for run in runs]) for noise in (CLEAN, *noises)]]
        for name, runs, cut in kinds(groups, names)
    ]


def loss_rows(groups, names, noises) -> list[list[str]]:
    rows = []
    for name, runs, cut in kinds(groups, names):
        shares = [mean([relative_loss(run, noise, cut) for run in runs]) for noise in noises]
        points = [cell([loss(run, noise, cut) for run in runs]) for noise in noises]
        rows.append([name, *[f"{lost} ({share:.0%})" for lost, share in zip(points, shares, strict=True)]])
    return rows


def lead_rows(groups, full, noises) -> list[list[str]]:
    rows = []
    for family, arch, depth, runs, others in rivals(groups, full):
        found = lead_of(runs, others, noises)
        cells = [("+" if mean(values) > 0 else "") + cell(values) for values in found.values()]
        name = f"{family}, {RIVALS[arch]}, {depth} layers"
        rows.append([name, *cells, ", ".join(turned(found)) or "nowhere"])
    return rows


def depth_table(groups, names, noises) -> str:
    """Return the accuracy at every depth, the mean over all noises."""
    deepest = max(key[2] for key in groups)
    rows = []
    for key, runs in groups.items():
        means = [
            [mean([run.values["accuracies"][noise][k] for noise in noises]) for k in range(key[2] + 1)] for run in runs
        ]
        cells = [cell(values) for values in zip(*means, strict=True)]
        rows.append([names[key], *cells, *[""] * (deepest - key[2])])
    return table(["mean over noises at depth", *map(str, range(deepest + 1))], rows)


def rivals(groups, full):
    """Yield family, kind of ACN, depth of the residual network, runs of the ACN, and of the residual network."""
    for (family, deepest), arch in product(full.items(), OURS):
        for depth in (deepest, SHORT):
            runs, others = groups.get((family, arch, deepest)), groups.get((family, RIVALS[arch], depth))
            if runs and others and lead_of(runs, others, [])[CLEAN]:
                yield family, arch, depth, runs, others


def lead_of(runs, others, noises) -> dict[str, list[float]]:
    """Return the leads of runs over others of the same seed, at full depth, on clean images and for every noise."""
    return {noise: leads(runs, others, lambda run, noise=noise: accuracy(run, noise)) for noise in (CLEAN, *noises)}


def turned(found: dict[str, list[float]]) -> list[str]:
    """Return the noises under which another network is the better one than on clean images.

    Args:
        found (`dict[str, list[float]]`): What `lead_of` returns.
    """
    clean = mean(found[CLEAN])
    return [noise for noise, values in found.items() if mean(values) * clean < 0]


def verdict(groups, full, noises) -> str:
    sentences = []
    for family, arch, depth, runs, others in rivals(groups, full):
        found = lead_of(runs, others, noises)
        noisy = {noise: found[noise] for noise in noises}
        ahead = sum(mean(values) > spread(values) for values in noisy.values())
        behind = sum(-mean(values) > spread(values) for values in noisy.values())
        best = max(noisy, key=lambda noise: mean(noisy[noise]))
        shares = [mean([relative_loss(run, noise) for run in side for noise in noises]) for side in (runs, others)]
        held = "holds" if ahead == len(noises) else "does not hold" if ahead == 0 else f"holds in {ahead} of them"
        sentences.append(
            f"{family}, against the residual network of {depth} layers: under {len(noises)} noises {OURS[arch]} is "
            f"ahead in {ahead} and behind in {behind} by more than the spread over seeds (at best "
            f"{100 * mean(noisy[best]):+.1f} points, {best}; on clean images {100 * mean(found[CLEAN]):+.1f}); noise "
            f"costs it {shares[0]:.0%} of its accuracy, the residual network {shares[1]:.0%}; the order on clean "
            f"images turns round in {len(turned(found))}: the claim {held}"
        )
    return "; ".join(sentences) + "." if sentences else "No ACN stands beside a residual network of the same seed."


def draw(axes, groups, names, noises) -> None:
    for key, runs in groups.items():
        found = [[accuracy(run, noise) for run in runs] for noise in (CLEAN, *noises)]
        line = {"yerr": list(map(spread, found)), "fmt": "-" if key[0] == "vit" else ":", "marker": "."}
        axes.errorbar([CLEAN, *noises], list(map(mean, found)), **line, label=names[key])
    axes.set_xticks(range(len(noises) + 1), [CLEAN, *noises], rotation=20, ha="right")
    axes.set(ylabel="test accuracy")
    legend(axes)


EXPERIMENT = Experiment("noise", jobs, section, NoiseArguments)

if __name__ == "__main__":
    main(EXPERIMENT)
