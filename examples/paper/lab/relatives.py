"""The relatives of residual networks, as another module in the place of the long connection.

Each says what a layer reads and what the head reads at a depth; the layers, their weights and the head stay those of
the ACN. Every relative has a depth state for each depth, so it is profiled like an ACN.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn

from acn_hf.modeling.connectivity import LongConnection


class FeedForwardConnection(LongConnection):
    """No connections at all: a layer reads the layer before, the head reads the last one. Set `residual_scale` to 0."""

    def step(self, stream, layer, *args, **kwargs):
        layer_output = layer(stream.layer_output, *args, **kwargs)
        return self(stream._replace(is_residual=True), layer_output)


class LayerSkipConnection(LongConnection):
    """Leaves out layers at random while training, the later the more often; set `residual_scale` to 1.

    Layer `i` of `0..L-1` is left out for an example with probability `largest * (2 ** (i / (L - 1)) - 1)`. The other
    half of LayerSkip, the loss at every depth, is `Recipe.supervision="layerskip"`.

    Source: LayerSkip, arXiv 2404.16710, section 4.1 (constant in time).
    """

    largest = 0.2

    def step(self, stream, layer, *args, **kwargs):
        layer_output, read = layer(stream.layer_output, *args, **kwargs), stream.layer_output
        if self.training:
            index, last = layer.short_connection.layer_index, max(self.config.num_hidden_layers - 1, 1)
            probability = self.largest * (2 ** (index / last) - 1)
            drawn = torch.rand(len(read), *[1] * (read.ndim - 1), device=read.device)
            layer_output = torch.where(drawn < probability, read, layer_output)
        return self(stream, layer_output)


class History(NamedTuple):
    """Where a pass stands in a network whose layers read all layers before them."""

    depth_state: torch.Tensor
    layer_output: torch.Tensor
    outputs: tuple[torch.Tensor, ...]


class HistoryConnection(LongConnection, ABC):
    """Base of networks in which `mix` makes what a layer reads, and the head, of all outputs so far."""

    @abstractmethod
    def mix(self, outputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the depth state after the outputs `x_0..x_k`."""

    def start(self, embeddings):
        return self(History(embeddings, embeddings, ()), embeddings)

    def step(self, stream, layer, *args, **kwargs):
        return self(stream, layer(stream.depth_state, *args, **kwargs))

    def forward(self, stream, layer_output):
        outputs = (*stream.outputs, layer_output)
        return History(self.mix(outputs), layer_output, outputs)


class DenseFormerConnection(HistoryConnection):
    """A weighted average of all outputs so far after every residual block; it starts as the residual network.

    Set `residual_scale` to 1: the blocks keep their own residual connections.

    Source: DenseFormer, arXiv 2402.02622, equation 2 (dilation 1, period 1).
    """

    def __init__(self, config):
        super().__init__(config)
        self.averages = nn.ParameterList(
            [nn.Parameter(torch.eye(depth + 1)[depth]) for depth in range(config.num_hidden_layers + 1)]
        )

    def mix(self, outputs):
        weights = self.averages[len(outputs) - 1]
        return sum(weight * output for weight, output in zip(weights, outputs, strict=True))


class DenseNetConnection(HistoryConnection):
    """A learned map of the concatenation of all outputs so far; blocks have no residual connection of their own.

    Set `residual_scale` to 0. The width is that of the other networks, so the map takes the part of DenseNet's
    bottleneck and transition layers.

    Source: Densely Connected Convolutional Networks, arXiv 1608.06993, equation 2, carried over to blocks of one width.
    """

    def __init__(self, config):
        super().__init__(config)
        width = config.hidden_size
        self.maps = nn.ModuleList(
            [nn.Linear((depth + 1) * width, width, bias=False) for depth in range(1, config.num_hidden_layers + 1)]
        )

    def mix(self, outputs):
        return outputs[0] if len(outputs) == 1 else self.maps[len(outputs) - 2](torch.cat(outputs, dim=-1))
