"""Which label a model predicts at each place: that of the place itself, or that of the next token."""

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from .metrics import IGNORED_LABEL


def predicts_next_token(model: PreTrainedModel) -> bool:
    """Return whether a model predicts at each place the token that comes after it, as causal language models do.

    The class says so by the loss that transformers chose for it. Where it chose none by the name, as for GPT-2 and many
    a subclass, a model without an encoder that can generate is one.
    """
    loss_type = getattr(model, "loss_type", None)
    if loss_type is not None:
        return loss_type == "ForCausalLM"
    return model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)


def predicted_labels(model: PreTrainedModel, labels: torch.Tensor) -> torch.Tensor:
    """Return for each place the label that a model predicts there, of the shape of `labels`.

    Causal language models take labels that stand where their tokens stand, and shift them by themselves. So the first
    label is predicted by nobody, and the last place predicts none.

    Args:
        model (`PreTrainedModel`): Whose labels they are.
        labels (`torch.Tensor` of shape `(batch_size, ...)`): As the model takes them.
    """
    if not predicts_next_token(model):
        return labels
    return functional.pad(labels[..., 1:], (0, 1), value=IGNORED_LABEL)
