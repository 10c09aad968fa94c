"""Evaluate a model and leave it as it was found."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel


@contextmanager
def evaluating(model: PreTrainedModel, device: str | torch.device | None = None) -> Iterator[None]:
    """Put `model` in eval mode, on `device` if given, without gradients; put every module back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    home = model.device
    try:
        model.eval()
        if device is not None:
            model.to(device)
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        if device is not None:
            model.to(home)
