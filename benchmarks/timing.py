"""Compare functions by the clock: interleaved, medians, and where and with what they ran."""

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from acn_hf.support import circumstances

RESULTS = Path(__file__).parent / "results"


def interleaved(
    functions: dict[str, Callable[[], Any]], *, rounds: int, warmup: int = 3
) -> dict[str, dict[str, float]]:
    """Time the functions in turn, round by round, so that a slow moment of the machine hits all of them.

    The order of each round is drawn: in a fixed one, the rhythm of a busy machine would always interrupt the same.

    Returns:
        For each name the median and the quartiles in milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    order, draw = list(functions), random.Random(0)
    for round_ in range(warmup + rounds):
        draw.shuffle(order)
        for name in order:
            start = time.perf_counter()
            functions[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_ >= warmup:
                times[name].append((time.perf_counter() - start) * 1000)
    return {
        name: dict(zip(("q1_ms", "median_ms", "q3_ms"), statistics.quantiles(values, n=4), strict=True))
        for name, values in times.items()
    }


def ratio(times: dict[str, dict[str, float]], name: str, base: str) -> float:
    """Return the ratio of two medians."""
    return times[name]["median_ms"] / times[base]["median_ms"]


def store(name: str, results: dict[str, Any]) -> None:
    """Print results and write them with their circumstances to `results/NAME.json`."""
    record = {"circumstances": circumstances(RESULTS.parent), "results": results}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
