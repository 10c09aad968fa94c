"""The head runs on the tokens that have a label, and on no others.

A masked language model predicts a word of its vocabulary for every token, and learns from every seventh. The loss is
the mean over the tokens with a label, so the other predictions are thrown away, and so is the time that they took.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..depth.metrics import IGNORED_LABEL
from ..depth.predicted_labels import predicts_next_token
from ..modeling.depth import output_logits
from ..support.eval_mode import evaluating
from ..support.wrappers import unwrap
from .passes import is_trained, named_inputs

logger = logging.get_logger(__name__)

TOLERANCE = 0.02
"""Part of the spread of the logits by which they may differ: a matrix of other shape is rounded otherwise in 16 bit."""


class LabelledTokens:
    """Lets the head of a model in train mode run on the tokens that have a label.

    Loss and gradients are those of the whole head but for the order in which numbers are added up; the logits have the
    shape `(1, number of labels, ...)`. Evaluation, and passes without labels, are left as they are. In the first pass
    the logits are computed in both ways. Where they differ, as where the head reads more than its own token, the
    model is left as it is, and a warning says so.

    Args:
        model (`PreTrainedModel`): With a head that predicts the label of each token from the state of that token.

    Raises:
        TypeError: `model` is not one of transformers, or has no head.
        ValueError: It predicts the token that comes next, so its labels stand elsewhere; or it is so already.
    """

    def __init__(self, model: Any):
        self.model: PreTrainedModel = unwrap(model)
        name = type(self.model).__name__
        if self.model.base_model is self.model:
            raise TypeError(f"labels need a model with a head, and {name} has none")
        if predicts_next_token(self.model):
            raise ValueError(f"every token must predict its own label; those of {name} predict the one that comes next")
        if labelled_tokens(self.model) is not None:
            raise ValueError(f"the head of {name} runs on tokens with a label already")
        self.is_exact: bool | None = None
        """Whether the head does the same for a token whatever stands beside it; `None` before the first pass."""
        self.num_read = self.num_tokens = 0
        """Of how many tokens the head read how many so far."""
        self._mask: torch.Tensor | None = None
        self._is_checking = False
        self._in_body: Any = None
        self._handles = [
            self.model.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
            self.model.register_forward_hook(self._end, always_call=True),
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        self._leave_body()
        for handle in self._handles:
            handle.remove()

    def of(self, states: torch.Tensor) -> torch.Tensor:
        """Return the states of the tokens with a label as those of one text; in other passes all states.

        Args:
            states (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`): What the head would read.
        """
        return states if self._mask is None else states[self._mask].unsqueeze(0)

    def shown(self, output: Any) -> Any:
        """Return what the part below the head returned, with the states of these tokens alone.

        Args:
            output (`ModelOutput` or `tuple`): The states come first in it.
        """
        gathered = self.of(output[0])
        if isinstance(output, tuple):
            return (gathered, *output[1:])
        output[next(iter(output.keys()))] = gathered
        return output

    @contextmanager
    def also_in(self, other: PreTrainedModel) -> Iterator[None]:
        """Let the head of another model, a teacher, read the same tokens in this block."""
        handle = other.base_model.register_forward_hook(self._gather) if self._mask is not None else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()

    @torch.compiler.disable  # how many tokens have a label changes from batch to batch
    def _begin(self, model: PreTrainedModel, args: tuple, kwargs: dict[str, Any]) -> Any:
        self._leave_body()
        if not (self._is_checking or is_trained(model)) or self.is_exact is False:
            return None
        inputs = named_inputs(model, args, kwargs)
        labels = inputs.get("labels")
        if labels is None or labels.ndim != 2:
            return None
        mask = labels != IGNORED_LABEL
        number = int(mask.sum())
        if number == 0:  # the loss of none, whatever upstream makes of it
            return None
        if self.is_exact is None and not self._is_checking and not self._check(inputs, mask):
            return None
        self.num_read, self.num_tokens = self.num_read + number, self.num_tokens + mask.numel()
        self._mask = mask
        # Of all hooks this one comes last: whoever else listens to the body sees the states of all tokens.
        self._in_body = model.base_model.register_forward_hook(self._gather)
        return (), {**inputs, "labels": labels[mask].unsqueeze(0)}

    @torch.compiler.disable
    def _gather(self, base: nn.Module, args: tuple, output: Any) -> Any:
        return self.shown(output)

    def _end(self, model: PreTrainedModel, args: tuple, output: Any) -> None:
        self._leave_body()

    def _leave_body(self) -> None:
        self._mask = None
        if self._in_body is not None:
            self._in_body.remove()
            self._in_body = None

    def _check(self, inputs: dict[str, Any], mask: torch.Tensor) -> bool:
        """Find out whether the logits of some tokens are what they are beside all others."""
        inputs = {**inputs, "return_dict": True}
        with evaluating(self.model):
            whole = self._logits(inputs)
            self._is_checking = True
            try:
                few = self._logits(inputs)
            except (RuntimeError, ValueError, IndexError):  # it needs states of all tokens
                few = None
            finally:
                self._is_checking = False
                self._leave_body()
        self.num_read = self.num_tokens = 0
        self.is_exact = few is not None and whole.shape[:2] == mask.shape and _are_close(few[0], whole[mask])
        if not self.is_exact:
            logger.warning(
                f"the head of {type(self.model).__name__} reads more than the token whose label it predicts: it runs "
                "on all tokens, also on those without a label"
            )
        return self.is_exact

    def _logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        return output_logits(self.model(**inputs)).float()


def labelled_tokens(model: PreTrainedModel) -> LabelledTokens | None:
    """Return what lets the head of a model run on some tokens alone, if anything does."""
    hooks: Iterable[Any] = model._forward_pre_hooks.values()
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    return next((owner for owner in owners if isinstance(owner, LabelledTokens)), None)


def _are_close(few: torch.Tensor, whole: torch.Tensor) -> bool:
    if few.shape != whole.shape:
        return False
    return bool((few - whole).abs().max() <= TOLERANCE * whole.std().clamp(min=1e-6))
