"""Compare functions by the clock: interleaved, medians, and where and with what they ran."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

import acn_hf

RESULTS = Path(__file__).parent / "results"


def interleaved(
    functions: dict[str, Callable[[], Any]], *, rounds: int, warmup: int = 3
) -> dict[str, dict[str, float]]:
    """Time the functions in turn, round by round, so that a slow moment of the machine hits all of them.

    Returns:
        For each name the median and the quartiles in milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(warmup + rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
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
    record = {"circumstances": circumstances(), "results": results}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def circumstances() -> dict[str, Any]:
    """Return commit, versions and hardware."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": date.today().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "acn_hf": acn_hf.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()
