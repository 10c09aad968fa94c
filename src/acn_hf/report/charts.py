"""The charts of the page, as Vega-Lite of altair. The script of the page says which depth is looked at.

Marks are hidden from screen readers, which are given a sentence and the tables that hold the same numbers. What goes
upwards is said above each chart: a title beside its axis would be cut when the numbers there grow longer.
"""

from typing import Any

from .figures import Figures
from .metric_chart import metric_chart
from .record import ReportRecord
from .vega import ACCENT, BEFORE, CHOSEN, INK, Chart, depth_axis, finished, looked_at, plotting
from .view import cost_at, front_of


def charts_of(record: ReportRecord) -> dict[str, Chart]:
    """Return the charts by their names, in the order in which they stand on the page."""
    charts = {"metric": metric_chart(record)}
    for name, title, limit in (
        ("latency", "latency in ms", "max_latency_ms"),
        ("parameters", "parameters", "max_parameters"),
        ("mb", "MB", "max_mb"),
    ):
        charts[name] = _cost(record.figures, name, title, limit)
    charts["front"] = _front(record.figures)
    if record.residuals is not None:
        charts["residuals"] = _residuals(record)
    if record.exits is not None and record.exits.get("exit_counts"):
        charts["exits"] = _exits(record.exits["exit_counts"])
    return charts


def _cost(figures: Figures, name: str, title: str, limit: str) -> Chart:
    """Return what each depth costs, with its limit."""
    alt, _ = plotting()
    rows: list[dict[str, float]] = []
    for depth, parameters in zip(figures.profile.depths, figures.profile.num_parameters, strict=True):
        cost = cost_at(figures, depth)
        if name == "parameters":
            rows.append({"depth": depth, "cost": parameters})
        elif cost is not None:
            half = cost.latency_spread_ms / 2
            value = cost.latency_ms if name == "latency" else cost.size_bytes / 1e6
            rows.append({"depth": depth, "cost": value, "low": value - half, "high": value + half})
    x, data = depth_axis(figures.profile.depths), alt.Data(values=rows)
    y = alt.Y("cost:Q", title=None, scale=alt.Scale(zero=True), axis=_counted(alt, name == "parameters", 5))
    base = alt.Chart(data).encode(x=x, y=y)
    tips = [alt.Tooltip("depth:Q"), alt.Tooltip("cost:Q", title=title, format=",.4~r")]
    layers = [looked_at(alt, data, x)]
    if name == "latency":
        layers.append(alt.Chart(data).mark_rule(color=INK, opacity=0.5).encode(x=x, y="low:Q", y2="high:Q"))
    layers += [
        base.mark_line(color=ACCENT, strokeWidth=2),
        base.mark_point(filled=True, size=45, color=ACCENT).encode(tooltip=tips),
        base.mark_point(size=200, color=CHOSEN, strokeWidth=2.5).transform_filter(f"datum.depth == {figures.depth}"),
    ]
    if (most := (figures.choice.get("limits") or {}).get(limit)) is not None:
        level = alt.Chart(alt.Data(values=[{"cost": most, "name": "limit"}])).encode(y="cost:Q")
        layers.append(level.mark_rule(color=CHOSEN, strokeDash=[4, 4]))
        layers.append(
            level.mark_text(align="left", dx=4, dy=-6, color=INK, fontSize=12).encode(text="name:N", x=alt.value(0))
        )
    return finished(layers, f"{title} against depth; the table of depths holds the numbers", figures.depth, height=200)


def _counted(alt: Any, are_many: bool, ticks: int) -> Any:
    """Return an axis of so many ticks, where millions are said as M."""
    return alt.Axis(tickCount=ticks, **({"format": "~s"} if are_many else {}))


def _front(figures: Figures) -> Chart:
    """Return the metric against what a depth costs, and the line of those that no smaller one equals."""
    alt, _ = plotting()
    costs = {depth: cost_at(figures, depth) for depth in figures.profile.depths}
    by_latency = all(cost is not None for cost in costs.values())
    front = front_of(figures)
    rows: list[dict[str, Any]] = []
    for depth, parameters in zip(figures.profile.depths, figures.profile.num_parameters, strict=True):
        cost = costs[depth]
        price = cost.latency_ms if by_latency and cost is not None else parameters
        where = "on the front" if depth in front else "a smaller one is as good"
        rows.append({"depth": depth, "price": price, "value": figures.value_at(depth), "where": where})
    data = alt.Data(values=rows)
    title = "latency in ms" if by_latency else "parameters"
    x = alt.X("price:Q", title=title, scale=alt.Scale(zero=False, padding=16), axis=_counted(alt, not by_latency, 6))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    colour = alt.Color(
        "where:N", scale=alt.Scale(domain=["on the front", "a smaller one is as good"], range=[ACCENT, BEFORE])
    )
    tips = [alt.Tooltip("depth:Q"), alt.Tooltip("price:Q", title=title, format=",.4~r")]
    tips.append(alt.Tooltip("value:Q", title=figures.profile.metric, format=".4f"))
    base = alt.Chart(data).encode(x=x, y=y)
    stairs = base.mark_line(color=ACCENT, interpolate="step-after").transform_filter(
        alt.FieldOneOfPredicate(field="depth", oneOf=list(front))
    )
    return finished(
        [
            stairs.encode(order="depth:Q"),
            base.mark_point(filled=True, size=70).encode(color=colour, tooltip=tips),
            base.mark_text(dy=-12, color=INK, fontSize=12).encode(text="depth:Q"),
            base.mark_point(size=340, color=CHOSEN, strokeWidth=2.5).transform_filter(
                f"datum.depth == {figures.depth}"
            ),
            base.mark_point(size=200, color=ACCENT, strokeWidth=2.5).transform_filter("datum.depth == current"),
        ],
        f"{figures.profile.metric} against {title}, one point for each depth; the table of depths says which are on "
        "the front",
        figures.depth,
        height=300,
    )


def _residuals(record: ReportRecord) -> Chart:
    """Return the histogram of residuals of the depth that is looked at, and as a line that of full depth."""
    alt, _ = plotting()
    assert record.residuals is not None
    edges, full = record.residuals.edges, record.residuals.full.counts
    rows = [
        {"depth": depth, "low": low, "high": high, "count": count, "full": whole}
        for depth, one in record.residuals.at.items()
        for low, high, count, whole in zip(edges, edges[1:], one.counts, full, strict=False)
    ]
    base = alt.Chart(alt.Data(values=rows)).transform_filter("datum.depth == current")
    x = alt.X("low:Q", title="prediction less what is right", axis=alt.Axis(tickCount=6))
    tallest = max(max(one.counts) for one in (record.residuals.full, *record.residuals.at.values()))
    scale = alt.Scale(domain=[0, tallest])
    return finished(
        [
            base.mark_bar(color=ACCENT, opacity=0.6, orient="vertical").encode(
                x=x, x2="high:Q", y2=alt.datum(0), y=alt.Y("count:Q", title=None, scale=scale)
            ),
            base.mark_line(color=INK, interpolate="step-after").encode(x=x, y=alt.Y("full:Q", scale=scale)),
        ],
        "Histogram of the residuals at the depth that is looked at; the line is full depth. The table below holds "
        "their quantiles",
        record.figures.depth,
    )


def _exits(counts: list[int]) -> Chart:
    """Return how many examples leave at each depth."""
    alt, _ = plotting()
    data = alt.Data(values=[{"depth": depth, "count": count} for depth, count in enumerate(counts)])
    bars = alt.Chart(data).mark_bar(color=ACCENT).encode(
        x=alt.X("depth:O", title="exit depth (layers run)", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("count:Q", title=None),
        tooltip=[alt.Tooltip("depth:O"), alt.Tooltip("count:Q", format=",")],
    )  # fmt: skip
    return finished([bars], "Examples that leave at each depth; the table below holds the numbers", current=None)
