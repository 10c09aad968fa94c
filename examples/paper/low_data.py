"""Low data: ACNs and residual networks on few images of each class, for many epochs.

What is unusual: the images are drawn once, with seed 0, so that all networks of all seeds learn the same ones, and
train and test loss are kept for every epoch. The honest baseline is a residual network of few layers.

    python examples/paper/low_data.py --image_data FASHION_MNIST
    python examples/paper/low_data.py --quick

Cost of one run on one CPU core: 3 minutes, 1 with 3 layers.
"""

from itertools import product

from lab.experiment import Experiment, Job, main
from lab.laboratory import Laboratory, effective_depth
from lab.networks import COMPARED, OURS, RIVALS
from lab.rendering import Section, at_the_end, cell, clear_difference, full_depths, group, legend, mean, series, table
from lab.tasks import load_task

PER_CLASS, QUICK_PER_CLASS = 100, 10
"""Images of each class."""

EPOCHS, QUICK_EPOCHS = 60, 20
"""Passes over them, until the train loss is near 0."""

BATCH_SIZE = 16
"""With batches of 64 few images make few steps, and no network learns them in as many passes."""

EPOCH_TEST = 500
"""Test images that are read after every epoch; the networks are compared on all."""


def jobs(laboratory: Laboratory) -> list[Job]:
    runs = []
    for seed in laboratory.seeds:
        for family in laboratory.families("vit"):
            for arch, num_layers in laboratory.networks(family, *COMPARED):
                runs.append(job(laboratory, family, arch, num_layers, seed))
    return runs


def job(laboratory: Laboratory, family: str, arch: str, num_layers: int, seed: int) -> Job:
    quick, whole = laboratory.arguments.quick, laboratory.task(family)
    per_class, epochs = (QUICK_PER_CLASS, QUICK_EPOCHS) if quick else (PER_CLASS, EPOCHS)
    recipe = laboratory.recipe(family, num_epochs=epochs, batch_size=BATCH_SIZE)
    few = laboratory.task(family, per_class=per_class, num_test=min(EPOCH_TEST, whole.num_test or EPOCH_TEST))

    def measure() -> dict:
        trained = laboratory.trained(laboratory.network(family, arch, num_layers), seed, task=few, recipe=recipe)
        accuracies, last = laboratory.accuracies(trained.model, load_task(whole)), trained.history[-1]
        return {
            **{name: [epoch[name] for epoch in trained.history] for name in HISTORY},
            "accuracies": accuracies,
            "effective_depth": effective_depth(accuracies),
            "best_accuracy": max(epoch["test_accuracy"] for epoch in trained.history),
            "loss_gap": last["test_loss"] - last["train_loss"],
            "train_seconds": trained.seconds,
        }

    settings = {"family": family, "arch": arch, "depth": num_layers, "per_class": per_class}
    return Job({**settings, "epochs": epochs, "batch": BATCH_SIZE, "seed": seed}, measure)


HISTORY = ("train_loss", "test_loss", "test_accuracy")
"""What is kept of every epoch."""


def section(results) -> Section:
    groups = group(results, "family", "arch", "depth")
    full = full_depths(results)
    names = {
        (family, arch, depth): f"{family}, {arch}" + (f", {depth} layers" if depth < full[family] else "")
        for family, arch, depth in groups
    }
    header = ["network", "seeds", "accuracy at the end", "after the best epoch"]
    header += ["train loss", "test loss", "lowest test loss", "test less train loss", "layers", "effective depth"]
    rows = [
        [
            names[key],
            str(len(runs)),
            cell(at_the_end(runs)),
            cell([run.values["best_accuracy"] for run in runs]),
            cell([run.values["train_loss"][-1] for run in runs]),
            cell([run.values["test_loss"][-1] for run in runs]),
            cell([min(run.values["test_loss"]) for run in runs]),
            cell([run.values["loss_gap"] for run in runs]),
            str(key[2]),
            " ".join(str(run.values["effective_depth"]) for run in runs),
        ]
        for key, runs in groups.items()
    ]
    per_class, epochs, batch = (
        " or ".join(map(str, sorted({run.settings[name] for run in results})))
        for name in ("per_class", "epochs", "batch")
    )
    return Section(
        title="Low data",
        paper="an ACN learns more from few data than a residual network.",
        here=f"{per_class} images of each class, {epochs} epochs in batches of {batch}. Accuracy and effective depth "
        "at the end are of all test images; what is measured after every epoch, of 500 at most. The best epoch "
        "is chosen on the test images, so its accuracy is more than one can count on. The train loss is the mean "
        "over the last epoch.",
        tables=(table(header, rows),),
        verdict=verdict(groups, full),
        draw=lambda axes: draw(axes, groups, names),
    )


def verdict(groups, full) -> str:
    sentences = []
    for family, arch in product(full, OURS):
        deepest = full[family]
        acn = groups.get((family, arch, deepest))
        rival = (family, RIVALS[arch])
        rivals = {depth: runs for (*network, depth), runs in groups.items() if tuple(network) == rival}
        if acn and deepest in rivals:
            sentences.append(f"{family}: {compared(OURS[arch], acn, dict(sorted(rivals.items(), reverse=True)))}")
    if not sentences:
        return "There is nothing to compare with."
    return ". ".join(sentences) + ". Clearly: by more than the spread over seeds."


def compared(name: str, acn, rivals) -> str:
    """Return what to say of an ACN beside residual networks, the first of which has as many layers."""
    ahead = [clear_difference(at_the_end(acn), at_the_end(runs)) for runs in rivals.values()]
    outcome = "held" if ahead[0] > 0 else "did not hold"
    if ahead[0] > 0 and min(ahead) <= 0:
        outcome += " against as many layers, but not against fewer"
    others = [
        f"the residual network of {depth} layers {mean(at_the_end(runs)):.3f} "
        f"({'clearly less' if difference > 0 else 'clearly more' if difference < 0 else 'no clear difference'})"
        for (depth, runs), difference in zip(rivals.items(), ahead, strict=True)
    ]
    losses = {
        name: [mean([run.values[name][-1] for run in runs]) for runs in (acn, next(iter(rivals.values())))]
        for name in ("train_loss", "test_loss")
    }
    said = ", ".join(
        f"{name.replace('_', ' ')} {ours:.2f} against {theirs:.2f}" for name, (ours, theirs) in losses.items()
    )
    return (
        f"the claim {outcome}: {name} has {mean(at_the_end(acn)):.3f}, {', '.join(others)}; {said} with "
        f"{next(iter(rivals))} layers"
    )


def draw(axes, groups, names) -> None:
    for key, runs in groups.items():
        if key[0] != next(iter(groups))[0]:
            continue  # one family a picture
        (line,) = axes.plot([mean(values) for values in series(runs, "test_loss")], label=f"{names[key]}, test")
        train = [mean(values) for values in series(runs, "train_loss")]
        axes.plot(train, color=line.get_color(), linestyle="--", label=f"{names[key]}, train")
    axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    legend(axes)


EXPERIMENT = Experiment("low_data", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
