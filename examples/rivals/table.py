"""Print the table of what the rivals came to, and write their record.

What is unusual: it reads the JSON files that the run_*.py scripts beside it leave in one folder.

    python examples/rivals/table.py runs/rivals --record benchmarks/results/rivals.json
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

DEPTHS = range(1, 7)


def gather(folder: Path) -> dict[str, Any]:
    """Return every run in a folder."""
    runs = [json.loads(path.read_text()) for path in folder.glob("*-seed*.json")]
    return {"runs": sorted(runs, key=lambda run: (run["name"], run["seed"]))}


def rows(runs: list[dict[str, Any]]) -> list[str]:
    """Return rows of a Markdown table: name, seeds, accuracy at each depth, seconds of a core that one run trains."""
    by_name = defaultdict(list)
    for run in runs:
        by_name[run["name"]].append(run)
    table = []
    for name, same in by_name.items():
        cells = dict.fromkeys(DEPTHS, "")
        for place, depth in enumerate(same[0]["depths"]):
            cells[depth] = quoted([run["values"][place] for run in same])
        seconds = round(statistics.mean(run["core_seconds"] for run in same))
        table.append(f"| {name} | {len(same)} | {' | '.join(cells.values())} | {seconds} |")
    return table


def quoted(values: list[float]) -> str:
    """Return a mean and its spread."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}".replace("0.", ".")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the runs are")
    parser.add_argument("--record", type=Path, help="JSON file for all of them")
    arguments = parser.parse_args(argv)
    record = gather(arguments.folder)
    if arguments.record:
        arguments.record.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(rows(record["runs"])))


if __name__ == "__main__":
    main()
