"""One pass through the layers in which examples leave: who leaves, and how the others go on."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedModel

from ..modeling.connectivity import LongConnection
from ..modeling.depth import head_output, layers_path, output_logits
from .policies import ExitPolicy


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
        attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
            0 where a token is padding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        policy: ExitPolicy,
        counted: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
    ):
        super().__init__()
        self.long_connection = cast(LongConnection, model.get_submodule(long_connection_path(model)))
        self.judge = _Judge(model, policy, counted, attention_mask)
        self.exit_depths = torch.empty(0, dtype=torch.long)
        """After the pass, how many layers ran on each example."""

    def run(self, layers: Iterable[nn.Module], embeddings: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the depth states of all examples, each at the depth at which the example left."""
        layers = list(layers)
        examples = torch.arange(len(embeddings), device=embeddings.device)  # those that are still here
        depth_states = torch.empty_like(embeddings)
        self.exit_depths = torch.full_like(examples, len(layers))
        if not len(examples):  # attention takes no empty batch
            return embeddings
        stream, options = self.long_connection.start(embeddings), (args, kwargs)
        for depth, layer in enumerate(layers):
            if depth >= self.judge.policy.min_depth:
                leaves = self.judge.who_leaves(stream.depth_state, depth).to(examples.device)
                gone = leaves.nonzero().squeeze(1)
                depth_states[examples[gone]] = rows_of(stream.depth_state, gone).to(depth_states)
                self.exit_depths[examples[gone]] = depth
                if len(gone) == len(examples):
                    return depth_states
                if len(gone):
                    stays = ~leaves
                    here = stays.nonzero().squeeze(1)
                    stream = of_examples(stream, here, len(examples))
                    self.judge.keep(stays)
                    examples = examples[here]
                    options = of_examples((args, kwargs), examples, len(embeddings))
            stream = self.long_connection.step(stream, layer, *options[0], **options[1])
        depth_states[examples] = stream.depth_state.to(depth_states)
        return depth_states


class _Judge:
    """Applies a policy to the examples of one pass, or to their tokens that count, and holds its memory."""

    def __init__(
        self,
        model: PreTrainedModel,
        policy: ExitPolicy,
        counted: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
    ):
        self.model = model
        self.policy = policy
        # Of each token that counts, the row of its example and its position.
        self.tokens = None if counted is None else counted.nonzero(as_tuple=True)
        self.attention_mask = attention_mask
        self.memory: torch.Tensor | None = None

    def who_leaves(self, depth_state: torch.Tensor, depth: int) -> torch.Tensor:
        """Return a truth value for each example of the depth state."""
        scores, self.memory = self.policy.score(self._logits(depth_state), depth, self.memory)
        if self.tokens is not None:
            scores = least_scores(scores, self.tokens[0], len(depth_state))
        return scores >= self.policy.bound

    def _logits(self, depth_state: torch.Tensor) -> torch.Tensor:
        """Return the logits of shape `(num_predictions, num_classes)`."""
        if self.tokens is None:  # of the inputs, a head of examples reads at most which tokens are padding
            return output_logits(head_output(self.model, depth_state, {"attention_mask": self.attention_mask}))
        rows, positions = (place.to(depth_state.device) for place in self.tokens)
        # A head of tokens reads each by itself: those that count make one sequence.
        return output_logits(head_output(self.model, depth_state[rows, positions].unsqueeze(0), {})).squeeze(0)

    def keep(self, stays: torch.Tensor) -> None:
        """Forget the examples that left; `stays` has a truth value for each example that was there."""
        kept = stays
        if self.tokens is not None:
            rows, positions = self.tokens
            kept = stays[rows]
            self.tokens = ((stays.cumsum(0) - 1)[rows[kept]], positions[kept])
        if self.attention_mask is not None:
            self.attention_mask = rows_of(self.attention_mask, stays)
        if self.memory is not None:
            self.memory = rows_of(self.memory, kept)


def least_scores(scores: torch.Tensor, examples: torch.Tensor, num_examples: int) -> torch.Tensor:
    """Return the least score of the tokens of each example, infinity where there is none.

    Args:
        scores (`torch.Tensor` of shape `(num_tokens,)`): How final the prediction of each token is.
        examples (`torch.LongTensor` of shape `(num_tokens,)`): The row of the example of each token.
        num_examples (`int`): Number of rows.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    least = scores.new_full((num_examples,), torch.inf)
    return least.scatter_reduce(0, examples.to(scores.device), scores, "amin")


def rows_of(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return some rows of a tensor, which may lie on another device than their numbers."""
    return tensor[rows.to(tensor.device)]


def of_examples(value: Any, rows: torch.Tensor, batch_size: int) -> Any:
    """Return what a layer gets for some examples of a batch; what has no row for each example stays as it is.

    Args:
        value: A tensor, of which the first dimension may be that of the examples, a mask of flex attention, anything
            else, or a tuple, list or dictionary of such.
        rows (`torch.LongTensor` of shape `(num_rows,)`): The examples.
        batch_size (`int`): How many examples there are in `value`.
    """
    if isinstance(value, torch.Tensor):
        return rows_of(value, rows) if value.ndim and len(value) == batch_size else value
    if isinstance(value, BlockMask):
        return _block_mask_of(value, rows, batch_size)
    if isinstance(value, dict):
        return {name: of_examples(part, rows, batch_size) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [of_examples(part, rows, batch_size) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _block_mask_of(mask: BlockMask, rows: torch.Tensor, batch_size: int) -> BlockMask:
    # Flex attention counts the arguments, to tell a mask from a score.
    def mask_mod(example: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return mask.mask_mod(rows[example], head, query, key)

    names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    blocks = {name: of_examples(getattr(mask, name), rows, batch_size) for name in names}
    return BlockMask.from_kv_blocks(
        **blocks, BLOCK_SIZE=mask.BLOCK_SIZE, mask_mod=mask_mod, seq_lengths=mask.seq_lengths
    )
