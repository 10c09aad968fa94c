"""Draw what it is worth to teach every depth: accuracy against the layers kept, and what a training for each brings.

What is unusual: the picture is drawn from a record alone, that of `compare_teaching.py --record`, so anybody can draw
it again without training. README.md shows the picture and quotes the record, and a test compares the two.

    python examples/depth_picture.py benchmarks/results/compare_teaching.json docs/images/minilm_depth.png

Cost: a second. The runs of the record took three hours of one CPU core.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

CURVES = {
    "taught": ("taught at every depth, one run", {"color": "C0", "marker": "o"}),
    "tuned": ("fine-tuned, then cut", {"color": "C1", "marker": "s"}),
}
"""What is read at every depth of one network: its name, and how it is drawn."""
SINGLE = {
    "cut-{}-taught": ("cut first, then taught, a run for each", {"color": "C2", "marker": "^"}),
    "cut-{}-alone": ("the same without a teacher", {"color": "0.6", "marker": "v"}),
}
"""What is a network of its own for each depth."""
SHIFT = 0.06
"""Layers by which marks of one depth stand apart."""


def values_of(record: dict[str, Any], name: str) -> dict[int, list[float]]:
    """Return the values of the networks of a name, at each of its depths those of all seeds."""
    values: dict[int, list[float]] = {}
    for run in record["runs"]:
        if run["name"] == name:
            for depth, value in zip(run["depths"], run["values"], strict=True):
                values.setdefault(depth, []).append(value)
    return values


def draw(record: dict[str, Any], path: Path) -> Any:
    """Draw a record, save the picture, and return its axes."""
    from matplotlib.figure import Figure

    ax = Figure(figsize=(7, 4.2), layout="constrained").subplots()
    for name, (label, style) in CURVES.items():
        values = values_of(record, name)
        values.pop(0, None)  # no layer at all
        _marks(ax, values, label, 0.0, **style)
    depths = sorted(values)
    for place, (name, (label, style)) in enumerate(SINGLE.items(), start=1):
        single = {depth: found for at in depths for depth, found in values_of(record, name.format(at)).items()}
        _marks(ax, single, label, place * SHIFT, linestyle="", **style)
    ax.set_xlabel("depth (layers kept)")
    ax.set_ylabel(record["runs"][0]["metric"])
    ax.set_xticks(depths)
    ax.grid(axis="y", color="0.92")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    ax.figure.savefig(path, dpi=120)
    return ax


def _marks(ax: Any, values: dict[int, list[float]], label: str, shift: float, **style: Any) -> None:
    """Draw means, and their spread over the seeds."""
    means = [statistics.mean(column) for column in values.values()]
    spread = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in values.values()]
    ax.errorbar([depth + shift for depth in values], means, yerr=spread, capsize=3, label=label, **style)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file that compare_teaching.py wrote")
    parser.add_argument("picture", type=Path, help="PNG or SVG file to write")
    arguments = parser.parse_args()
    try:
        draw(json.loads(arguments.record.read_text()), arguments.picture)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
