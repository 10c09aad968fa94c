"""How long each depth takes on this machine, for what was asked."""

import statistics
import threading
import time
from collections.abc import Sequence
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
    """Measures each depth of some checkpoints in one run, once for every shape of their inputs.

    Args:
        checkpoints (sequence of `Checkpoint`): Are left as they are.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]):
        self.checkpoints = tuple(checkpoints)
        self._known: dict[Any, tuple[Times, ...]] = {}
        self._measuring = threading.Lock()

    def __call__(self, inputs: Sequence[dict[str, Any]]) -> tuple[Times, ...]:
        """Return the times for inputs of these shapes; whoever asks for the same meanwhile waits for the result.

        Args:
            inputs (sequence of `dict`): Of each checkpoint.
        """
        key = tuple(tuple(_shapes(given)) for given in inputs)
        with self._measuring:
            if key not in self._known:
                self._known[key] = self._measure(inputs)
            return self._known[key]

    def _measure(self, inputs: Sequence[dict[str, Any]]) -> tuple[Times, ...]:
        views = {
            (place, depth): view_at(checkpoint.model, depth)
            for place, checkpoint in enumerate(self.checkpoints)
            for depth in checkpoint.depths
        }
        times: dict[tuple[int, int], list[float]] = {one: [] for one in views}
        rounds = 0
        with torch.no_grad():
            for (place, _), view in views.items():
                timed(view, inputs[place])
            start = time.perf_counter()
            while rounds < MOST_ROUNDS and (not rounds or time.perf_counter() - start < ENOUGH_SECONDS):
                for (place, depth), view in views.items():  # in turn: what else the machine does hits all alike
                    times[place, depth].append(timed(view, inputs[place]))
                rounds += 1
        return tuple(
            Times(
                {depth: statistics.median(times[place, depth]) for depth in checkpoint.depths},
                rounds,
                str(checkpoint.model.device),
            )
            for place, checkpoint in enumerate(self.checkpoints)
        )


def _shapes(inputs: dict[str, Any]) -> list[Any]:
    return [(name, tuple(value.shape)) for name, value in sorted(inputs.items()) if hasattr(value, "shape")]
