"""Tables of many training runs: a row for each network, the mean over its seeds, a column for each depth."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..depth.profile import DepthProfile


@dataclass(frozen=True)
class Network:
    """The runs of one network, a seed each.

    Args:
        name (`str`): What the folders are called, without `-seedN`.
        profiles (`tuple[DepthProfile, ...]`): One for each seed.
        minutes (`tuple[float, ...]`): How long each was trained, as far as it is known.
        saved (`tuple[float, ...]`): Share of the layer-steps that each saved by layers that left, where some did.
    """

    name: str
    profiles: tuple[DepthProfile, ...]
    minutes: tuple[float, ...]
    saved: tuple[float, ...]


def find_networks(folder: Path, file_name: str = "depth_profile.json") -> list[Network]:
    """Return all networks below a folder that holds a folder `NAME` or `NAME-seedN` for each run.

    Raises:
        FileNotFoundError: There is none.
    """
    runs: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*/{file_name}")):
        runs.setdefault(path.parent.name.partition("-seed")[0], []).append(path)
    if not runs:
        raise FileNotFoundError(f"there must be a profile {folder}/*/{file_name}; there is none")
    return [
        Network(
            name,
            tuple(DepthProfile.load(path) for path in paths),
            tuple(seconds / 60 for path in paths if (seconds := _train_seconds(path.parent)) is not None),
            tuple(share for path in paths if (share := _saved(path.parent)) is not None),
        )
        for name, paths in runs.items()
    ]


def record_of_runs(folder: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return what all runs in a folder came to, with their circumstances, as a dictionary that JSON can hold.

    Args:
        folder (`Path`): Holds a folder `NAME` or `NAME-seedN` with `depth_profile.json` and `train_results.json` for
            each run.
        settings (sequence of `str`, *optional*): Which of the arguments that `train_results.json` holds are told.
    """
    runs = []
    for path in sorted(folder.glob("*/depth_profile.json")):
        profile, trained, saved = DepthProfile.load(path), _trained(path.parent), _saved(path.parent)
        name, _, seed = path.parent.name.partition("-seed")
        arguments = trained.pop("arguments", {})
        runs.append(
            {
                "name": name,
                "seed": int(seed or 0),
                "depths": profile.depths,
                "values": profile.values,
                "metric": profile.metric,
                "num_examples": profile.num_examples,
                **trained,
                **({} if saved is None else {"saved": saved}),
                "settings": {name: arguments[name] for name in settings if name in arguments},
            }
        )
    return {"runs": runs}


def depth_table(networks: Sequence[Network], tolerances: Sequence[float] = ()) -> str:
    """Return a Markdown table: mean ± standard deviation over the seeds at every depth, and at full depth.

    Args:
        networks (sequence of `Network`): A row each.
        tolerances (sequence of `float`, *optional*): A column each for the effective depths, seed by seed; then the
            minutes of training and what was saved by layers that left.
    """
    last = max(profile.depths[-1] for network in networks for profile in network.profiles)
    header = ["network", "seeds", *map(str, range(last + 1)), "full", *(f"effective, {t:g}" for t in tolerances)]
    if tolerances:
        header += ["minutes", "saved"]
    rows = [header, ["---"] * len(header)]
    for network in networks:
        row = [network.name, str(len(network.profiles))]
        row += [_cell([p.value_at(depth) for p in network.profiles if depth in p.depths]) for depth in range(last + 1)]
        row.append(_cell([profile.values[-1] for profile in network.profiles]))
        for tolerance in tolerances:
            row.append(" ".join(str(profile.effective_depth(tolerance)) for profile in network.profiles))
        if tolerances:
            row += [f"{statistics.mean(network.minutes):.1f}" if network.minutes else "", _cell(network.saved)]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _trained(folder: Path) -> dict[str, Any]:
    path = folder / "train_results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _train_seconds(folder: Path) -> float | None:
    return _trained(folder).get("train_runtime")


def _saved(folder: Path) -> float | None:
    path = folder / "trainer_state.json"
    history = json.loads(path.read_text())["log_history"] if path.exists() else []
    shares = [
        entry["eval_shedding_saved_layer_steps"] for entry in history if "eval_shedding_saved_layer_steps" in entry
    ]
    return shares[-1] if shares else None
