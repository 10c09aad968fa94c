"""Cost: parameters, operations, memory and time of ACNs, whole and cut, and of residual networks, long and short.

What is unusual: the times of one run are those of four networks that take turns, so that their ratios are those of one
machine at one time. An ACN is cut to the depth that the section on auto-compression has, and costs in training what the
whole one costs. The peak of the memory in training is that of a fresh process on a CPU, and torch's on a GPU
(`lab/training_memory.py`). The honest baseline is a residual network of few layers, trained from scratch.

    python examples/paper/cost.py --image_data FASHION_MNIST --text_data REVIEWS
    python examples/paper/cost.py --quick

Cost of one run on one CPU core: half a minute, once the networks are trained.
"""

from dataclasses import replace

import torch
from lab.experiment import Experiment, Job, main
from lab.laboratory import SHORT, Laboratory, effective_depth
from lab.networks import Network
from lab.rendering import Section, cell, group, legend, mean, table
from lab.timing import median_times
from lab.training_memory import peak_training_bytes, training_step

from acn_hf import measure_cost, truncate
from acn_hf.depth import example_inputs

NAMES = {
    "acn": "ACN",
    "acn_cut": "ACN, cut",
    "residual": "residual",
    "residual_short": f"residual, {SHORT} layers from scratch",
}
BATCH_SIZES = (1, 32)
REPEATS, STEP_REPEATS = 51, 11
LEAST_SAVED, TOLERANCE = 0.3, 0.01
"""Share of the layers that the paper says can be left out at least, and what accuracy may then be lost."""


def jobs(laboratory: Laboratory) -> list[Job]:
    asked = set(laboratory.archs("acn", "residual"))
    if not {"acn", "residual"} <= asked:
        raise ValueError(f"--arch must hold acn and residual, which are compared in one run; got {sorted(asked)}")
    return [
        job(laboratory, family, seed)
        for seed in laboratory.seeds
        for family in laboratory.families("vit", "mixer", "bert")
    ]


def job(laboratory: Laboratory, family: str, seed: int) -> Job:
    def measure() -> dict:
        networks = {
            "acn": laboratory.network(family, "acn"),
            "residual": laboratory.network(family, "residual"),
            "residual_short": laboratory.network(family, "residual", SHORT),
        }
        trained = {name: laboratory.trained(network, seed) for name, network in networks.items()}
        accuracies = {name: laboratory.accuracies(one.model, one.task) for name, one in trained.items()}
        depth = effective_depth(accuracies["acn"])
        values = {
            name: {
                "accuracy": accuracies[name][-1],
                "history": [epoch["test_accuracy"] for epoch in one.history],
                "train_seconds": one.seconds,
            }
            for name, one in trained.items()
        }
        values["acn_cut"] = {**values["acn"], "accuracy": accuracies["acn"][depth]}
        networks["acn_cut"] = replace(networks["acn"], num_hidden_layers=depth)
        models = {name: one.model for name, one in trained.items()}
        models["acn_cut"] = truncate(models["acn"], depth)
        measured = measure_all(models, networks, trained["acn"].task.fields, laboratory.recipe(family).batch_size)
        return {name: {**values[name], **measured[name]} for name in NAMES}

    return Job({"family": family, "seed": seed}, measure)


def measure_all(models: dict, networks: dict[str, Network], fields: dict, batch_size: int) -> dict[str, dict]:
    """Return what each network costs.

    Args:
        models (`dict`): Trained networks, by name.
        networks (`dict`): What they were built from, by name.
        fields (`dict`): The fields of their configs that follow from the data.
        batch_size (`int`): Examples in a step of training.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = {name: models[name].to(device).eval() for name in NAMES}
    found = {name: {"depth": model.config.num_hidden_layers} for name, model in models.items()}
    for name, model in models.items():
        cost = measure_cost(model, repeats=2)
        found[name] |= {"num_parameters": cost.num_parameters, "size_bytes": cost.size_bytes, "flops": cost.flops}
        found[name]["latency_ms"] = {}
    for size in BATCH_SIZES:
        inputs = example_inputs(models["acn"], size)
        times = median_times([_reader(model) for model in models.values()], [inputs], REPEATS)
        for name, latency in zip(models, times, strict=True):
            found[name]["latency_ms"][str(size)] = latency
    steps = median_times([_trainer(networks[name], fields, device) for name in NAMES], [batch_size], STEP_REPEATS)
    peaks = peak_training_bytes([networks[name] for name in NAMES], fields, batch_size)
    for name, step, peak in zip(NAMES, steps, peaks, strict=True):
        found[name] |= {"step_ms": step, "training_bytes": peak}
    return found


def _reader(model):
    """Return what makes a forward pass."""

    @torch.no_grad()
    def read(inputs: dict) -> None:
        model(**inputs)

    return read


def _trainer(network: Network, fields: dict, device: str):
    """Return what makes a step of training, on a network of its own."""
    model = network.build(fields, seed=0).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    return lambda batch_size: training_step(model, optimizer, batch_size)


def epochs_to(history: list[float], quality: float) -> int | None:
    """Return after how many epochs an accuracy is reached for the first time, `None` if it never is."""
    return next((number for number, value in enumerate(history, start=1) if value >= quality), None)


def equal_quality(run) -> float:
    """Return the lower one of the last accuracies of ACN and residual network, as they were measured in training."""
    return min(run.values[name]["history"][-1] for name in ("acn", "residual"))


def epochs_of(run, name: str) -> int | None:
    """Return the epochs that a network needs to the quality that ACN and residual network both reach."""
    return epochs_to(run.values[name]["history"], equal_quality(run))


def seconds_of(run, name: str) -> float | None:
    """Return the seconds that these epochs took when the network was trained."""
    epochs, trained = epochs_of(run, name), run.values[name]
    return None if epochs is None else trained["train_seconds"] * epochs / len(trained["history"])


def section(results) -> Section:
    groups = group(results, "family")
    header = ["network", "layers", "seeds", "accuracy", "parameters", "MB", "MFLOPs"]
    header += [f"ms, batches of {size}" for size in BATCH_SIZES]
    header += ["ms of a step of training", "MB in training", "epochs to equal quality", "seconds to equal quality"]
    tables = [
        table(header, [_row(family, name, runs) for (family,), runs in group(part, "family").items() for name in NAMES])
        for part in group(results, "data").values()
    ]
    device = results[0].circumstances["device"]
    return Section(
        title="Cost",
        paper="the 30 to 80% of the layers that an ACN can leave out are saved in parameters, operations and memory.",
        here=f"Of one forward pass and one step of training on this machine ({device}); in brackets the ratio to the "
        "residual network in the same run. Equal quality is the lower one of the last accuracies of ACN and residual "
        "network (on the test examples that are read after every epoch); its seconds are those of the whole training, "
        "tests included, by epochs, at which other networks were trained beside it. Memory in training: what the "
        "process needs more at its peak (on a GPU: what torch has allocated), for weights, gradients, moments and "
        "activations.",
        tables=tuple(tables),
        verdict=verdict(groups),
        draw=lambda axes: draw(axes, groups),
    )


def _row(family: str, name: str, runs) -> list[str]:
    values = [run.values[name] for run in runs]
    reached = [(epochs_of(run, name), seconds_of(run, name)) for run in runs]
    return [
        f"{family}, {NAMES[name]}",
        " ".join(str(value["depth"]) for value in values),
        str(len(runs)),
        cell([value["accuracy"] for value in values]),
        f"{mean([value['num_parameters'] for value in values]):,.0f}",
        cell([value["size_bytes"] / 1e6 for value in values], 2),
        cell([value["flops"] / 1e6 for value in values], 1),
        *[_with_ratio(runs, name, lambda value, size=size: value["latency_ms"][str(size)]) for size in BATCH_SIZES],
        _with_ratio(runs, name, lambda value: value["step_ms"]),
        _with_ratio(runs, name, lambda value: value["training_bytes"] / 1e6, digits=0),
        " ".join("never" if epochs is None else str(epochs) for epochs, _ in reached),
        cell([seconds for _, seconds in reached if seconds is not None], 0),
    ]


def _with_ratio(runs, name: str, read, digits: int = 2) -> str:
    return f"{cell([read(run.values[name]) for run in runs], digits)} ({ratio(runs, name, read):.2f})"


def ratio(runs, name: str, read) -> float:
    """Return the mean ratio of a cost to that of the residual network of the same run."""
    return mean([read(run.values[name]) / read(run.values["residual"]) for run in runs])


def verdict(groups) -> str:
    return "; ".join(_verdict(family, runs) for (family,), runs in groups.items()) + "."


def _verdict(family: str, runs) -> str:
    accuracy = {name: mean([run.values[name]["accuracy"] for run in runs]) for name in NAMES}

    def costs(name: str) -> str:
        shares = [
            (ratio(runs, name, lambda value: value["num_parameters"]), "of the parameters"),
            (ratio(runs, name, lambda value: value["flops"]), "of the operations"),
            (ratio(runs, name, lambda value: value["latency_ms"][str(BATCH_SIZES[-1])]), "of the time"),
        ]
        return f"{', '.join(f'{share:.0%} {what}' for share, what in shares)} and an accuracy of {accuracy[name]:.3f}"

    cut = 1 - mean([run.values["acn_cut"]["depth"] / run.values["acn"]["depth"] for run in runs])
    better = accuracy["acn_cut"] > accuracy["residual_short"]
    epochs = [" ".join(str(epochs_of(run, name) or "never") for run in runs) for name in ("acn", "residual")]
    return (
        f"{family}: {cut:.0%} of the ACN's layers are saved: the claim {_held(cut, accuracy)}; cut, it has "
        f"{costs('acn_cut')}, against {accuracy['residual']:.3f} of the whole residual network, and is "
        f"{'more' if better else 'no more'} accurate than the short residual network from scratch, which has "
        f"{costs('residual_short')}; to equal quality the ACN needs {epochs[0]} epochs, the residual network "
        f"{epochs[1]}"
    )


def _held(cut: float, accuracy: dict[str, float]) -> str:
    if cut < LEAST_SAVED:
        return "does not hold here"
    if accuracy["acn_cut"] < accuracy["residual"] - TOLERANCE:
        return "holds here against the whole ACN, not against the residual network"
    return "holds here"


def draw(axes, groups) -> None:
    for color, ((family,), runs) in enumerate(groups.items()):
        for marker, name in zip("oxs*", NAMES, strict=True):
            share = ratio(runs, name, lambda value: value["latency_ms"][str(BATCH_SIZES[-1])])
            accuracy = mean([run.values[name]["accuracy"] for run in runs])
            axes.plot(share, accuracy, marker, color=f"C{color}", label=f"{family}, {NAMES[name]}")
    axes.set(xlabel=f"time of a batch of {BATCH_SIZES[-1]}, share of the residual network's", ylabel="test accuracy")
    legend(axes)


EXPERIMENT = Experiment("cost", jobs, section)

if __name__ == "__main__":
    main(EXPERIMENT)
