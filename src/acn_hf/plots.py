"""Results to matplotlib axes. Needs the extra `plots`."""

from typing import Any

import torch

from .exit_report import EarlyExitReport
from .profile import DepthProfile
from .scales import ResidualScales


def plot_depth_profile(profile: DepthProfile, *, depth: int | None = None, ax: Any = None) -> Any:
    """Draw the metric, and the number of parameters, against depth.

    Args:
        profile (`DepthProfile`): What to draw.
        depth (`int`, *optional*): A chosen depth to mark, one of those measured.
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
    value = None if depth is None else profile.value_at(depth)
    if ax is None:
        ax = _new_axes()
    parameters = ax.twinx()
    parameters.bar(profile.depths, profile.num_parameters, color="0.88", width=0.7)
    parameters.set_ylabel("parameters")
    parameters.yaxis.set_major_formatter(_engineering())
    parameters.set_ylim(0, 1.15 * max(profile.num_parameters))
    ax.set_zorder(parameters.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.plot(profile.depths, profile.values, marker="o", color="C0", label=profile.metric)
    ax.axhline(profile.values[-1], color="C0", linewidth=0.8, linestyle=":", label="full depth")
    if depth is not None and value is not None:
        label = f"chosen: depth {depth}, {profile.metric} {value:.3f}"
        ax.plot(
            [depth],
            [value],
            marker="o",
            markersize=12,
            fillstyle="none",
            color="C3",
            linestyle="",
            label=label,
        )
    ax.set_xlabel("depth (layers kept)")
    ax.set_ylabel(profile.metric)
    ax.set_xticks(profile.depths)
    ax.margins(y=0.1)
    ax.legend(loc="best", framealpha=0.9)
    return ax


def plot_residual_scales(scales: ResidualScales, *, ax: Any = None) -> Any:
    """Draw the residual scale of every layer, and where learned ones began.

    Args:
        scales (`ResidualScales`): What to draw.
        ax (`matplotlib.axes.Axes`, *optional*): Where to draw. Defaults to the axes of a new figure.

    Returns:
        `matplotlib.axes.Axes`

    Raises:
        ImportError: matplotlib is missing.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, plot_residual_scales, residual_scales

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=24))
    >>> plot_residual_scales(residual_scales(model)).get_ylabel()
    'residual scale'

    ```
    """
    if ax is None:
        ax = _new_axes()
    layers = range(1, len(scales.scales) + 1)
    ax.bar(layers, scales.scales, color="C0", width=0.7, label="learned" if scales.learned else "fixed")
    if scales.learned:
        ax.plot(layers, scales.initial, color="C3", marker="_", markersize=18, linestyle="", label="initial")
    for end, name in ((0, "ACN"), (1, "residual")):
        ax.axhline(end, color="0.6", linewidth=0.8, linestyle=":")
        ax.annotate(name, (1, end), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points")
    ax.set_xlabel("layer")
    ax.set_ylabel("residual scale")
    ax.set_xticks(list(layers))
    ax.margins(y=0.1)
    ax.legend(loc="best", framealpha=0.9)
    return ax


def plot_exit_depths(exits: EarlyExitReport | torch.Tensor, *, ax: Any = None) -> Any:
    """Draw how many examples leave at each depth.

    Args:
        exits (`EarlyExitReport` or `torch.Tensor`): What [`measure_early_exit`] returned, or the `exit_depths` of an
            output, of shape `(num_examples,)`; a tensor does not say how many layers there are above the deepest exit.
        ax (`matplotlib.axes.Axes`, *optional*): Where to draw. Defaults to the axes of a new figure.

    Returns:
        `matplotlib.axes.Axes`: The axes.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: There is no example.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import plot_exit_depths

    >>> axes = plot_exit_depths(torch.tensor([1, 3, 1, 2]))
    >>> [int(bar.get_height()) for bar in axes.patches]
    [0, 2, 1, 1]

    ```
    """
    counts = exits.exit_counts if isinstance(exits, EarlyExitReport) else tuple(torch.bincount(exits.cpu()).tolist())
    if not counts:
        raise ValueError("exit depths must hold at least one example; got none")
    mean = sum(depth * count for depth, count in enumerate(counts)) / sum(counts)
    if ax is None:
        ax = _new_axes()
    ax.bar(range(len(counts)), counts, color="C0", width=0.7)
    ax.axvline(mean, color="C3", linewidth=0.8, linestyle=":", label=f"mean depth {mean:.2f}")
    ax.set_xlabel("exit depth (layers run)")
    ax.set_ylabel("examples")
    ax.set_xticks(range(len(counts)))
    ax.legend(loc="best", framealpha=0.9)
    return ax


def _new_axes() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'acn-hf[plots]'") from error
    return Figure(figsize=(7, 4), dpi=150, layout="constrained").add_subplot()


def _engineering() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")
