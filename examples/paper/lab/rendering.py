"""Results become tables, pictures and one sentence each, on the page `docs/paper.md`."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .store import Result


@dataclass(frozen=True)
class Section:
    """What the page says of one experiment.

    Args:
        title (`str`): Its heading.
        paper (`str`): What the paper says, with its figures.
        here (`str`): What was done here.
        tables (`tuple[str, ...]`): Markdown tables.
        verdict (`str`): One sentence on whether the claim held here, made of the numbers.
        draw (*optional*): Draws the picture on matplotlib axes.
    """

    title: str
    paper: str
    here: str
    tables: tuple[str, ...]
    verdict: str
    draw: Callable[[Any], None] | None = None

    def markdown(self, picture: str | None = None) -> str:
        """Return the section as Markdown, with a link to its picture if it is drawn."""
        parts = [f"## {self.title}", f"The paper: {self.paper}", self.here, *self.tables]
        if picture is not None:
            parts.append(f"![{self.title}]({picture})")
        return "\n\n".join([*parts, f"**{self.verdict}**"]) + "\n"

    def save_picture(self, path: Path) -> None:
        """Draw the picture into a file."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
        self.draw(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})
        pyplot.close(figure)


def legend(axes: Any) -> None:
    """Say what the curves are, beside them."""
    axes.figure.set_size_inches(8, 3.5)
    axes.legend(fontsize="x-small", bbox_to_anchor=(1.02, 1), loc="upper left")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def group(results: Sequence[Result], *keys: str) -> dict[tuple, list[Result]]:
    """Return results by some of their settings, in the order of their first appearance; a group holds the seeds."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(result.settings[key] for key in keys), []).append(result)
    return groups


def full_depths(results: Sequence[Result]) -> dict[str, int]:
    """Return the depth of the deepest networks of each family; the others were trained short."""
    return {family: max(run.settings["depth"] for run in runs) for (family,), runs in group(results, "family").items()}


def caution(results: Sequence[Result]) -> str:
    """Return what has to be said if there is one seed alone, and else nothing."""
    seeds = {result.settings["seed"] for result in results}
    return "" if len(seeds) > 1 else "One seed has no spread: this decides no claim."


def mean(values: Sequence[float]) -> float:
    """Return the mean over seeds."""
    return statistics.mean(values)


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation over seeds, 0 for one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def at_the_end(results: Sequence[Result]) -> list[float]:
    """Return the accuracy of each network as trained, at full depth."""
    return [result.values["accuracies"][-1] for result in results]


def clear_difference(values: Sequence[float], others: Sequence[float]) -> float:
    """Return how much larger the first mean is, or 0 if that is no more than the larger of their spreads."""
    difference = mean(values) - mean(others)
    return difference if abs(difference) > max(spread(values), spread(others)) else 0.0


def leads(runs: Sequence[Result], others: Sequence[Result], value: Callable[[Result], float]) -> list[float]:
    """Return how much larger a value of some results is than that of others, for every seed that both have."""
    by_seed = {other.settings["seed"]: value(other) for other in others}
    return [value(run) - by_seed[run.settings["seed"]] for run in runs if run.settings["seed"] in by_seed]


def cell(values: Sequence[float], digits: int = 3) -> str:
    """Return mean ± standard deviation over seeds; of one seed the value alone, of none nothing."""
    if not values:
        return ""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {spread(values):.{digits}f}"


def series(results: Sequence[Result], name: str) -> list[list[float]]:
    """Return a list of values, one for each depth say, as one list a position over the seeds."""
    return [list(column) for column in zip(*(result.values[name] for result in results), strict=True)]
