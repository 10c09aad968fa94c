"""From the record to the words and numbers of the page: all rounding and all sentences are made here."""

from typing import Any

from ..depth.cost import Cost
from .class_figures import ClassFigures, Counts
from .figures import Figures
from .record import ReportRecord
from .residuals import Distribution, Residuals

SHOWN_CLASSES = 15
"""Rows of the table of classes before it is opened."""


def number(value: float) -> str:
    """Return a metric as it is read."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """Return a difference with its sign, a minus that is one."""
    return f"{value:+.4f}".replace("-", "−") if round(value, 4) else "0.0000"


def cost_at(figures: Figures, depth: int) -> Cost | None:
    """Return what a depth costs, if it was measured."""
    if figures.tradeoffs is not None and depth in figures.tradeoffs.depths:
        return figures.tradeoffs.costs[figures.tradeoffs.depths.index(depth)]
    known = {figures.profile.depths[-1]: figures.cost_before, figures.depth: figures.cost_after}
    return known.get(depth)


def cost_ratios(figures: Figures, cost: Cost) -> tuple[str, str]:
    """Return which part of the bytes and of the latency of full depth a cost is, of those measured beside it."""
    full = cost_at(figures, figures.profile.depths[-1]) or figures.cost_before
    return f"{cost.size_bytes / full.size_bytes:.0%}", f"{cost.latency_ms / full.latency_ms:.0%}"


def front_of(figures: Figures) -> tuple[int, ...]:
    """Return the depths that are better than every smaller one."""
    front: list[int] = []
    for depth in figures.profile.depths:
        value = figures.value_at(depth)
        if not front or figures.profile.is_better(value, figures.value_at(front[-1])):
            front.append(depth)
    return tuple(front)


def threshold_of(figures: Figures) -> float | None:
    """Return the worst value that the tolerance allows, where one chose the depth."""
    tolerance = figures.choice.get("tolerance")
    if tolerance is None:
        return None
    allowed = tolerance * (abs(figures.full_value) if figures.choice.get("relative") else 1)
    return figures.full_value - allowed if figures.profile.greater_is_better else figures.full_value + allowed


def depth_rows(record: ReportRecord) -> list[dict[str, Any]]:
    """Return for each depth what the page says of it."""
    figures, front = record.figures, front_of(record.figures)
    rows: list[dict[str, Any]] = []
    for depth, parameters in zip(figures.profile.depths, figures.profile.num_parameters, strict=True):
        value, cost = figures.value_at(depth), cost_at(figures, depth)
        better = figures.profile.is_better(value, figures.full_value)
        worse = figures.profile.is_better(figures.full_value, value)
        ratios = ("", "") if cost is None else cost_ratios(figures, cost)
        rows.append(
            {
                "depth": depth,
                "value": value,
                "metric": number(value),
                "how": how(figures, depth),
                "change": signed(value - figures.full_value),
                "verdict": "better" if better else "worse" if worse else "equal",
                "interval": loss_words(record, depth),
                "parameters": f"{parameters:,}",
                "parameters_ratio": f"{parameters / figures.profile.num_parameters[-1]:.0%}",
                "mb": "" if cost is None else f"{cost.size_bytes / 1e6:.2f}",
                "mb_ratio": ratios[0],
                "latency": "" if cost is None else f"{cost.latency_ms:.2f}",
                "latency_ratio": ratios[1],
                "gflops": "" if cost is None else f"{cost.flops / 1e9:.4g}",
                "is_chosen": depth == figures.depth,
                "is_front": depth in front,
            }
        )
    return rows


def how(figures: Figures, depth: int) -> str:
    """Return what was done to the model of a depth."""
    if figures.is_healed(depth):
        return "healed" if figures.healed else "fine-tuned"
    if depth == figures.profile.depths[-1]:
        return "whole" if figures.before is None else "whole, taught"
    return "as cut" if figures.before is None else "taught, as cut"


def loss_words(record: ReportRecord, depth: int) -> str:
    """Return between which values lies what a depth loses."""
    if depth not in record.losses:
        return ""
    low, high = record.losses[depth]
    return f"{signed(low)} to {signed(high)}"


def class_rows(classes: ClassFigures) -> dict[int, list[dict[str, Any]]]:
    """Return for each depth what is said of the classes that are shown, those first whose recall fell most."""
    rows = {}
    for depth, counts in classes.at.items():
        of_depth = [_class_row(classes, counts, place) for place in range(len(classes.names))]
        rows[depth] = sorted(of_depth, key=lambda row: (row["recall_change"] is None, row["recall_change"] or 0.0))
    return rows


def _class_row(classes: ClassFigures, counts: Counts, place: int) -> dict[str, Any]:
    full, support = classes.full, classes.support[place]
    values = {
        "precision": (_share(counts.right[place], counts.predicted[place]), full, full.predicted[place]),
        "recall": (_share(counts.right[place], support), full, support),
    }
    row: dict[str, Any] = {"name": classes.names[place], "support": f"{support:,}"}
    for name, (value, of_full, out_of) in values.items():
        before = _share(of_full.right[place], out_of)
        row[name] = "none" if value is None else f"{value:.3f}"
        change = None if value is None or before is None else round(value - before, 3)
        row[f"{name}_change"] = change
        row[f"{name}_change_words"] = "" if change is None else f"{change:+.3f}".replace("-", "−") if change else "0"
    return row


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def residual_rows(residuals: Residuals) -> dict[int, list[str]]:
    """Return what is said of the residuals of each depth."""
    return {depth: residual_words(here) for depth, here in residuals.at.items()}


def residual_words(residuals: Distribution) -> list[str]:
    """Return mean, mean size and quantiles as they are read."""
    return [f"{value:.4g}" for value in (residuals.mean, residuals.mean_size, *residuals.quantiles)]


def script_data(record: ReportRecord, charts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what the script of the page reads."""
    figures, examples = record.figures, record.examples
    return {
        "depths": depth_rows(record),
        "chosen": figures.profile.depths.index(figures.depth),
        "full": figures.profile.depths[-1],
        "metric": figures.profile.metric,
        "fullValue": number(figures.full_value),
        "charts": charts,
        "classes": None if record.classes is None else class_rows(record.classes),
        "confusions": None if record.classes is None else record.classes.to_dict()["confusions"],
        "shownClasses": SHOWN_CLASSES,
        "residuals": None if record.residuals is None else residual_rows(record.residuals),
        "examples": None if examples is None else examples.to_dict(),
    }


def circumstances(record: ReportRecord) -> dict[str, str]:
    """Return names and values of where and with what was measured."""
    figures, cost = record.figures, record.figures.cost_before
    found = {name.replace("_", " "): str(value) for name, value in figures.circumstances.items()}
    found |= {f"{name} is": value for name, value in figures.sources.items()}
    found["latency"] = f"median of forward passes, batch size {cost.batch_size}, {cost.dtype}, on {cost.device}"
    found |= {f"seconds: {name}": f"{seconds:.1f}" for name, seconds in figures.seconds.items()}
    found["report by"] = f"acn_hf {record.version}"
    return found


def training(record: ReportRecord) -> dict[str, str]:
    """Return the arguments of each stage of training, in words."""
    return {
        stage: ", ".join(f"{name} {value}" for name, value in arguments.items())
        for stage, arguments in record.figures.training.items()
    }


def headline(record: ReportRecord) -> str:
    """Return the result in one sentence."""
    figures, full = record.figures, record.figures.profile.depths[-1]
    metric, after, before = figures.profile.metric, figures.cost_after, figures.cost_before
    latency = cost_ratios(figures, cost_at(figures, figures.depth) or after)[1]
    return (
        f"{figures.depth} of {full} layers: {metric} {number(figures.value)} against {number(figures.full_value)} at "
        f"full depth, with {after.num_parameters / before.num_parameters:.0%} of the parameters and "
        f"{latency} of the latency."
    )


def choice_words(figures: Figures) -> str | None:
    """Return how the depth was chosen, if the result says it."""
    choice = figures.choice
    if choice.get("depth") is not None:
        return f"Depth {choice['depth']} was asked for."
    limits = choice.get("limits") or {}
    if limits:
        said = " and ".join(f"{limit:,g} {_UNITS.get(name, name)}" for name, limit in limits.items())
        return f"It is the best depth within {said}."
    threshold = threshold_of(figures)
    if threshold is None:
        return None
    relative = " of it" if choice.get("relative") else ""
    sure = choice.get("confidence")
    return (
        f"It is the smallest depth that loses no more than {choice['tolerance']:g}{relative} against full depth: "
        f"{figures.profile.metric} {number(threshold)} or better{f', with {sure:.0%} confidence' if sure else ''}."
    )


_UNITS = {
    "max_latency_ms": "ms of latency",
    "max_parameters": "parameters",
    "max_mb": "MB",
    "max_gflops": "GFLOPs",
}
