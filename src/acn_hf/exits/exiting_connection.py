"""One pass through the layers of an ACN in which examples leave."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from ..modeling.connectivity import LongConnection
from ..modeling.depth import head_output, layers_path, output_logits, replace_submodule
from .departures import Departures, Tokens
from .policies import ExitPolicy
from .rows import of_examples, rows_of


def long_connection_path(model: PreTrainedModel) -> str:
    """Return the dotted name of the long connection, which every family keeps beside its layers."""
    return ".".join([*layers_path(model).split(".")[:-1], "long_connection"])


class ExitingConnection(nn.Module):
    """Stands in for the long connection in a view, for one pass; runs each layer on the examples that need it.

    Args:
        model (`PreTrainedModel`): The model of the view; its head is read at every depth at which examples may leave.
        policy (`ExitPolicy`): When an example leaves.
        counted (`torch.BoolTensor` of shape `(batch_size, sequence_length)`, *optional*):
            For a head that predicts tokens: those that decide.
        inputs (`Mapping`): What the model takes, of which a head of examples reads the attention mask at most.
    """

    model: PreTrainedModel

    def __init__(
        self, model: PreTrainedModel, policy: ExitPolicy, counted: torch.Tensor | None, inputs: Mapping[str, Any]
    ):
        super().__init__()
        self.__dict__["model"] = model  # not a submodule: it holds the long connection too
        self.long_connection = cast(LongConnection, model.get_submodule(long_connection_path(model)))
        self.attention_mask = inputs.get("attention_mask")
        self.departures = Departures(policy, self._logits, counted)

    def answer(self, inputs: Mapping[str, Any]) -> Any:
        """Return the output of the model, of each example at the depth at which it left."""
        return replace_submodule(self.model, long_connection_path(self.model), self)(**inputs)

    def run(self, layers: Iterable[nn.Module], embeddings: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the depth states of all examples, each at the depth at which the example left."""
        layers, departures = list(layers), self.departures
        departures.begin(embeddings, len(layers))
        if not len(embeddings):  # attention takes no empty batch
            return embeddings
        stream, options = self.long_connection.start(embeddings), (args, kwargs)
        for depth, layer in enumerate(layers):
            stays = departures.visit(depth, stream.depth_state)
            if stays is not None:
                if not len(stays):
                    return departures.states
                stream = of_examples(stream, stays, len(stream.depth_state))
                if self.attention_mask is not None:
                    self.attention_mask = rows_of(self.attention_mask, stays)
                options = of_examples((args, kwargs), departures.examples, len(embeddings))
            stream = self.long_connection.step(stream, layer, *options[0], **options[1])
        return departures.finish(stream.depth_state)

    def _logits(self, depth: int, states: torch.Tensor, tokens: Tokens | None) -> torch.Tensor:
        if tokens is None:  # of the inputs, a head of examples reads at most which tokens are padding
            return output_logits(head_output(self.model, states, {"attention_mask": self.attention_mask}))
        rows, positions = (place.to(states.device) for place in tokens)
        # A head of tokens reads each by itself: those that count make one sequence.
        return output_logits(head_output(self.model, states[rows, positions].unsqueeze(0), {})).squeeze(0)
