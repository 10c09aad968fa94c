"""How sure a model is of its answer to an example, by what its head says itself."""

from typing import Any

import numpy as np
import torch


def certainty_of(logits: torch.Tensor, config: Any) -> np.ndarray | None:
    """Return the probability of the answer to each example, or `None` for heads that do not choose among classes.

    Where an example has several labels, it is that of the least sure of them.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, num_classes)`): Of a classifier; others have no certainty.
        config: Of the model, which says what the logits mean.
    """
    if logits.ndim != 2 or logits.shape[-1] < 2 or config.problem_type == "regression":
        return None
    if config.problem_type == "multi_label_classification":
        chances = torch.sigmoid(logits.float())
        return torch.maximum(chances, 1 - chances).amin(dim=-1).detach().cpu().numpy()
    return torch.softmax(logits.float(), dim=-1).amax(dim=-1).detach().cpu().numpy()
