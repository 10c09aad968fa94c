"""What the residual scales of a model are, and what training has made of them."""

from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from ..modeling.depth import short_connections
from ..support.records import Record, render
from ..support.wrappers import unwrap_acn


@dataclass(frozen=True)
class ResidualScales(Record):
    """The residual scale of every layer: 0 is an ACN, 1 a residual network.

    Args:
        scales (`tuple[float, ...]`): Of layer 1 to `L`. Learned scales may leave [0, 1].
        initial (`tuple[float, ...]`): What the config says: where learned scales began.
        learned (`bool`): Whether they are parameters.
        attention_residual (`bool`): Whether the short connections around attention are whole, whatever the scales are.
        readout (`str`): What the long connections add up, `"auto"` or `"sum"`.
    """

    scales: tuple[float, ...]
    initial: tuple[float, ...]
    learned: bool
    attention_residual: bool
    readout: str

    def __str__(self) -> str:
        title = f"Residual scales ({'learned' if self.learned else 'fixed'}), readout {self.readout}"
        table = Table("layer", "scale", "initial", "change", title=title)
        for number, (scale, initial) in enumerate(zip(self.scales, self.initial, strict=True), start=1):
            table.add_row(str(number), f"{scale:.4f}", f"{initial:.4f}", f"{scale - initial:+.4f}")
        return render(table)


def residual_scales(model: Any) -> ResidualScales:
    """Return the residual scale of every layer of a model.

    With `learn_residual_scale=True` each layer's scale is a parameter (the learned hybrid of the paper, H-ACN), which
    begins at the config's `residual_scale`. At the learning rate of the weights such a scale moves by thousandths: give
    it a group of its own in the optimiser, with a rate near 0.01 and without weight decay (`docs/conversion.md`).

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model of acn_hf, with any head or none.

    Returns:
        `ResidualScales`: `print` shows a table; [`plot_residual_scales`] draws it.

    Raises:
        TypeError: `model` is not an ACN.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, residual_scales

    >>> config = AcnBertConfig(num_hidden_layers=2, hidden_size=24, residual_scale=0.5, learn_residual_scale=True)
    >>> residual_scales(AcnBertModel(config)).scales
    (0.5, 0.5)

    ```
    """
    inner = unwrap_acn(model)
    layers = short_connections(inner)
    return ResidualScales(
        scales=tuple(float(torch.as_tensor(short.scale).detach()) for short in layers),
        initial=tuple(float(short.initial_scale) for short in layers),
        learned=inner.config.learn_residual_scale,
        attention_residual=inner.config.attention_residual,
        readout=inner.config.readout,
    )
