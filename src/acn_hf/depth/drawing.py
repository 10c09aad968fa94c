"""Depth profiles to matplotlib axes: one of them, and how it grew. Needs the extra `plots`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..support.spread import evenly
from .profile import DepthProfile

EARLIER = 12
"""Profiles that are drawn behind the newest one at most."""
RING: dict[str, Any] = {"marker": "o", "markersize": 12, "fillstyle": "none", "color": "C3", "linestyle": ""}
"""How one depth is marked."""


def plot_depth_profile(
    profile: DepthProfile,
    *,
    depth: int | None = None,
    before: DepthProfile | None = None,
    healed: Mapping[int, float] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the metric, and the number of parameters, against depth.

    Args:
        profile (`DepthProfile`): What to draw.
        depth (`int`, *optional*): A chosen depth to mark, one of those measured. It is marked where its model is: as it
            was healed if that is better, else on the line.
        before (`DepthProfile`, *optional*): The metric of the model before every depth of it was taught, as a second
            line.
        healed (`dict[int, float]`, *optional*): The metric at each depth at which the model was cut and healed, as
            points.
        ax (`matplotlib.axes.Axes`, *optional*): Where to draw. Defaults to the axes of a new figure.

    Returns:
        `matplotlib.axes.Axes`: The axes of the metric.

    Raises:
        ImportError: matplotlib is missing.
        ProfileError: `depth` was not measured.

    Example:

    ```python
    >>> from acn_hf import DepthProfile, plot_depth_profile

    >>> profile = DepthProfile((0, 1, 2), (0.1, 0.8, 0.9), "accuracy", True, 100, (10, 60, 110))
    >>> plot_depth_profile(profile, depth=2).get_ylabel()
    'accuracy'

    ```
    """
    points = dict(sorted((healed or {}).items()))
    value = None if depth is None else profile.value_at(depth)
    if depth is not None and value is not None and not profile.is_better(value, points.get(depth, value)):
        value = points.get(depth, value)
    if ax is None:
        ax = new_axes()
    _draw_parameters(profile, ax)
    ax.plot(
        profile.depths, profile.values, marker="o", color="C0", label=profile.metric if before is None else "taught"
    )
    if before is not None:
        ax.plot(
            before.depths,
            before.values,
            marker="s",
            markersize=4,
            color="0.45",
            linestyle="--",
            label="before teaching",
        )
    end, colour, label = (
        (profile, "C0", "full depth") if before is None else (before, "0.45", "full depth, before teaching")
    )
    ax.axhline(end.values[-1], color=colour, linewidth=0.8, linestyle=":", label=label)
    if points:
        shown = {"marker": "D", "markersize": 6, "color": "C2", "linestyle": "", "label": "healed"}
        ax.plot(list(points), list(points.values()), **shown)
    if depth is not None:
        ax.plot([depth], [value], **RING, label=f"chosen: depth {depth}, {profile.metric} {value:.3f}")
    return _against_depth(ax, profile.metric, profile.depths)


def _against_depth(ax: Any, metric: str, depths: Sequence[int]) -> Any:
    """Return axes that say what is drawn against depth."""
    ax.set_xlabel("depth (layers kept)")
    ax.set_ylabel(metric)
    ax.set_xticks(depths)
    ax.margins(y=0.1)
    ax.legend(loc="best", framealpha=0.9)
    return ax


def _draw_parameters(profile: DepthProfile, ax: Any) -> None:
    """Draw the number of parameters at each depth as bars, behind what is drawn later."""
    parameters = ax.twinx()
    parameters.bar(profile.depths, profile.num_parameters, color="0.88", width=0.7)
    parameters.set_ylabel("parameters")
    parameters.yaxis.set_major_formatter(_engineering())
    parameters.set_ylim(0, 1.15 * max(profile.num_parameters))
    ax.set_zorder(parameters.get_zorder() + 1)
    ax.patch.set_visible(False)


def plot_profile_history(
    history: Mapping[int, Mapping[int, float]], metric: str, *, effective_depth: int | None = None, ax: Any = None
) -> Any:
    """Draw the newest of the profiles that were measured while training, with earlier ones paler behind it.

    Args:
        history (`dict[int, dict[int, float]]`): The metric at each depth, by the step at which it was measured. Of many
            the first and some that are evenly spread are drawn.
        metric (`str`): Its name.
        effective_depth (`int`, *optional*): That of the newest profile, to mark.
        ax (`matplotlib.axes.Axes`, *optional*): Where to draw. Defaults to the axes of a new figure.

    Returns:
        `matplotlib.axes.Axes`

    Raises:
        ImportError: matplotlib is missing.
        ValueError: There is no profile.
    """
    if not history:
        raise ValueError("a history must hold at least one measurement; got none")
    ax = new_axes() if ax is None else ax
    *before, newest = sorted(history)
    for place, step in enumerate(shown := evenly(before, EARLIER)):
        # The nearer in time, the darker: one hue, which is the same to everybody.
        strength = 0.15 + 0.35 * (place + 1) / len(shown)
        label = f"from step {step:,} on" if place == 0 else None
        ax.plot(*_curve(history[step]), color="C0", alpha=strength, linewidth=1, label=label)
    ax.plot(*_curve(history[newest]), marker="o", color="C0", linewidth=2, label=f"step {newest:,}")
    if effective_depth is not None and effective_depth in history[newest]:
        label = f"effective depth {effective_depth}"
        ax.plot([effective_depth], [history[newest][effective_depth]], **RING, label=label)
    return _against_depth(ax, metric, sorted({depth for values in history.values() for depth in values}))


def _curve(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    depths = sorted(values)
    return depths, [values[depth] for depth in depths]


def new_axes() -> Any:
    """Return the axes of a new figure.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'acn-hf[plots]'") from error
    return Figure(figsize=(7, 4), dpi=150, layout="constrained").add_subplot()


def _engineering() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")
