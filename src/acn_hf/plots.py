"""Results of analysis and early exit to matplotlib axes; `depth` draws its profiles. Needs the extra `plots`."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch

from .analysis import ConnectivityMatrix, GradientFlow, GradientFlowHistory
from .analysis.scales import ResidualScales
from .depth.drawing import new_axes
from .exits.report import EarlyExitReport

_GRADIENTS = {
    "full": ("full (FG)", "C0"),
    "direct": ("direct (DG)", "C1"),
    "mediated": ("mediated (NG)", "C2"),
    "ratio": ("DG / FG", "C3"),
}
"""What a part of a gradient flow is called, and its colour."""


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
        ax = new_axes()
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
        ax = new_axes()
    ax.bar(range(len(counts)), counts, color="C0", width=0.7)
    ax.axvline(mean, color="C3", linewidth=0.8, linestyle=":", label=f"mean depth {mean:.2f}")
    ax.set_xlabel("exit depth (layers run)")
    ax.set_ylabel("examples")
    ax.set_xticks(range(len(counts)))
    ax.legend(loc="best", framealpha=0.9)
    return ax


def plot_gradient_flow(
    flow: GradientFlow | GradientFlowHistory,
    *,
    part: Literal["full", "direct", "mediated", "ratio"] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the gradient of every depth and its parts: lines for one measurement, a heat map over the steps of many.

    Args:
        flow (`GradientFlow` or `GradientFlowHistory`): What to draw.
        part (`"full"`, `"direct"`, `"mediated"` or `"ratio"`, *optional*): FG, DG, NG or DG / FG alone. Defaults to the
            first three for one measurement, and to `"ratio"` for a history.
        ax (`matplotlib.axes.Axes`, *optional*): Where to draw. Defaults to the axes of a new figure.

    Returns:
        `matplotlib.axes.Axes`

    Raises:
        ImportError: matplotlib is missing.
        ValueError: `part` is not known, or there is no measurement.

    Example:

    ```python
    >>> from acn_hf import GradientFlow, plot_gradient_flow

    >>> flow = GradientFlow((0, 1, 2), (3.0, 2.0, 1.0), (1.0, 1.0, 1.0), (2.5, 1.5, 0.0), 8)
    >>> [line.get_label() for line in plot_gradient_flow(flow).get_lines()]
    ['full (FG)', 'direct (DG)', 'mediated (NG)']

    ```
    """
    if part is not None and part not in _GRADIENTS:
        raise ValueError(f"part must be one of {', '.join(_GRADIENTS)}; got {part!r}")
    if isinstance(flow, GradientFlowHistory):
        return _gradients_over_steps(flow, part or "ratio", ax)
    ax = new_axes() if ax is None else ax
    parts = [name for name in _GRADIENTS if name != "ratio"] if part is None else [part]
    for name in parts:
        ax.plot(flow.depths, getattr(flow, name), marker="o", color=_GRADIENTS[name][1], label=_GRADIENTS[name][0])
    ax.set_xlabel("depth (0: embeddings)")
    ax.set_ylabel(_GRADIENTS["ratio"][0] if part == "ratio" else "norm of the gradient")
    ax.set_xticks(flow.depths)
    ax.set_ylim(bottom=0)
    ax.legend(loc="best", framealpha=0.9)
    return ax


def _gradients_over_steps(history: GradientFlowHistory, part: str, ax: Any) -> Any:
    if not history.steps:
        raise ValueError("a history must hold at least one measurement; got none")
    last = max(flow.depths[-1] for flow in history.flows)
    columns = []
    for flow in history.flows:
        values = dict(zip(flow.depths, getattr(flow, part), strict=True))
        columns.append([values.get(depth, math.nan) for depth in range(last + 1)])
    ax = _heat_map([list(row) for row in zip(*columns, strict=True)], _GRADIENTS[part][0], ax)
    ax.invert_yaxis()
    ax.set_xlabel("step")
    ax.set_ylabel("depth (0: embeddings)")
    shown = range(0, len(history.steps), math.ceil(len(history.steps) / 12))
    ax.set_xticks(shown, [str(history.steps[place]) for place in shown])
    ax.set_yticks(range(last + 1))
    return ax


def plot_connectivity(matrix: ConnectivityMatrix, *, ax: Any = None) -> Any:
    """Draw which branches each layer and the head read, and with which weight, as a heat map.

    Args:
        matrix (`ConnectivityMatrix`): What to draw.
        ax (`matplotlib.axes.Axes`, *optional*): Where to draw. Defaults to the axes of a new figure.

    Returns:
        `matplotlib.axes.Axes`

    Raises:
        ImportError: matplotlib is missing.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, connectivity_matrix, plot_connectivity

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=24))
    >>> [label.get_text() for label in plot_connectivity(connectivity_matrix(model)).get_yticklabels()]
    ['layer 1', 'layer 2', 'head']

    ```
    """
    size = len(matrix.weights)
    # Layer j reads nothing of layers above it: there is no such connection to have a weight.
    weights = [[weight if i <= j else math.nan for i, weight in enumerate(row)] for j, row in enumerate(matrix.weights)]
    ax = _heat_map(weights, "weight" if matrix.exact else "weight (norms taken for the identity)", ax, low=0)
    ax.set_xlabel("branch of layer (0: embeddings)")
    ax.set_ylabel("read by")
    ax.set_xticks(range(size))
    ax.set_yticks(range(size), [*(f"layer {reader}" for reader in matrix.readers[:-1]), matrix.readers[-1]])
    return ax


def _heat_map(rows: Sequence[Sequence[float]], label: str, ax: Any, low: float | None = None) -> Any:
    """Return axes with a heat map and what its colours mean; numbers that are none stay white."""
    ax = new_axes() if ax is None else ax
    image = ax.imshow(rows, aspect="auto", cmap="viridis", vmin=low, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax
