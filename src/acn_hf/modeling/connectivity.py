"""Auto-compressing connectivity: the one idea of this package. Read this file first.

A residual network hands every layer the sum of all layers before it. An Auto-Compressing Network (ACN)
removes those short connections and adds one long connection from every layer to the output:

    x_i = f_i(x_{i-1}),    y_k = x_0 + x_1 + ... + x_k,    output y = y_L

Every depth state y_k goes through the same head, so one trained network contains L + 1 networks.
The residual scale alpha moves between the two: 0 is the ACN, 1 is the residual network.
Source: Auto-Compressing Networks, arXiv 2506.09714, which has the two ends of alpha only.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from .configuration_acn import AcnConfig

Scale = float | torch.Tensor
FLOAT16_MAX = torch.finfo(torch.float16).max


def is_number(scale: Scale, number: float) -> bool:
    """Return whether a scale that is not learned has this value."""
    return not isinstance(scale, torch.Tensor) and scale == number


def add_scaled(branch: torch.Tensor, skip: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Return `branch + scale * skip`; the ends 0 and 1 cost nothing extra and are exact to the bit."""
    if is_number(scale, 0):
        return branch
    if is_number(scale, 1):
        return branch + skip
    return branch + scale * skip if isinstance(scale, torch.Tensor) else torch.add(branch, skip, alpha=scale)


class ShortConnection(nn.Module):
    """What is left of one layer's residual connections: its input, scaled, added to its output.

    The scale is read from the config at every call, or with `learn_residual_scale` a parameter of shape `(1,)`.
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
    depth. The sum of half-precision outputs is held in float32 and handed out in the dtype of the embeddings.
    The outputs are what `output_hidden_states` (`y_k`) and `output_layer_outputs` (`x_i`) record.
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.config = config

    def weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        """Return `(keep, carry)` for one layer."""
        return (1.0, 0.0) if self.config.readout == "sum" else self.auto_weights(short)

    def auto_weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        """Return `(keep, carry)` of `readout="auto"`."""
        raise TypeError(f"{type(self).__name__} must say what readout='auto' is")

    def run(self, layers: Iterable[nn.Module], embeddings: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Run the layers, which have a `short_connection` each, and return the last depth state.

        Args:
            layers (iterable of `nn.Module`): Each maps `h` to `h'`, both of the shape of the embeddings.
            embeddings (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`): `x_0 = y_0`.
        """
        depth_state, layer_output, total = self(embeddings, embeddings, dtype=embeddings.dtype)
        residual_so_far = self.config.readout == "auto"
        for layer in layers:
            layer_input, short = layer_output, cast(ShortConnection, layer.short_connection)
            layer_output = layer(layer_input, *args, **kwargs)
            residual_so_far = residual_so_far and is_number(short.scale, 1)
            # While all scales are 1, y is h, and y' = h' holds to the bit.
            weights = (0.0, 0.0) if residual_so_far else self.weights(short)
            depth_state, layer_output, total = self(total, layer_output, layer_input, *weights, dtype=embeddings.dtype)
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
        if is_number(keep, 0):
            return layer_output, layer_output, layer_output
        wide = torch.promote_types(layer_output.dtype, torch.float32)
        total = add_scaled(layer_output.to(wide), total.to(layer_output.device, wide), keep)
        if layer_input is not None and not is_number(carry, 0):
            total = total - carry * layer_input.to(total.device, wide)
        # What float16 cannot hold becomes its largest number instead of infinity.
        inside = total.clamp(-FLOAT16_MAX, FLOAT16_MAX) if dtype == torch.float16 else total
        return inside.to(dtype), layer_output, total


class PreNormLongConnection(LongConnection):
    """Blocks whose norms stand before attention and MLP (ViT, Mixer): the stream is `h' = alpha * (c * h + a) + m`.

    `readout="auto"`: `y' = y + m + alpha * a`, that is `y + h' - alpha * c * h`.
    """

    def auto_weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        return 1.0, short.scale * short.attention_scale


class PostNormLongConnection(LongConnection):
    """Blocks whose norms stand after each addition (BERT). `readout="auto"`: `y' = (1 - alpha) * y + h'`."""

    def auto_weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        return 1.0 - short.scale, 0.0
