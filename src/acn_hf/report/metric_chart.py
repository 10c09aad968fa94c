"""The metric against depth, with the band of confidence, the chosen depth, and what is allowed."""

from typing import Any

from .record import ReportRecord
from .vega import ACCENT, BEFORE, CHOSEN, HEALED, INK, Chart, depth_axis, finished, looked_at, plotting
from .view import threshold_of


def metric_chart(record: ReportRecord) -> Chart:
    """Return the metric against depth."""
    alt, _ = plotting()
    figures = record.figures
    x, y = depth_axis(figures.profile.depths), alt.Y("value:Q", title=None, scale=_scale(alt, record), axis=_room(alt))
    series = _series(record)
    colours = {"before teaching": BEFORE, "healed": HEALED, "cut and fine-tuned": HEALED}
    scale = alt.Scale(domain=list(series), range=[colours.get(name, ACCENT) for name in series])
    colour = alt.Color("what:N", scale=scale, legend=alt.Legend())
    tips = [
        alt.Tooltip("depth:Q"),
        alt.Tooltip("value:Q", format=".4f", title=figures.profile.metric),
        alt.Tooltip("what:N"),
    ]
    layers = [*_band(alt, record, x), *_levels(alt, record)]
    for name, points in series.items():
        values = [{"depth": depth, "value": value, "what": name} for depth, value in sorted(points.items())]
        base = alt.Chart(alt.Data(values=values)).encode(x=x, y=y, color=colour)
        if colours.get(name) == HEALED:
            layers.append(base.mark_point(clip=True, filled=True, size=90, shape="diamond").encode(tooltip=tips))
            continue
        layers += [
            looked_at(alt, alt.Data(values=values), x),
            base.mark_line(clip=True, strokeWidth=2),
            base.mark_point(clip=True, filled=True, size=45).encode(tooltip=tips),
        ]
    ring = alt.Data(values=[{"depth": figures.depth, "value": figures.value}])
    layers.append(alt.Chart(ring).mark_point(size=260, color=CHOSEN, strokeWidth=2.5).encode(x=x, y=y))
    description = f"{figures.profile.metric} at every depth; the table of depths holds the numbers"
    return finished(layers, description, figures.depth, height=320)


def _series(record: ReportRecord) -> dict[str, dict[int, float]]:
    """Return the lines and the points by their names: of what was cut, what was before, and what was trained after."""
    figures = record.figures
    name = "as cut" if figures.before is None else "taught, as cut"
    series = {name: dict(zip(figures.profile.depths, figures.profile.values, strict=True))}
    if figures.before is not None:
        series["before teaching"] = dict(zip(figures.before.depths, figures.before.values, strict=True))
    if figures.healed:
        series["healed"] = dict(figures.healed)
    elif figures.finetuned is not None:
        series["cut and fine-tuned"] = {figures.depth: figures.finetuned}
    return series


def _scale(alt: Any, record: ReportRecord) -> Any:
    """Return the scale of the metric: all of it, or from the chosen depth on, where low depths would press it flat."""
    figures, threshold = record.figures, threshold_of(record.figures)
    levels = [figures.full_value, figures.value, *([] if threshold is None else [threshold])]
    everything = [value for points in _series(record).values() for value in points.values()]
    kept = [figures.value_at(depth) for depth in figures.profile.depths if depth >= figures.depth]
    (low, high), (close_low, close_high) = (_ends([*values, *levels]) for values in (everything, kept))
    return alt.Scale(
        domainMin=alt.ExprRef(f"closeup ? {close_low} : {low}"),
        domainMax=alt.ExprRef(f"closeup ? {close_high} : {high}"),
        zero=False,
        nice=False,
    )


def _room(alt: Any) -> Any:
    """Return an axis with room for numbers that have more digits in the close-up."""
    return alt.Axis(minExtent=40)


def _ends(values: list[float]) -> tuple[float, float]:
    """Return between what a scale lies, with some room."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _band(alt: Any, record: ReportRecord, x: Any) -> list[Any]:
    """Return the band of confidence, with a line at each depth, which is all that there is where depths are few."""
    full, sign = record.figures.full_value, -1 if record.figures.profile.greater_is_better else 1
    ends = [
        {"depth": depth, "low": full + sign * low, "high": full + sign * high}
        for depth, (low, high) in sorted(record.losses.items())
    ]
    if not ends:
        return []
    low = alt.Y("low:Q", title=None, scale=_scale(alt, record), axis=_room(alt))
    band = alt.Chart(alt.Data(values=ends)).encode(x=x, y=low, y2="high:Q")
    return [
        band.mark_area(clip=True, color=ACCENT, opacity=0.16),
        band.mark_rule(clip=True, color=ACCENT, opacity=0.5),
    ]


def _levels(alt: Any, record: ReportRecord) -> list[Any]:
    """Return the horizontal lines of full depth and of the worst that is allowed, with their names."""
    figures = record.figures
    above = -8 if figures.profile.greater_is_better else 8
    levels = [(figures.full_value, "full depth", above)]
    if (threshold := threshold_of(figures)) is not None:
        levels.append((threshold, "tolerance", -above))
    layers = []
    for value, name, shift in levels:
        source = alt.Chart(alt.Data(values=[{"value": value, "name": name}])).encode(y="value:Q")
        text = source.mark_text(align="left", dx=4, dy=shift, color=INK, fontSize=12)
        layers += [source.mark_rule(color=INK, strokeDash=[4, 4], opacity=0.8)]
        layers += [text.encode(text="name:N", x=alt.value(0))]
    return layers
