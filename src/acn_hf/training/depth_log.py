"""The metric at every depth as it stands in the log of a Trainer: written by a callback, read by what shows it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..depth.profile import DepthProfile

AT_DEPTH, EFFECTIVE_DEPTH = "_at_depth_", "effective_depth"


@dataclass(frozen=True)
class LoggedProfile:
    """One measurement.

    Args:
        step (`int`): When it was made.
        epoch (`float`, *optional*): The same in epochs.
        values (`dict[int, float]`): The metric at each depth.
        effective_depth (`int`, *optional*): The smallest depth that is as good as full depth.
    """

    step: int
    epoch: float | None
    values: dict[int, float]
    effective_depth: int | None


def entries_of(profile: DepthProfile, tolerance: float) -> dict[str, float]:
    """Return what the log says of a profile."""
    values = zip(profile.depths, profile.values, strict=True)
    return {
        **{f"{profile.metric}{AT_DEPTH}{depth}": value for depth, value in values},
        EFFECTIVE_DEPTH: profile.effective_depth(tolerance),
    }


def logged_profiles(log: Iterable[dict[str, Any]]) -> dict[str, dict[int, LoggedProfile]]:
    """Return the measurements in a log by step, for each metric as the log calls it: `eval_accuracy`.

    Of several at one step the last counts.

    Args:
        log (iterable of `dict`): The `log_history` of a `TrainerState`.
    """
    found: dict[str, dict[int, LoggedProfile]] = {}
    for entry in log:
        curves: dict[str, dict[int, float]] = {}
        for key, value in entry.items():
            name, _, depth = key.rpartition(AT_DEPTH)
            if name and depth.isdecimal():
                curves.setdefault(name, {})[int(depth)] = value
        for name, values in curves.items():
            step = entry["step"]
            here = LoggedProfile(
                step, entry.get("epoch"), values, entry.get(f"{prefix_of(name, entry)}_{EFFECTIVE_DEPTH}")
            )
            found.setdefault(name, {})[step] = here
    return {name: dict(sorted(measured.items())) for name, measured in found.items()}


def prefix_of(name: str, entry: Iterable[str]) -> str:
    """Return what stands before the metric: `eval` for `eval_accuracy`, `eval_far` where the set is called so.

    Args:
        name (`str`): What the log calls the metric.
        entry (iterable of `str`): The names in its entry, among them that of its effective depth.
    """
    prefixes = (key.removesuffix(f"_{EFFECTIVE_DEPTH}") for key in entry if key.endswith(f"_{EFFECTIVE_DEPTH}"))
    return max((prefix for prefix in prefixes if name.startswith(f"{prefix}_")), key=len, default="eval")
