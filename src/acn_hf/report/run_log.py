"""The log of a run, as far as a page shows it: of many measurements and losses, so many as can be looked at."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from .._version import __version__
from ..depth.metrics import METRICS
from ..support.spread import evenly
from ..training.annealing import SCALE
from ..training.depth_log import AT_DEPTH, LoggedProfile, logged_profiles, prefix_of
from ..training.shedding import DEPTH, SAVED
from .run_folder import RunFolder, is_finite

MOST_MEASUREMENTS = 100
"""So many places has the slider, which a finger can still tell apart."""
MOST_VALUES = 4000
"""Of all measurements and depths together: of models of many depths fewer measurements are shown."""
MOST_POINTS = 500
"""Of a curve over all steps."""


@dataclass(frozen=True)
class Curve:
    """A number over the steps.

    Args:
        points (`tuple[tuple[float, float], ...]`): Step and number.
        num_logged (`int`): How many numbers the log has.
        num_absent (`int`): How many of these are none: NaN or infinite.
    """

    points: tuple[tuple[float, float], ...]
    num_logged: int
    num_absent: int

    @classmethod
    def means(cls, log: Sequence[dict[str, Any]], name: str) -> Self | None:
        """Return a curve of which each point is the mean of as many numbers; `None` if the log has none."""
        numbers, num_logged = _numbers(log, name)
        if not numbers:
            return None
        size = -(-len(numbers) // MOST_POINTS)
        stretches = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        points = (tuple(sum(part) / len(part) for part in zip(*stretch, strict=True)) for stretch in stretches)
        return cls(tuple(points), num_logged, num_logged - len(numbers))

    @classmethod
    def some(cls, log: Sequence[dict[str, Any]], name: str) -> Self | None:
        """Return a curve of some of the numbers, evenly spread; `None` if the log has none."""
        numbers, num_logged = _numbers(log, name)
        return cls(tuple(evenly(numbers, MOST_POINTS)), num_logged, num_logged - len(numbers)) if numbers else None


def _numbers(log: Sequence[dict[str, Any]], name: str) -> tuple[list[tuple[float, float]], int]:
    """Return step and number where the log has one, and how many there are with those that are none."""
    logged = [(entry["step"], entry[name]) for entry in log if name in entry]
    return [(step, value) for step, value in logged if is_finite(value)], len(logged)


@dataclass(frozen=True)
class Removal:
    """Layers that left.

    Args:
        step (`int`): When.
        before (`int`): Number of layers before.
        after (`int`): Number of layers that stayed.
    """

    step: int
    before: int
    after: int


@dataclass(frozen=True)
class RunLog:
    """All that the page of a run shows.

    Args:
        name (`str`): The title.
        metric (`str`): As the log calls it: `eval_accuracy`.
        greater_is_better (`bool`, *optional*): Which direction is good, if it is known.
        num_examples (`int`, *optional*): Of how many examples each measurement is, if it is known.
        measurements (`tuple[LoggedProfile, ...]`): Those that are shown, by step.
        num_measurements (`int`): How many there are.
        others (`tuple[str, ...]`): Other metrics at every depth that the log holds.
        removals (`tuple[Removal, ...]`): When layers left.
        saved (`float`, *optional*): Share of layers times steps that was saved so.
        losses (`dict[str, Curve]`): `loss` in training and on the data of the metric, where they are logged.
        scale (`Curve`, *optional*): The residual scale, if it was annealed.
        step (`int`): The last one of the log.
        best_step (`int`, *optional*): That of the best checkpoint, if one was kept.
        facts (`dict[str, str]`): What is known of the run, in words.
        training (`dict`): Its arguments, if they are known.
        command (`str`, *optional*): What began it, if it is known.
        version (`str`): Of acn_hf.
    """

    name: str
    metric: str
    greater_is_better: bool | None
    num_examples: int | None
    measurements: tuple[LoggedProfile, ...]
    num_measurements: int
    others: tuple[str, ...]
    removals: tuple[Removal, ...]
    saved: float | None
    losses: dict[str, Curve]
    scale: Curve | None
    step: int
    best_step: int | None
    facts: dict[str, str]
    training: dict[str, Any]
    command: str | None
    version: str

    @property
    def depths(self) -> list[int]:
        """All depths that were measured, at one step or another."""
        return sorted({depth for one in self.measurements for depth in one.values})

    @classmethod
    def of_folder(
        cls,
        folder: str | os.PathLike,
        *,
        metric: str | None = None,
        name: str | None = None,
        command: str | None = None,
    ) -> Self:
        """Return what a page shows of the output folder of a [`~transformers.Trainer`].

        Args:
            folder (`str` or `os.PathLike`): With a `trainer_state.json`, in it or in its checkpoints.
            metric (`str`, *optional*): As the log calls it, `eval_far_accuracy` for instance. Defaults to the one that
                was measured most often, and of these to the first.
            name (`str`, *optional*): The title. Defaults to the name of the folder.
            command (`str`, *optional*): What began the run.

        Raises:
            FileNotFoundError: There is no log.
            ValueError: It is damaged or empty, or has no metric at any depth, or not this one.
        """
        run = RunFolder.read(Path(folder))
        profiles = logged_profiles(run.log)
        if not profiles:
            raise ValueError(
                f"{run.path} has no metric at any depth, such as eval_accuracy{AT_DEPTH}3, which DepthProfileCallback "
                "logs"
            )
        if metric is not None and metric not in profiles:
            raise ValueError(f"metric must be one of those that the log holds, {', '.join(profiles)}; got {metric!r}")
        chosen = max(profiles, key=lambda one: len(profiles[one])) if metric is None else metric
        removals, best = removals_in(run.log), run.state.get("best_global_step")
        measurements = list(profiles[chosen].values())
        plain = _plain(chosen, run)
        measured = run.profile if run.profile is not None and run.profile.metric == plain else None
        known = measured or METRICS.get(plain)
        losses = {one: Curve.means(run.log, one) for one in ("loss", f"{chosen.removesuffix(plain)}loss")}
        return cls(
            name=name or Path(folder).absolute().name,
            metric=chosen,
            greater_is_better=None if known is None else known.greater_is_better,
            num_examples=None if measured is None else measured.num_examples,
            measurements=tuple(_shown(measurements, removals, best)),
            num_measurements=len(measurements),
            others=tuple(one for one in profiles if one != chosen),
            removals=removals,
            saved=_last(run.log, f"eval_{SAVED}"),
            losses={one: curve for one, curve in losses.items() if curve is not None},
            scale=Curve.some(run.log, SCALE),
            step=run.log[-1]["step"],
            best_step=best if isinstance(best, int) and not isinstance(best, bool) else None,
            facts=facts_of(run),
            training=run.training,
            command=command,
            version=__version__,
        )


def _plain(name: str, run: RunFolder) -> str:
    """Return the name of a metric without that of the data."""
    entry = next(entry for entry in run.log if any(key.startswith(f"{name}{AT_DEPTH}") for key in entry))
    return name.removeprefix(f"{prefix_of(name, entry)}_")


def _shown(measurements: list[LoggedProfile], removals: tuple[Removal, ...], best: Any) -> list[LoggedProfile]:
    """Return some of the measurements: the ends, those between evenly, that of the best, and where layers left."""
    most = min(MOST_MEASUREMENTS, max(2, MOST_VALUES // max(len(one.values) for one in measurements)))
    always = {place for place, one in enumerate(measurements) if one.step == best}
    for removal in removals[-most // 4 :]:
        before = [place for place, one in enumerate(measurements) if one.step <= removal.step]
        always |= {place for place in (len(before) - 1, len(before)) if 0 <= place < len(measurements)}
    return evenly(measurements, most, always)


def removals_in(log: Sequence[dict[str, Any]]) -> tuple[Removal, ...]:
    """Return when layers left, and how many."""
    depths = [(entry["step"], entry[f"eval_{DEPTH}"]) for entry in log if f"eval_{DEPTH}" in entry]
    return tuple(Removal(step, before, after) for (_, before), (step, after) in pairwise(depths) if after < before)


def _last(log: Sequence[dict[str, Any]], name: str) -> Any:
    return next((entry[name] for entry in reversed(log) if name in entry), None)


def facts_of(run: RunFolder) -> dict[str, str]:
    """Return what the files say of the run, in words. Of paths the last part is named alone."""
    state, config = run.state, run.config
    best = state.get("best_model_checkpoint")
    seconds, flos = _last(run.log, "train_runtime"), state.get("total_flos")
    architectures = config.get("architectures")
    said = {
        "model": ", ".join(map(str, architectures)) if isinstance(architectures, list) else config.get("model_type"),
        "steps": _of(run.log[-1]["step"], state.get("max_steps")),
        "epochs": _of(state.get("epoch"), state.get("num_train_epochs")),
        "batch size for training": state.get("train_batch_size"),
        "seconds": f"{seconds:,.1f}" if is_finite(seconds) else None,
        "floating-point operations": f"{flos:.3g}" if is_finite(flos) and flos else None,
        "best checkpoint": Path(best).name if isinstance(best, str) else None,
        "its metric": state.get("best_metric"),
        "transformers": config.get("transformers_version"),
        "read from": run.path.name if run.path.parent.name == "" else f"{run.path.parent.name}/{run.path.name}",
        "report by": f"acn_hf {__version__}",
    }
    return {name: str(value) for name, value in said.items() if value is not None}


def _of(part: Any, whole: Any) -> str | None:
    if not is_finite(part):
        return None
    return f"{_number(part)} of {_number(whole)}" if is_finite(whole) and whole > 0 else _number(part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
