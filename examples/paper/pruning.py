"""Pruning on top of depth: accuracy against the weights that remain, of ACNs and residual networks, whole and cut.

What is unusual: what remains is counted in parameters of the whole network, so that layers that are cut and weights
that are zero add up. A cut network has the first layers of a trained one, as many as the ACN of the same seed needs on
training examples held aside; the honest baseline is a residual network of few layers, trained from scratch and pruned
in the same way.

    python examples/paper/pruning.py --image_data FASHION_MNIST
    python examples/paper/pruning.py --quick

Cost of one seed on one CPU core: 4 minutes, once the networks are trained.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lab.experiment import Experiment, Job, main
from lab.held_aside import held_aside
from lab.laboratory import SHORT, Laboratory
from lab.rendering import Section, cell, group, legend, mean, table
from lab.training import train
from transformers import PreTrainedModel

from acn_hf import PruningCallback, measure_depth_profile, measure_sparsity, prune_model, truncate
from acn_hf.depth.profile import ROUNDING

SHARES = (0.5, 0.3, 0.2, 0.1, 0.05)
"""Of the weights in the layers that remain."""
GRADUAL = (0.2, 0.1, 0.05)
"""Those among them that are reached by fine-tuning, too."""
METHODS = ("one_shot", "magnitude", "movement")
NUM_HELD_ASIDE, NUM_FINE_TUNING, NUM_TEST = 5000, 3200, 5000
TOLERANCE = 0.01


def jobs(laboratory: Laboratory) -> list[Job]:
    archs = laboratory.archs("acn", "residual")
    parts = [(arch, part) for part in ("full", "cut") for arch in archs]
    if "residual" in archs:
        parts.append(("residual", "short"))
    return [
        job(laboratory, family, arch, part, seed)
        for seed in laboratory.seeds
        for family in laboratory.families("vit")
        for arch, part in parts
    ]


def job(laboratory: Laboratory, family: str, arch: str, part: str, seed: int) -> Job:
    def measure() -> dict:
        network = laboratory.network(family, arch, SHORT if part == "short" else None)
        trained = laboratory.trained(network, seed)
        full = laboratory.network(family, arch).build(trained.task.fields, seed).num_parameters()
        model = truncate(trained.model, depth_of_acn(laboratory, family, seed)) if part == "cut" else trained.model
        batches = list(trained.task.test.select(first(trained.task.test, NUM_TEST)).iter(batch_size=250))
        examples = trained.task.train.select(first(trained.task.train, NUM_FINE_TUNING))
        # What the Trainer itself evaluates after the epoch is not read.
        task = dataclasses.replace(trained.task, train=examples, test=trained.task.test.select([0]))
        recipe = laboratory.recipe(family, num_epochs=1)

        def fine_tuned(start: PreTrainedModel, *callbacks: PruningCallback) -> PreTrainedModel:
            copy = truncate(start, start.config.num_hidden_layers)
            train(copy, task, recipe, seed, callbacks)
            return copy.eval()

        return {"depth": model.config.num_hidden_layers, "full_parameters": full, **sweep(model, batches, fine_tuned)}

    return Job({"family": family, "arch": arch, "part": part, "seed": seed}, measure)


def first(rows: Sequence, number: int) -> range:
    """Return the places of the first rows, at most `number`."""
    return range(min(number, len(rows)))


def depth_of_acn(laboratory: Laboratory, family: str, seed: int) -> int:
    """Return the effective depth of the ACN of a seed, on training examples held aside."""
    acn = laboratory.trained(laboratory.network(family, "acn"), seed).model
    rows = held_aside(laboratory, family, NUM_HELD_ASIDE)
    return measure_depth_profile(acn, list(rows.iter(batch_size=250))).effective_depth()


@contextmanager
def zeros_expected() -> Iterator[None]:
    """Warn of no matrix that becomes zero throughout, which is to be expected here."""
    logger = logging.getLogger("acn_hf.smaller.pruning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@zeros_expected()
def sweep(model: PreTrainedModel, batches: Sequence[dict], fine_tuned: Callable[..., PreTrainedModel]) -> dict:
    """Return the accuracy of a network at every share of its weights, by every method, and the parameters that remain.

    Args:
        model (`PreTrainedModel`): The trained network.
        batches (sequence of `dict`): What accuracy is measured on.
        fine_tuned: Returns a fine-tuned copy of a network, with callbacks.
    """

    def accuracy(network: PreTrainedModel) -> float:
        return measure_depth_profile(network, batches, depths=[]).values[-1]

    at_once = [prune_model(model, 1 - share) for share in SHARES]
    values = {
        "parameters": model.num_parameters(),
        "remaining": [pruned.num_parameters() - sum(measure_sparsity(pruned).zeros) for pruned in at_once],
        "unpruned": accuracy(model),
        "fine_tuned": accuracy(fine_tuned(model)),
        "one_shot": [accuracy(pruned) for pruned in at_once],
    }
    for method in ("magnitude", "movement"):
        gradual = [fine_tuned(model, PruningCallback(1 - share, method=method)) for share in GRADUAL]
        values[method] = [accuracy(pruned) for pruned in gradual]
    return values


def shares_of(method: str) -> tuple[float, ...]:
    """Return the shares that a method has been measured at."""
    return SHARES if method == "one_shot" else GRADUAL


def section(results) -> Section:
    groups = group(results, "family", "arch", "part")
    header = ["network", "layers", "seeds", "method", "nothing pruned", *(f"{share:.0%}" for share in SHARES)]
    rows, sizes = [], []
    for (family, arch, part), runs in groups.items():
        name, layers = name_of(family, arch, part), " ".join(str(run.values["depth"]) for run in runs)
        for method in METHODS:
            whole = [run.values["unpruned" if method == "one_shot" else "fine_tuned"] for run in runs]
            cells = [cell(accuracies(runs, method, share)) for share in SHARES]
            rows.append([name, layers, str(len(runs)), method.replace("_", " "), cell(whole), *cells])
        remaining = [[of_the_full(run, run.values["parameters"]) for run in runs]]
        remaining += [
            [of_the_full(run, run.values["remaining"][place]) for run in runs] for place in range(len(SHARES))
        ]
        sizes.append([name, *(cell([100 * share for share in found], 1) for found in remaining)])
    return Section(
        title="Pruning",
        paper="an ACN that is pruned, too, has a better trade-off between sparsity and accuracy than a residual "
        "network.",
        here=f"Accuracy on at most {NUM_TEST} test examples when a share of the weights in the layers remains. "
        "`one shot` takes the smallest weights out of the trained network; `magnitude` and `movement` take them out "
        f"step by step in one epoch of fine-tuning on at most {NUM_FINE_TUNING} training examples, and beside them "
        "nothing pruned means fine-tuned as long; that is short for movement, whose scores are sums over the steps. A "
        "cut network has the layers that the ACN needs on training examples held aside. "
        "The second table counts the parameters that remain, in % of those of the full network.",
        tables=(table(header, rows), table(["network", *header[4:]], sizes)),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def name_of(family: str, arch: str, part: str) -> str:
    """Return what a table calls a network."""
    return f"{family}, {arch}" + {"full": "", "cut": ", cut", "short": f", {SHORT} layers from scratch"}[part]


def of_the_full(run, number: int) -> float:
    """Return a number of parameters as a share of those of the full network."""
    return number / run.values["full_parameters"]


def accuracies(runs, method: str, share: float) -> list[float]:
    """Return the accuracy of every seed, nothing if the method has not been measured there."""
    shares = shares_of(method)
    return [run.values[method][shares.index(share)] for run in runs] if share in shares else []


def points(runs) -> list[tuple[float, float]]:
    """Return `(share of the full network that remains, accuracy)` of everything that was measured, means over seeds."""
    found = [
        (
            mean([of_the_full(run, run.values["parameters"]) for run in runs]),
            mean([run.values[name] for run in runs]),
        )
        for name in ("unpruned", "fine_tuned")
    ]
    for method in METHODS:
        for share in shares_of(method):
            remaining = [of_the_full(run, run.values["remaining"][SHARES.index(share)]) for run in runs]
            found.append((mean(remaining), mean(accuracies(runs, method, share))))
    return found


def fewest(runs, accuracy: float) -> float | None:
    """Return the smallest share of the full network with which it has an accuracy, or `None`."""
    return min((share for share, found in points(runs) if found >= accuracy - ROUNDING), default=None)


def verdict(groups) -> str:
    return "; ".join(_verdict(groups, family) for family in dict.fromkeys(key[0] for key in groups)) + "."


def _verdict(groups, family: str) -> str:
    acn, residual = (groups.get((family, arch, "full")) for arch in ("acn", "residual"))
    if not acn or not residual:
        return f"{family}: without both ACN and residual network there is nothing to compare"
    pairs = [
        [mean(accuracies(runs, method, share)) for runs in (acn, residual)]
        for method in METHODS
        for share in shares_of(method)
    ]
    ahead = sum(ours > theirs for ours, theirs in pairs)
    held = {0: "does not hold here", len(pairs): "holds here"}.get(ahead, "holds here in part")
    text = f"{family}: pruned alike, the ACN is ahead of the residual network at {ahead} of {len(pairs)} points, and "
    text += f"the claim {held}"
    for arch, runs in (("ACN", acn), ("residual network", residual)):
        whole = mean([run.values["fine_tuned"] for run in runs])
        needs = [
            f"{name_of(*key).removeprefix(f'{family}, ')} {'never' if share is None else f'{share:.1%}'}"
            for key, found in groups.items()
            if key[0] == family
            for share in [fewest(found, whole - TOLERANCE)]
        ]
        text += f"; within {TOLERANCE} of the whole fine-tuned {arch} ({whole:.3f}) with so many of the full network's "
        text += f"parameters: {', '.join(needs)}"
    return text


def draw(axes, groups) -> None:
    for number, ((family, arch, part), runs) in enumerate(groups.items()):
        for method, line in (("magnitude", "-"), ("movement", "--")):
            places = [SHARES.index(share) for share in GRADUAL]
            remaining = [mean([of_the_full(run, run.values["remaining"][place]) for run in runs]) for place in places]
            values = [mean(accuracies(runs, method, share)) for share in GRADUAL]
            label = name_of(family, arch, part) if method == "magnitude" else None
            axes.plot(remaining, values, line, color=f"C{number}", marker=".", label=label)
    axes.set(
        xlabel="share of the parameters that remains",
        ylabel="test accuracy",
        title="magnitude (solid), movement (dashed)",
    )
    legend(axes)


EXPERIMENT = Experiment("pruning", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
