"""From the log of a run to the words and numbers of its page: all rounding and all sentences are made here."""

from typing import Any

from ..training.depth_log import LoggedProfile
from .run_log import Curve, Removal, RunLog
from .view import number, signed


def step(value: float) -> str:
    """Return the number of a step as it is read."""
    return f"{value:,.0f}"


def is_better(run: RunLog, value: float, other: float) -> bool:
    """Return whether a value of the metric is better than another; nobody is where nobody knows what is good."""
    if run.greater_is_better is None:
        return False
    return value > other if run.greater_is_better else value < other


def verdict(run: RunLog, value: float, other: float) -> str:
    """Return in one word, which the style sheet knows, what a value is against another."""
    return "better" if is_better(run, value, other) else "worse" if is_better(run, other, value) else ""


def deepest(one: LoggedProfile) -> int:
    """Return the full depth of a model when it was measured."""
    return max(one.values)


def measurement_rows(run: RunLog) -> list[dict[str, Any]]:
    """Return for each measurement that is shown what the page says of it."""
    first = run.measurements[0]
    rows = []
    for one in run.measurements:
        full, value = deepest(one), one.values[deepest(one)]
        effective = one.effective_depth
        at_effective = None if effective is None else one.values.get(effective)
        rows.append(
            {
                "step": one.step,
                "words": step(one.step),
                "epoch": "" if one.epoch is None else f"{one.epoch:.2f}",
                "full": full,
                "metric": number(value),
                "change": signed(value - first.values[deepest(first)]),
                "verdict": verdict(run, value, first.values[deepest(first)]),
                "effective": "" if effective is None else str(effective),
                "at_effective": "" if at_effective is None else number(at_effective),
                "gone": max(0, run.removals[0].before - full) if run.removals else 0,
                "loss": _loss_near(run, one.step),
                "is_best": one.step == run.best_step,
                "depths": {depth: _depth_row(run, one, first, depth) for depth in sorted(one.values)},
            }
        )
    return rows


def _depth_row(run: RunLog, one: LoggedProfile, first: LoggedProfile, depth: int) -> list[str]:
    """Return the metric at one depth of one measurement, against its full depth, and against the first measurement."""
    value, full = one.values[depth], one.values[deepest(one)]
    row = [number(value), signed(value - full), verdict(run, value, full)]
    if depth not in first.values:
        return [*row, "", ""]
    return [*row, signed(value - first.values[depth]), verdict(run, value, first.values[depth])]


def _loss_near(run: RunLog, at: int) -> str:
    """Return the loss of training that is shown nearest to a step."""
    curve = run.losses.get("loss")
    return "" if curve is None else number(min(curve.points, key=lambda point: abs(point[0] - at))[1])


def script_data(run: RunLog, charts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what the script of the page reads."""
    rows = measurement_rows(run)
    return {"measurements": rows, "last": len(rows) - 1, "metric": run.metric, "charts": charts}


def headline(run: RunLog) -> str:
    """Return the run in one or two sentences."""
    first, last = run.measurements[0], run.measurements[-1]
    said = f"After {step(last.step)} steps {run.metric} is {number(last.values[deepest(last)])} at full depth"
    if last.effective_depth is not None:
        said += f", and the effective depth is {last.effective_depth} of {deepest(last)} layers"
        if first.effective_depth is not None and first.step != last.step:
            said += f"; after {step(first.step)} steps it was {first.effective_depth} of {deepest(first)}"
    return f"{said}."


def removal_words(removal: Removal) -> str:
    """Return which layers left."""
    lowest, highest = removal.after + 1, removal.before
    gone = f"layer {highest}" if lowest == highest else f"layers {lowest} to {highest}"
    return f"{gone} left, and {removal.after} stayed"


def chosen_words(run: RunLog) -> str:
    """Return how the measurements that are shown were chosen."""
    if len(run.measurements) == run.num_measurements:
        return f"All {run.num_measurements:,} measurements are shown." if run.num_measurements > 1 else ""
    ways = ["the first and the last", "others evenly spread"]
    if any(one.step == run.best_step for one in run.measurements):
        ways.append("that of the best checkpoint")
    if run.removals:
        ways.append("those around each step at which layers left")
    return f"Of {run.num_measurements:,} measurements {len(run.measurements)} are shown: {', '.join(ways)}."


def curve_words(name: str, curve: Curve, *, means: bool) -> str:
    """Return how the points of a curve were chosen."""
    said = f"{name} was logged {curve.num_logged:,} times"
    present = curve.num_logged - curve.num_absent
    if len(curve.points) < present:
        mean = f"each point is the mean of {-(-present // len(curve.points)):,}"
        said += f"; {mean if means else f'{len(curve.points):,} are shown, evenly spread'}"
    if curve.num_absent:
        said += f"; {curve.num_absent:,} were no numbers and are left out"
    return f"{said}."


def training(run: RunLog) -> dict[str, str]:
    """Return the arguments of training in words."""
    return {name.replace("_", " "): str(value) for name, value in run.training.items()}
