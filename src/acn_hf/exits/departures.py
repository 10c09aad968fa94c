"""Who leaves a batch at which depth, and the states that they leave with."""

from collections.abc import Callable

import torch

from .policies import ExitPolicy
from .rows import rows_of

Tokens = tuple[torch.Tensor, torch.Tensor]
"""Of each token that counts, the row of its example and its position."""


class Departures:
    """The examples of one pass: those that are still here, and what those that left had reached.

    Args:
        policy (`ExitPolicy`): When an example leaves.
        read (`Callable`): From a depth, the states there of the examples that are still here, and the tokens that
            count, if the head predicts tokens, to the logits of shape `(num_predictions, num_classes)`.
        counted (`torch.BoolTensor` of shape `(batch_size, sequence_length)`, *optional*):
            For a head that predicts tokens: those that decide.
        lowest (`int`, *optional*, defaults to 0): The lowest depth that the model has.
    """

    def __init__(
        self,
        policy: ExitPolicy,
        read: Callable[[int, torch.Tensor, Tokens | None], torch.Tensor],
        counted: torch.Tensor | None,
        lowest: int = 0,
    ):
        self.policy, self.read, self.lowest = policy, read, lowest
        self.tokens: Tokens | None = None if counted is None else tuple(counted.nonzero(as_tuple=True))  # type: ignore[assignment]
        self.memory: torch.Tensor | None = None
        self.examples = torch.empty(0, dtype=torch.long)
        """The rows in the batch of those that are still here."""
        self.states = torch.empty(0)
        """Of all examples; those of examples that are still here are not known yet."""
        self.exit_depths = torch.empty(0, dtype=torch.long)
        """How many layers ran on each example."""

    def begin(self, states: torch.Tensor, num_layers: int) -> None:
        """Take the states of all examples at depth 0."""
        self.examples = torch.arange(len(states), device=states.device)
        self.states = torch.empty_like(states)
        self.exit_depths = torch.full_like(self.examples, num_layers)

    def visit(self, depth: int, states: torch.Tensor) -> torch.Tensor | None:
        """Let examples leave.

        Args:
            depth (`int`): Below that of the model.
            states (`torch.Tensor` of shape `(num_examples, sequence_length, hidden_size)`): Of those that are here.

        Returns:
            `torch.LongTensor` or `None`: The places among them of those that stay; `None` if all do.
        """
        if depth < self.lowest or not self.policy.reads(depth) or not len(self.examples):
            return None
        scores, self.memory = self.policy.score(self.read(depth, states, self.tokens), depth, self.memory)
        if self.tokens is not None:
            scores = least_scores(scores, self.tokens[0], len(states))
        leaves = (scores >= self.policy.bound).to(self.examples.device)
        gone = leaves.nonzero().squeeze(1)
        if not len(gone):
            return None
        self.states[self.examples[gone]] = rows_of(states, gone).to(self.states)
        self.exit_depths[self.examples[gone]] = depth
        stays = (~leaves).nonzero().squeeze(1)
        self.examples = self.examples[stays]
        self._keep(~leaves, stays)
        return stays

    def finish(self, states: torch.Tensor) -> torch.Tensor:
        """Take the states at full depth of those that are still here, and return those of all."""
        self.states[self.examples] = states.to(self.states)
        return self.states

    def _keep(self, stay: torch.Tensor, stays: torch.Tensor) -> None:
        """Forget what is known of the examples that left."""
        kept = stays
        if self.tokens is not None:
            rows, positions = self.tokens
            of_those = stay[rows]
            self.tokens = ((stay.cumsum(0) - 1)[rows[of_those]], positions[of_those])
            kept = of_those
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
