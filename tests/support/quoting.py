"""How the tables of the pages quote the records of runs: the mean over seeds and its spread."""

import json
import re
import statistics
from typing import Any

from tests.support.pages import ROOT


def runs_of(name: str) -> list[dict[str, Any]]:
    """Return the runs of a record in `benchmarks/results`."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["runs"]


def printed(values: list[float] | tuple[float, ...], digits: int = 3) -> str:
    """Return a mean and its spread as the scripts print them."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def quoted(values: list[float] | tuple[float, ...], digits: int = 3) -> str:
    """Return a mean and its spread as the tables write them."""
    return re.sub(r"\b0\.", ".", printed(values, digits))


def in_one_line(text: str) -> str:
    """Return a text whose sentences no line end breaks."""
    return " ".join(text.split())


def part_of_log(section: str, heading: str) -> str:
    """Return the part of the log of experiments that stands below a heading of one of its sections."""
    log = (ROOT / "docs" / "experiments.md").read_text().split(section)[1]
    return re.split(r"^#{2,3} ", log.split(heading)[1], flags=re.M)[0]


def values_at(runs: list[dict[str, Any]], name: str) -> dict[int, tuple[float, ...]]:
    """Return the values of a network at each of its depths, those of all seeds."""
    ours = [run for run in runs if run["name"] == name]
    depths = ours[0]["depths"] if ours else []
    return dict(zip(depths, zip(*(run["values"] for run in ours), strict=True), strict=True))


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the cells of each row of a page whose first cell is the name of a network."""
    rows = re.findall(r"^\| ([a-z]\S*) \| (.*) \|$", page, re.M)
    return {name: [cell.strip() for cell in f" {cells} ".split("|")] for name, cells in rows if name != "network"}
