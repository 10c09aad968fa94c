"""How much of every layer's output reaches each layer, and the head, through the connections between layers alone."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from rich.table import Table

from ..exits.exiting_connection import long_connection_path
from ..modeling.connectivity import LongConnection, PreNormLongConnection, Scale, ShortConnection
from ..modeling.depth import check_layers_match_config, short_connections
from ..support.records import Record, render
from ..support.wrappers import unwrap_acn


@dataclass(frozen=True)
class ConnectivityMatrix(Record):
    """With which weight the branch of every layer reaches what each layer, and the head, reads.

    The branch of a layer is what it adds to its own input, which is scaled: `alpha * a + m`, with the output `a` of
    attention and `m` of the MLP. The branch of "layer 0" are the embeddings. What goes through attention or an MLP is
    not a connection, so a layer's short connection around attention, where the MLP reads it, does not show.

    Args:
        weights (`tuple[tuple[float, ...], ...]`): Row `j - 1` is what layer `j` reads, for `j` in `1..L`; the last
            row is what the head reads. Column `i` is the branch of layer `i`, for `i` in `0..L`.
        exact (`bool`): Whether what is read is this sum. It is, if norms stand inside the branches (ViT, the standard
            Mixer). Where a norm stands between layers (BERT, `block_type="paper"`), it rescales all that passes;
            the weights take it, and the ReLU of that block, for the identity.

    Raises:
        ValueError: The weights are not numbers in a square.
    """

    weights: tuple[tuple[float, ...], ...]
    exact: bool

    def __post_init__(self) -> None:
        sizes = {len(row) for row in self.weights}
        if sizes != {len(self.weights)}:
            raise ValueError(
                f"weights must hold as many numbers in each row as there are rows, {len(self.weights)}; "
                f"got {sorted(sizes)}"
            )
        for weight in (weight for row in self.weights for weight in row):
            if not isinstance(weight, (int, float)):
                raise ValueError(f"weights must be numbers; got {weight!r}")

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "weights": [tuple(row) for row in fields["weights"]]}

    @property
    def readers(self) -> tuple[str, ...]:
        """What each row stands for: `"1"` to `"L"`, and `"head"`."""
        return (*map(str, range(1, len(self.weights))), "head")

    def __str__(self) -> str:
        table = Table("read by", *map(str, range(len(self.weights))))
        for reader, row in zip(self.readers, self.weights, strict=True):
            table.add_row(reader, *(f"{weight:.3g}" if weight else "" for weight in row))
        text = render(table, width=max(100, 9 * (len(self.weights) + 2)))
        note = "" if self.exact else "\nnorms between layers are taken for the identity"
        return f"Weight of the branch of each layer (0: embeddings)\n{text}{note}"


def connectivity_matrix(model: Any) -> ConnectivityMatrix:
    """Return with which weight the branch of every layer reaches each layer, and the head.

    In an ACN each layer reads the branch before it alone, and the head reads all of them; in a residual network each
    layer reads all branches below. Between the two the weights are products of residual scales. No data are needed.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model of acn_hf, with any head or none.

    Returns:
        `ConnectivityMatrix`: `print` shows a table; [`plot_connectivity`] draws it.

    Raises:
        DepthError: Layers and config disagree.
        TypeError: `model` is not an ACN.

    Source: arXiv 2506.09714, section 2, for the two ends.

    Example:

    ```python
    >>> from acn_hf import AcnViTConfig, AcnViTModel, connectivity_matrix

    >>> fields = {"image_size": 8, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 2}
    >>> connectivity_matrix(AcnViTModel(AcnViTConfig(**fields))).weights
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0))
    >>> connectivity_matrix(AcnViTModel(AcnViTConfig(**fields, residual_scale=0.5))).weights
    ((1.0, 0.0, 0.0), (0.25, 1.0, 0.0), (1.0, 1.0, 1.0))

    ```
    """
    model = unwrap_acn(model)
    check_layers_match_config(model)
    long = cast(LongConnection, model.get_submodule(long_connection_path(model)))
    shorts = short_connections(model)
    branches = torch.eye(len(shorts) + 1, dtype=torch.float64)
    layer_output = depth_state = branches[0]  # x_0 = y_0
    rows = []
    for short, branch in zip(shorts, branches[1:], strict=True):
        rows.append(layer_output)
        # Of y' = keep * y + x' - carry * x and x' = passed * x + branch, so that what cancels does so exactly.
        passed = _passed(short)
        keep, carry = map(_number, long.auto_weights(short) if short.config.readout == "auto" else (1.0, 0.0))
        depth_state = keep * depth_state + (passed - carry) * layer_output + branch
        layer_output = passed * layer_output + branch
    rows.append(depth_state)
    return ConnectivityMatrix(tuple(tuple(row.tolist()) for row in rows), isinstance(long, PreNormLongConnection))


def _passed(short: ShortConnection) -> float:
    """Return the weight with which a layer's input stands in its output, beside its branch."""
    if getattr(short.config, "block_type", None) == "paper":  # whose block has one addition, and not two
        return _number(short.scale)
    return _number(short.scale * short.attention_scale)


def _number(scale: Scale) -> float:
    return scale.item() if isinstance(scale, torch.Tensor) else float(scale)
