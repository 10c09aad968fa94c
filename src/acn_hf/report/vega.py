"""What all charts of the page share: the libraries, the colours, and how a chart is finished."""

from collections.abc import Mapping, Sequence
from typing import Any

NEEDS = "the page needs altair and vl-convert: pip install 'acn-hf[report]'"
HEIGHT = 260
INK, QUIET, GRID, ACCENT, BEFORE, HEALED, CHOSEN = (
    f"var(--{name})" for name in ("ink", "quiet", "grid", "accent", "before", "healed", "chosen")
)
"""Variables of the style sheet, so that light and dark need no charts of their own."""
Chart = dict[str, Any]


def plotting() -> tuple[Any, Any]:
    """Return altair and vl-convert.

    Raises:
        ImportError: One of them is missing.
    """
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise ImportError(NEEDS) from error
    return altair, vl_convert


def script_of_vega() -> str:
    """Return the program that draws the charts, with all that it needs."""
    _, vl_convert = plotting()
    script = vl_convert.javascript_bundle(vl_version=version_of_vegalite())
    return script.replace("</script", "<\\/script")


def version_of_vegalite() -> str:
    """Return the version of Vega-Lite that altair's charts are written for.

    vl-convert may be older than altair; then it is the newest that it has, since no chart here needs what is new.
    """
    altair, vl_convert = plotting()
    known = vl_convert.get_vegalite_versions()
    wanted = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return wanted if wanted in known else known[-1]


def finished(
    layers: list[Any],
    description: str,
    current: int | None,
    height: int = HEIGHT,
    rows: Mapping[str, Sequence[dict[str, Any]]] | None = None,
) -> Chart:
    """Return a chart of layers that is as wide as its place.

    Args:
        layers (`list`): Charts of altair.
        description (`str`): What a screen reader is told.
        current (`int`, *optional*): The depth or the step that is looked at first. `None` where nothing follows the
            slider.
        height (`int`, *optional*, defaults to 260): In pixels.
        rows (`dict`, *optional*): Data that the layers call by name, `alt.NamedData`. altair looks at each row that a
            layer itself holds, several times, which takes long where they are thousands.
    """
    alt, _ = plotting()
    chart = alt.layer(*layers).properties(width="container", height=height, description=description)
    if current is not None:
        chart = chart.add_params(alt.param(name="current", value=current), alt.param(name="closeup", value=False))
    chart = chart.configure(
        background="transparent",
        font="system-ui, sans-serif",
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )
    chart = chart.configure_view(stroke=None).configure_axis(
        labelColor=INK, titleColor=INK, gridColor=GRID, domainColor=QUIET, tickColor=QUIET, labelFontSize=12,
        titleFontSize=13, titleFontWeight="normal", aria=False,
    )  # fmt: skip
    chart = chart.configure_legend(
        orient="top", direction="horizontal", title=None, labelColor=INK, titleColor=INK, labelFontSize=12,
        labelLimit=260, columns=2, aria=False,
    )  # fmt: skip
    made = chart.configure_mark(aria=False).to_dict()
    return made if rows is None else {**made, "datasets": {**made.get("datasets", {}), **rows}}


def depth_axis(depths: Sequence[int], title: str = "depth (layers kept)") -> Any:
    """Return the axis of depths."""
    alt, _ = plotting()
    axis = alt.Axis(values=list(depths), format="d", title=title, grid=False, labelOverlap=True)
    return alt.X("depth:Q", axis=axis, scale=alt.Scale(domain=[depths[0], depths[-1]], padding=12, nice=False))


def step_axis(last: int) -> Any:
    """Return the axis of steps up to the last one."""
    alt, _ = plotting()
    axis = alt.Axis(format=",d", tickCount=6, tickMinStep=1, title="step", grid=False, labelOverlap=True)
    return alt.X("step:Q", axis=axis, scale=alt.Scale(domain=[0, last], padding=12, nice=False))


def looked_at(alt: Any, source: Any, x: Any, field: str = "depth") -> Any:
    """Return the upright line at the depth, or the step, that is looked at."""
    line = alt.Chart(source).mark_rule(color=ACCENT, strokeWidth=2, opacity=0.55)
    return line.encode(x=x).transform_filter(f"datum.{field} == current")
