"""How long each depth takes on this machine, for what was asked."""

import statistics
import threading
import time
from dataclasses import dataclass
from typing import Any

import torch

from ..depth.cost import timed
from ..depth.every_depth import view_at
from .checkpoint import Checkpoint

MOST_ROUNDS = 20
"""Passes at each depth that are timed."""
ENOUGH_SECONDS = 2.0
"""After so long no further round is begun."""


@dataclass(frozen=True)
class Times:
    """How long a pass takes at each depth.

    Args:
        milliseconds (`dict[int, float]`): Median of the rounds.
        rounds (`int`): So often every depth was timed.
        device (`str`): Where.
    """

    milliseconds: dict[int, float]
    rounds: int
    device: str


class Stopwatch:
    """Measures each depth of a checkpoint, once for every shape of its inputs; it depends on nothing else.

    Args:
        checkpoint (`Checkpoint`): Is left as it is.
    """

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self._known: dict[Any, Times] = {}
        self._measuring = threading.Lock()

    def __call__(self, inputs: dict[str, Any]) -> Times:
        """Return the times for inputs of this shape; whoever asks for the same meanwhile waits for the result."""
        key = tuple((name, tuple(value.shape)) for name, value in sorted(inputs.items()) if hasattr(value, "shape"))
        with self._measuring:
            if key not in self._known:
                self._known[key] = self._measure(inputs)
            return self._known[key]

    def _measure(self, inputs: dict[str, Any]) -> Times:
        views = {depth: view_at(self.checkpoint.model, depth) for depth in self.checkpoint.depths}
        times: dict[int, list[float]] = {depth: [] for depth in views}
        with torch.no_grad():
            for view in views.values():
                timed(view, inputs)
            start = time.perf_counter()
            for number in range(MOST_ROUNDS):
                if number and time.perf_counter() - start > ENOUGH_SECONDS:
                    break
                for depth, view in views.items():  # in turn, so that what else the machine does hits all alike
                    times[depth].append(timed(view, inputs))
        medians = {depth: statistics.median(measured) for depth, measured in times.items()}
        return Times(medians, len(times[self.checkpoint.depths[0]]), str(self.checkpoint.model.device))
