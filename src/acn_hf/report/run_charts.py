"""The charts of the page of a run. The script of the page says at which step it is looked."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..support.spread import evenly
from .run_log import RunLog
from .run_view import deepest
from .vega import (
    ACCENT,
    BEFORE,
    CHOSEN,
    HEALED,
    HEIGHT,
    INK,
    Chart,
    depth_axis,
    finished,
    looked_at,
    plotting,
    step_axis,
)

RAMP = 8
"""Colours of the style sheet from the lowest depth to full depth: orange, purple, blue, which all eyes tell apart."""
NAMED_DEPTHS = 6
"""In a legend at most."""
HERE = "datum.step == current"


def charts_of_run(run: RunLog) -> dict[str, Chart]:
    """Return the charts by their names, in the order in which they stand on the page."""
    charts = {"profile": _profile(run), "metric": _metric(run), "effective": _effective(run)}
    if run.scale is not None:
        charts["scale"] = _curves(run, {"residual scale": run.scale.points}, "The residual scale at each step")
    if run.losses:
        named = {"training loss" if name == "loss" else name: curve.points for name, curve in run.losses.items()}
        charts["loss"] = _curves(run, named, "The loss at each step")
    return charts


def _values(run: RunLog) -> list[dict[str, float]]:
    """Return the metric at every depth and every step that is shown."""
    return [
        {"step": one.step, "depth": depth, "value": float(f"{value:.6g}")}
        for one in run.measurements
        for depth, value in sorted(one.values.items())
    ]


def _tips(run: RunLog) -> list[Any]:
    alt, _ = plotting()
    value = alt.Tooltip("value:Q", title=run.metric, format=".4f")
    return [alt.Tooltip("step:Q", format=","), alt.Tooltip("depth:Q"), value]


def _profile(run: RunLog) -> Chart:
    """Return the metric against depth at the step that is looked at, with all others paler behind it."""
    alt, _ = plotting()
    x, y = depth_axis(run.depths), alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    base = _rows("values").encode(x=x, y=y)
    here = base.transform_filter(HERE)
    rings = [
        {"step": one.step, "depth": one.effective_depth, "value": one.values[one.effective_depth]}
        for one in run.measurements
        if one.effective_depth in one.values
    ]
    ring = _rows("rings").transform_filter(HERE)
    opacity = min(0.6, max(0.15, 10 / len(run.measurements)))
    layers = [
        base.mark_line(color=BEFORE, strokeWidth=1, opacity=opacity).encode(detail="step:N"),
        here.mark_line(color=ACCENT, strokeWidth=2.5),
        here.mark_point(filled=True, size=50, color=ACCENT).encode(tooltip=_tips(run)),
        ring.mark_point(size=260, color=CHOSEN, strokeWidth=2.5).encode(x=x, y=y),
    ]
    description = f"{run.metric} against depth at the step of the slider; the table of depths holds the numbers"
    return _finished(run, layers, description, 320, values=_values(run), rings=rings)


def _metric(run: RunLog) -> Chart:
    """Return the metric against the step, a line for each depth."""
    alt, _ = plotting()
    depths = run.depths
    scale = alt.Scale(domain=depths, range=[ramp(place, len(depths)) for place in range(len(depths))])
    legend = alt.Legend(values=evenly(depths, NAMED_DEPTHS), title="depth", columns=NAMED_DEPTHS)
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    base = _rows("values").encode(x=step_axis(run.step), y=y, color=alt.Color("depth:N", scale=scale, legend=legend))
    here = base.transform_filter(HERE).mark_point(filled=True, opacity=1, size=45)
    layers = [_here(run), base.mark_line(strokeWidth=1.5), here.encode(tooltip=_tips(run))]
    description = f"{run.metric} against the step, one line for each depth; the table of measurements holds the numbers"
    return _finished(run, layers, description, 320, values=_values(run))


def ramp(place: int, number: int) -> str:
    """Return the colour of one of so many depths."""
    return f"var(--ramp-{round(place * (RAMP - 1) / max(1, number - 1))})"


def _effective(run: RunLog) -> Chart:
    """Return the effective depth and the layers of the model at each step, and when layers left."""
    alt, _ = plotting()
    effective, layers_of_model = "effective depth", "layers of the model"
    scale = alt.Scale(domain=[effective, layers_of_model], range=[ACCENT, INK])
    axis = alt.Axis(format="d", tickMinStep=1, tickCount=6)
    y = alt.Y("depth:Q", title=None, axis=axis, scale=alt.Scale(domain=[0, max(run.depths[-1], 1)], nice=False))
    x, colour = step_axis(run.step), alt.Color("what:N", scale=scale, legend=alt.Legend())
    found = [{"step": one.step, "depth": one.effective_depth, "what": effective} for one in run.measurements]
    known = [row for row in found if row["depth"] is not None]
    had = [{"step": step, "depth": depth, "what": layers_of_model} for step, depth in layers_over_steps(run)]
    measured = [{"step": one.step, "depth": deepest(one), "what": layers_of_model} for one in run.measurements]
    tips = [alt.Tooltip("step:Q", format=","), alt.Tooltip("what:N"), alt.Tooltip("depth:Q")]
    lines = [_here(run)]
    if run.removals:
        lines.append(_rows("left").mark_rule(color=CHOSEN, strokeDash=[2, 3], strokeWidth=1.5).encode(x=x))
    for name, dash in (("known", [1, 0]), ("had", [5, 4])):
        line = _rows(name).mark_line(interpolate="step-after", strokeWidth=2, strokeDash=dash)
        lines.append(line.encode(x=x, y=y, color=colour))
    points = _rows("measured").transform_filter(HERE).mark_point(filled=True, opacity=1, size=60)
    lines.append(points.encode(x=x, y=y, color=colour, tooltip=tips))
    description = "The effective depth and the layers of the model at each step; the table of measurements holds both"
    left = [{"step": one.step} for one in run.removals]
    return _finished(run, lines, description, known=known, had=had, measured=[*known, *measured], left=left)


def layers_over_steps(run: RunLog) -> list[tuple[int, int]]:
    """Return from which step on the model had how many layers, and how many at last."""
    if not run.removals:
        return [(one.step, deepest(one)) for one in run.measurements]
    first, last = run.removals[0], run.removals[-1]
    return [(0, first.before), *((one.step, one.after) for one in run.removals), (run.step, last.after)]


def _curves(run: RunLog, curves: Mapping[str, Sequence[tuple[float, float]]], description: str) -> Chart:
    """Return some numbers over the steps, a line for each."""
    alt, _ = plotting()
    rows = [
        {"step": step, "value": float(f"{value:.6g}"), "what": name}
        for name, points in curves.items()
        for step, value in points
    ]
    scale = alt.Scale(domain=list(curves), range=[ACCENT, HEALED][: len(curves)])
    base = _rows("values").encode(
        x=step_axis(run.step),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        color=alt.Color("what:N", scale=scale, legend=alt.Legend() if len(curves) > 1 else None),
    )
    # A curve of one number has no line.
    marks = base.mark_line(strokeWidth=1.5, point=len(rows) <= 2 * len(curves))
    return _finished(run, [_here(run), marks], description, 220, values=rows)


def _here(run: RunLog) -> Any:
    """Return the upright line at the step that is looked at."""
    alt, _ = plotting()
    return looked_at(alt, alt.NamedData(name="steps"), step_axis(run.step), "step")


def _rows(name: str) -> Any:
    """Return a chart of rows that `_finished` is given under this name."""
    alt, _ = plotting()
    return alt.Chart(alt.NamedData(name=name))


def _finished(run: RunLog, layers: list[Any], description: str, height: int = HEIGHT, **rows: Any) -> Chart:
    """Return a chart that begins at the last measurement, with the rows that its layers call by name."""
    steps = [{"step": one.step} for one in run.measurements]
    return finished(layers, description, run.measurements[-1].step, height, {"steps": steps, **rows})
