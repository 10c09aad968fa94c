"""Auto-compressing connectivity: the one idea of this package. Read this file first.

A residual network hands every layer the sum of all layers before it. An Auto-Compressing Network (ACN)
removes those short connections and adds one long connection from every layer to the output:

    x_i = f_i(x_{i-1}),    y_k = x_0 + x_1 + ... + x_k,    output y = y_L

Every depth state y_k goes through the same head, so one trained network contains L + 1 networks.
The residual scale alpha moves between the two: 0 is the ACN, 1 is the residual network.

Source: Auto-Compressing Networks, arXiv 2506.09714.
Differs from the paper: alpha, of which the paper has the two ends.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from .configuration_acn import AcnConfig

Scale = float | torch.Tensor


def add_scaled(branch: torch.Tensor, skip: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Return `branch + scale * skip`; the ends 0 and 1 cost nothing extra and are exact to the bit."""
    if isinstance(scale, torch.Tensor):
        return branch + scale * skip
    if scale == 0:
        return branch
    if scale == 1:
        return branch + skip
    return torch.add(branch, skip, alpha=scale)


class ShortConnection(nn.Module):
    """What is left of one layer's residual connections: its input, scaled, added to its output.

    With `config.learn_residual_scale` the scale is a parameter of shape `(1,)`. Otherwise it is read from the
    config at every call, so that a callback can move it during training.
    """

    def __init__(self, config: AcnConfig, layer_index: int):
        super().__init__()
        self.config = config
        self.layer_index = layer_index
        self.residual_scale = nn.Parameter(torch.empty(1)) if config.learn_residual_scale else None

    @property
    def scale(self) -> Scale:
        """The residual scale alpha of this layer."""
        return self.initial_scale if self.residual_scale is None else self.residual_scale

    @property
    def initial_scale(self) -> float:
        """The scale that the config names for this layer."""
        scale = self.config.residual_scale
        return scale[self.layer_index] if isinstance(scale, list) else scale

    @property
    def attention_scale(self) -> Scale:
        """The scale c of the short connection around attention."""
        return 1.0 if self.config.attention_residual else self.scale

    def around_attention(self, attention: torch.Tensor, layer_input: torch.Tensor) -> torch.Tensor:
        """Return `u = a + c * h`."""
        return add_scaled(attention, layer_input, self.attention_scale)

    def around_mlp(self, mlp: torch.Tensor, mlp_input: torch.Tensor) -> torch.Tensor:
        """Return `m + alpha * u`."""
        return add_scaled(mlp, mlp_input, self.scale)


class LongConnection(nn.Module):
    """The running sum of the layer outputs: `y' = keep * y + h' - carry * h`.

    `h` is what a layer reads, `h'` what it returns, and `y` the sum so far; only one sum is held, whatever the
    depth. Subclasses say what `keep` and `carry` are. The sum of half-precision outputs is held in float32 and
    handed out in the dtype of the embeddings, within its range.

    Its outputs are what `output_hidden_states` (`y_k`) and `output_layer_outputs` (`x_i`) record.
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.config = config

    def weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        """Return `(keep, carry)` for the layer that `short` belongs to."""
        raise TypeError(f"{type(self).__name__} must define weights()")

    def run(self, layers: Iterable[nn.Module], embeddings: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Run the layers one after the other and return the last depth state.

        Args:
            layers (iterable of `nn.Module`): Each maps a layer input to a layer output and has a `short_connection`.
            embeddings (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`): `x_0 = y_0`.
            args, kwargs: Handed to every layer as they are.
        """
        depth_state, layer_output, total = self(embeddings, embeddings, dtype=embeddings.dtype)
        residual_so_far = self.config.readout == "auto"
        for layer in layers:
            layer_input, short = layer_output, cast(ShortConnection, layer.short_connection)
            layer_output = layer(layer_input, *args, **kwargs)
            keep, carry = self.weights(short)
            scale = short.scale
            residual_so_far = residual_so_far and not isinstance(scale, torch.Tensor) and scale == 1
            if residual_so_far:  # then y is h, and y' = h' holds to the bit
                keep, carry = 0.0, 0.0
            depth_state, layer_output, total = self(
                total, layer_output, layer_input, keep=keep, carry=carry, dtype=embeddings.dtype
            )
        return depth_state

    def forward(
        self,
        total: torch.Tensor,
        layer_output: torch.Tensor,
        layer_input: torch.Tensor | None = None,
        keep: Scale = 0.0,
        carry: Scale = 0.0,
        *,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return `(y', h', the sum in the precision it is held in)`."""
        if not isinstance(keep, torch.Tensor) and keep == 0:
            return layer_output, layer_output, layer_output
        wide = torch.promote_types(layer_output.dtype, torch.float32)
        total = add_scaled(layer_output.to(wide), total.to(layer_output.device, wide), keep)
        if layer_input is not None and (isinstance(carry, torch.Tensor) or carry != 0):
            total = total - carry * layer_input
        return _narrow(total, dtype), layer_output, total


class PreNormLongConnection(LongConnection):
    """Blocks whose norms stand before attention and MLP (ViT, Mixer): the stream is `h' = alpha * (c * h + a) + m`.

    `readout="auto"`: `y' = y + m + alpha * a`, that is `y + h' - alpha * c * h`.
    """

    def weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        if self.config.readout == "sum":
            return 1.0, 0.0
        return 1.0, short.scale * short.attention_scale


class PostNormLongConnection(LongConnection):
    """Blocks whose norms stand after each addition (BERT). `readout="auto"`: `y' = (1 - alpha) * y + h'`."""

    def weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        if self.config.readout == "sum":
            return 1.0, 0.0
        return 1.0 - short.scale, 0.0


def _narrow(total: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Cast to `dtype`; what float16 cannot hold becomes its largest number instead of infinity."""
    if dtype == torch.float16 and total.dtype != dtype:
        limit = torch.finfo(dtype).max
        total = total.clamp(-limit, limit)
    return total.to(dtype)
