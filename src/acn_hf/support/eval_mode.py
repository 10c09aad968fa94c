"""Evaluate a model and leave it, and the random numbers of its training, as they were found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
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


@contextmanager
def fixed_randomness(seed: int = 0) -> Iterator[None]:
    """Draw the same random numbers at every entry, and leave those of Python, NumPy and torch as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@dataclass(frozen=True)
class RandomState:
    """Which random numbers Python, NumPy and torch draw next.

    Args:
        python, numpy, cpu: State of each on the host.
        cuda (`torch.Tensor`, *optional*): State of the GPU of this process, once it is used.
    """

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: torch.Tensor | None

    @classmethod
    def now(cls) -> Self:
        """Return the present state."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Draw again what was drawn since."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
