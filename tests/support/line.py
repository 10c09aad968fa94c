"""Networks of one number, whose gradients are known in closed form, on the connections of every ACN."""

from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from acn_hf.modeling.configuration_acn import AcnConfig
from acn_hf.modeling.connectivity import PreNormLongConnection, ShortConnection


@strict
class LineConfig(AcnConfig):
    """A line has no fields of its own."""

    model_type = "line"


class Gain(nn.Module):
    """`w * x`."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return self.weight * x


class LineLayer(Gain):
    """`h' = w * h + alpha * c * h`: the MLP of a block without attention, which reads the input of the block."""

    def __init__(self, config, index):
        super().__init__()
        self.short_connection = ShortConnection(config, index)

    def forward(self, hidden_states):
        attention = torch.zeros_like(hidden_states)
        after_attention = self.short_connection.around_attention(attention, hidden_states)
        return self.short_connection.around_mlp(super().forward(hidden_states), after_attention)


class LinePreTrainedModel(PreTrainedModel):
    config_class = LineConfig
    base_model_prefix = "line"
    layers_name = "layers"

    def _init_weights(self, module):
        pass


class LineModel(LinePreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embeddings = Gain()
        self.layers = nn.ModuleList(LineLayer(config, index) for index in range(config.num_hidden_layers))
        self.long_connection = PreNormLongConnection(config)
        self.post_init()

    def forward(self, x):
        return self.long_connection.run(self.layers, self.embeddings(x))


@dataclass
class LineOutput(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class LineWithLoss(LinePreTrainedModel):
    """The loss is the mean of the outputs, so that gradients are those of the output itself."""

    def __init__(self, config):
        super().__init__(config)
        self.line = LineModel(config)
        self.post_init()

    def forward(self, x, labels=None, return_dict=True):
        output = self.line(x)
        return LineOutput(None if labels is None else output.mean(), output)


def build_line(weights, **options) -> LineWithLoss:
    """Return a line whose layers have these weights; that of its embeddings is 1."""
    model = LineWithLoss(LineConfig(num_hidden_layers=len(weights), **options))
    for layer, weight in zip(model.line.layers, weights, strict=True):
        layer.weight.data.fill_(weight)
    return model
