"""Auto-compressing connectivity: the one idea of this package. Read this file first.

A residual network hands every layer the sum of all layers before it. An Auto-Compressing Network (ACN)
removes those short connections and adds one long connection from every layer to the output:

    x_i = f_i(x_{i-1}),    y_k = x_0 + x_1 + ... + x_k,    output y = y_L

Every depth state y_k goes through the same head, so one trained network contains L + 1 networks.
The residual scale alpha moves between the two: 0 is the ACN, 1 is the residual network.
Source: Auto-Compressing Networks, arXiv 2506.09714, which has the two ends of alpha only.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import nn

from .configuration_acn import AcnConfig
from .upstream import detached_input

Scale = float | torch.Tensor
FLOAT16_MAX = torch.finfo(torch.float16).max  # handed out for what float16 cannot hold, instead of infinity


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
    Code of `torch.compile` would be compiled anew for every number in the config. While `moving` holds the number, as a
    tensor without dimensions, such code reads that.
    """

    def __init__(self, config: AcnConfig, layer_index: int):
        super().__init__()
        self.config = config
        self.layer_index = layer_index
        self.moving: torch.Tensor | None = None
        self.residual_scale = nn.Parameter(torch.empty(1)) if config.learn_residual_scale else None

    @property
    def scale(self) -> Scale:
        """The residual scale alpha of this layer."""
        if self.residual_scale is not None:
            return self.residual_scale
        if self.moving is not None and torch.compiler.is_compiling():
            return self.moving
        return self.initial_scale

    def move(self, scale: float | None) -> None:
        """Hold a number that changes from step to step for compiled code; with none the config alone has it."""
        if scale is None:
            self.moving = None
        elif self.moving is None:
            self.moving = torch.tensor(float(scale))
        else:
            self.moving.fill_(scale)

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


class Stream(NamedTuple):
    """Where a pass through the layers stands."""

    depth_state: torch.Tensor  # y_k
    layer_output: torch.Tensor  # x_k
    total: torch.Tensor  # y_k in the precision that the sum is held in
    dtype: torch.dtype  # of the embeddings
    is_residual: bool  # all scales so far are 1


class LongConnection(nn.Module):
    """The running sum of the layer outputs: `y' = keep * y + h' - carry * h`.

    `h` is what a layer reads, `h'` what it returns, `y` the sum so far. Only one sum is held, whatever the depth: of
    half-precision outputs in float32, handed out in the dtype of the embeddings. `output_hidden_states` (`y_k`) and
    `output_layer_outputs` (`x_i`) record the outputs. With `direct_gradient_only` no gradient passes through `h`.
    """

    def __init__(self, config: AcnConfig):
        super().__init__()
        self.config = config

    def auto_weights(self, short: ShortConnection) -> tuple[Scale, Scale]:
        """Return `(keep, carry)` of `readout="auto"`."""
        raise TypeError(f"{type(self).__name__} must say what readout='auto' is")

    def run(self, layers: Iterable[nn.Module], embeddings: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Run the layers, which have a `short_connection` each, and return the last depth state."""
        stream = self.start(embeddings)
        for layer in layers:
            stream = self.step(stream, layer, *args, **kwargs)
        return stream.depth_state

    def start(self, embeddings: torch.Tensor) -> Stream:
        """Return where a pass stands at depth 0: at `x_0 = y_0`, of the shape that every layer maps to itself."""
        is_residual = self.config.readout == "auto" and not self.config.direct_gradient_only
        return self(Stream(embeddings, embeddings, embeddings, embeddings.dtype, is_residual), embeddings)

    def step(self, stream: Stream, layer: nn.Module, *args, **kwargs) -> Stream:
        """Run one layer, and return where the pass stands one depth further."""
        if self.config.direct_gradient_only:
            stream = stream._replace(layer_output=detached_input(stream.layer_output, layer))
        layer_output, short = layer(stream.layer_output, *args, **kwargs), cast(ShortConnection, layer.short_connection)
        weights = self.auto_weights(short) if self.config.readout == "auto" else (1.0, 0.0)
        is_residual = stream.is_residual and is_number(short.scale, 1)
        return self(stream._replace(is_residual=is_residual), layer_output, *weights)

    def forward(self, stream: Stream, layer_output: torch.Tensor, keep: Scale = 0.0, carry: Scale = 0.0) -> Stream:
        """Return the stream with one more layer output in its sum."""
        if stream.is_residual or is_number(keep, 0):  # while all scales are 1, y is h, and y' = h' holds to the bit
            return Stream(layer_output, layer_output, layer_output, stream.dtype, stream.is_residual)
        wide = torch.promote_types(layer_output.dtype, torch.float32)
        total = add_scaled(layer_output.to(wide), stream.total.to(layer_output.device, wide), keep)
        if not is_number(carry, 0):
            total = total - carry * stream.layer_output.to(total.device, wide)
        inside = total.clamp(-FLOAT16_MAX, FLOAT16_MAX) if stream.dtype == torch.float16 else total
        return Stream(inside.to(stream.dtype), layer_output, total, stream.dtype, stream.is_residual)


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
