"""Times that are compared: what is compared takes turns in one run, so that what else the machine does falls on all.

The order of each turn is drawn: in a fixed one, the rhythm of a busy machine would always interrupt the same.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def median_times(runs: Sequence[Callable[[Any], Any]], batches: Sequence[Any], repeats: int) -> list[float]:
    """Return the milliseconds that each function needs for all batches; of the repeats of a batch the median counts.

    Args:
        runs (sequence of `Callable`): What is compared; each is given a batch. The first batch is run once, untimed.
        batches (sequence): At least one.
        repeats (`int`): How often each batch is timed, at least 1.

    Raises:
        ValueError: There is no batch, or `repeats` is below 1.
    """
    if not batches or repeats < 1:
        raise ValueError(f"there must be a batch and repeats >= 1; got {len(batches)} batches and {repeats}")
    order, draw = list(range(len(runs))), random.Random(0)
    for run in runs:
        run(batches[0])
    totals = [0.0] * len(runs)
    for batch in batches:
        times: list[list[float]] = [[] for _ in runs]
        for _ in range(repeats):
            draw.shuffle(order)
            for number in order:
                times[number].append(_timed(runs[number], batch))
        totals = [total + statistics.median(found) for total, found in zip(totals, times, strict=True)]
    return totals


def _timed(run: Callable[[Any], Any], batch: Any) -> float:
    _synchronize()
    start = time.perf_counter()
    run(batch)
    _synchronize()
    return (time.perf_counter() - start) * 1000


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
