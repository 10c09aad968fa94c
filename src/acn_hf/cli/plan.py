"""What `acn-hf compress --teach --dry-run` says: the stages, their steps, and how long they would take here."""

import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..training.stage_trainer import StageSettings
    from .long_run import LongRun

TIMED, WARMUP = 4, 2
"""Steps of each kind that are timed, and those before them that are not."""


def plan_of(run: "LongRun", depth: int | None, limits: dict[str, float], searches: bool) -> str:
    """Return what a run would do, with times that follow from a few real steps of each kind.

    Args:
        run (`LongRun`): That has read its data.
        depth (`int`, *optional*): The depth that was asked for.
        limits (`dict[str, float]`): What the short model may cost.
        searches (`bool`): Whether smaller depths would be healed too.

    Raises:
        BudgetError: No depth meets the limits.
    """
    from rich.table import Table

    from ..depth.layers import layers_of
    from ..support.records import render
    from ..support.sentence_models import inner_model

    settings, layers, rows = run.settings(), len(layers_of(inner_model(run.network))), len(run.rows["train"])
    deepest = _deepest_within(run.network, limits) if limits else layers
    table = Table("stage", "layers", "epochs", "steps", "seconds", title="What would be done")
    total = 0.0
    for name, epochs in run.epochs.items():
        steps, times, kept = settings.steps(rows, epochs), 1, layers
        if name == "heal":
            times = math.ceil(math.log2(max(layers, 2))) if searches else 1
            usual = layers // 2 if searches else deepest  # a search is about half of them on average
            kept = depth if depth is not None else max(1, usual)
        seconds = _seconds_of_a_step(run, settings, name, kept) * steps * times
        total += seconds
        again = f"up to {times} times " if times > 1 else ""
        table.add_row(
            name,
            f"{again}about {kept}" if searches and name == "heal" else str(kept),
            f"{epochs:g}",
            str(steps),
            f"{again}{seconds / times:.0f}",
        )
    measured = ", ".join(f"{len(rows)} rows of {name}" for name, rows in run.rows.items() if name != "train")
    size = 4 * sum(weight.numel() for weight in run.network.parameters()) / 1e6
    return "\n".join(
        (
            render(table),
            f"Measured: {measured}, every depth in one pass.",
            f"In all at most about {total / 60:.1f} minutes of training here, and up to {5 * size:.0f} MB meanwhile in "
            f"{run.work.path}. Nothing was written.",
        )
    )


def _deepest_within(network: Any, limits: dict[str, float]) -> int:
    """Return the largest depth that meets limits; which one is the best is not known before training."""
    from ..depth.depth_cost import measure_depth_cost
    from ..depth.tradeoffs import DepthTradeoffs

    cost = measure_depth_cost(network)
    return DepthTradeoffs(cost.depths, tuple(map(float, cost.depths)), cost.costs, "depth", True).within(**limits)


def _seconds_of_a_step(run: "LongRun", settings: "StageSettings", name: str, depth: int) -> float:
    """Return how long a step of a stage takes, by a few on a copy of the model."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as scratch:
        run.train_a_little(settings.once(TIMED + WARMUP, Path(scratch)), name, depth, Clock())
    return (ends[-1] - ends[-1 - TIMED]) / TIMED
