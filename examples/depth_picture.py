"""Draw what it is worth to teach every depth: accuracy against the layers kept, before and after.

What is unusual: numbers and picture are two steps. `--runs` gathers runs of `compare_conversions.py` into one small
record with their circumstances; the picture is drawn from the record alone. README.md quotes the record, and a test
compares the two. Every folder below holds the runs of one kind of pooling.

    for pooling in mean cls; do
        common="--model_name_or_path MINILM --train_file train.csv --validation_file validation.csv --bf16 True
            --seeds 0 1 2 --pooling $pooling --output_dir runs/picture/$pooling"
        python examples/compare_conversions.py $common --runs residual+none+none tuned-cut-3+none+only
        python examples/compare_conversions.py $common --runs tuned-residual+uniform+only --num_train_epochs 4
    done
    python examples/depth_picture.py --runs runs/picture/mean runs/picture/cls \\
        --record docs/images/minilm_depth.json --picture docs/images/minilm_depth.png

Cost: the runs take 20 minutes for each seed and pooling on one busy CPU core; the picture takes a second.
"""

import argparse
import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acn_hf import DepthProfile
from acn_hf.data import load_data
from acn_hf.support import write_text

FINE_TUNED, TAUGHT = "residual+none+none", "tuned-residual+uniform+only"
SAME = ("commit", "acn_hf", "torch", "transformers", "device", "cores", "threads")
"""Circumstances in which the runs of one record must agree."""
SETTINGS = ("learning_rate", "batch_size", "bf16")
"""Settings in which they must agree."""


def gather(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the record of all runs below some folders.

    Raises:
        FileNotFoundError: There is no run.
        ValueError: Runs differ in commit, versions, hardware or settings.
    """
    paths = sorted(path for folder in folders for path in folder.glob("*/run.json"))
    if not paths:
        raise FileNotFoundError(f"there must be a run.json below {', '.join(map(str, folders))}; there is none")
    runs = [json.loads(path.read_text()) for path in paths]
    settings = runs[0]["settings"]
    networks: dict[tuple[str, str], dict[str, Any]] = {}
    for path, run in zip(paths, runs, strict=True):
        profile = DepthProfile.load(path.parent / "depth_profile.json")
        pooling, epochs = run["settings"]["pooling"], run["settings"]["num_train_epochs"]
        new = {"name": run["name"], "pooling": pooling, "epochs": epochs, "depths": profile.depths}
        network = networks.setdefault((pooling, run["name"]), new | {"seeds": [], "minutes": [], "values": []})
        if network["epochs"] != epochs:
            raise ValueError(f"all seeds of a run must have as many epochs; {path.parent} has {epochs:g}")
        network["seeds"].append(run["seed"])
        network["minutes"].append(round(run["train_runtime"] / 60, 1))
        network["values"].append(profile.values)
    labels = Counter(load_data(settings["validation_file"])["label"])
    return {
        "metric": profile.metric,
        "num_examples": profile.num_examples,
        "majority": max(labels.values()) / labels.total(),
        "num_parameters": DepthProfile.load(paths[0].parent / "depth_profile.json").num_parameters,
        "files": {name: _digest(settings[name]) for name in ("model_name_or_path", "train_file", "validation_file")},
        "settings": _agreed([{key: run["settings"][key] for key in SETTINGS} for run in runs]),
        "circumstances": _agreed([{key: run["circumstances"][key] for key in SAME} for run in runs])
        | {"dates": sorted({run["circumstances"]["date"] for run in runs})},
        "networks": [networks[key] for key in sorted(networks, reverse=True)],
    }


def _agreed(descriptions: list[dict[str, Any]]) -> dict[str, Any]:
    for other in descriptions:
        for key, value in descriptions[0].items():
            if other[key] != value:
                raise ValueError(f"all runs of a record must have the same {key}; got {value!r} and {other[key]!r}")
    return descriptions[0]


def _digest(source: str) -> str:
    path = Path(source, "model.safetensors") if Path(source).is_dir() else Path(source)
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def network_of(record: dict[str, Any], name: str, pooling: str = "mean") -> dict[str, Any]:
    """Return one network of a record: its depths, and the values of each of its seeds."""
    return next(each for each in record["networks"] if (each["name"], each["pooling"]) == (name, pooling))


def draw(record: dict[str, Any], path: Path) -> Any:
    """Draw a record, save the picture, and return its axes."""
    from matplotlib.figure import Figure

    ax = Figure(figsize=(7, 4.2), layout="constrained").subplots()
    _curve(ax, network_of(record, TAUGHT), "taught at every depth", color="C0", marker="o")
    _curve(ax, network_of(record, FINE_TUNED), "fine-tuned, then cut", color="C1", marker="s")
    cls = network_of(record, TAUGHT, "cls")
    _curve(ax, cls, "taught, but the head reads the CLS token", color="0.55", marker="^", linestyle="--")
    ax.axhline(record["majority"], color="0.7", linewidth=0.8, linestyle=":", label="always the larger class")
    ax.set_xlabel("depth (layers kept)")
    ax.set_ylabel(record["metric"])
    ax.set_xticks(cls["depths"])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    ax.figure.savefig(path, dpi=120)
    return ax


def _curve(ax: Any, network: dict[str, Any], label: str, **style: Any) -> None:
    columns = list(zip(*network["values"], strict=True))
    means = [statistics.mean(column) for column in columns]
    spread = [statistics.stdev(column) for column in columns] if len(network["seeds"]) > 1 else None
    ax.errorbar(network["depths"], means, yerr=spread, capsize=3, label=label, **style)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of runs to gather into the record")
    parser.add_argument("--record", type=Path, required=True, help="JSON file, written with --runs and read without")
    parser.add_argument("--picture", type=Path, required=True, help="PNG or SVG file to write")
    arguments = parser.parse_args()
    try:
        if arguments.runs:
            write_text(arguments.record, json.dumps(gather(arguments.runs)) + "\n")
        draw(json.loads(arguments.record.read_text()), arguments.picture)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
