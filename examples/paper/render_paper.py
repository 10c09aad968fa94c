"""Render the results of all experiments into the page on the paper: tables, pictures, and a sentence for each claim.

What is unusual: nothing is measured or chosen here. Results of different commits or versions in one table are refused.

    python examples/paper/render_paper.py
    python examples/paper/render_paper.py --results_dir runs/paper/results --page docs/paper.md

Cost: seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.experiment import Experiment
from lab.networks import ADDED
from lab.rendering import caution, group
from lab.store import Result, Store, came_later, made_together
from run_all import experiments
from transformers import HfArgumentParser

from acn_hf.scripts import Help
from acn_hf.support import write_text

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- rendered by examples/paper/render_paper.py -->", "<!-- end of what is rendered -->"


@dataclass
class Arguments:
    """What is rendered, and where to."""

    results_dir: str = field(
        default=str(Path(__file__).parent / "results"), metadata={"help": "Has a file for each experiment."}
    )
    page: str = field(default=str(ROOT / "docs" / "paper.md"), metadata={"help": "Has a place that is marked for it."})
    pictures: bool = field(default=True, metadata={"help": "Whether pictures are drawn too, into paper/ beside it."})


def circumstances(results: Sequence[Result]) -> str:
    """Return a line for each data set on where and with what its results were measured, and what they cost.

    Networks that were added to the page later have a line of their own.
    """
    lines = [
        _circumstances(name, part) for (name,), runs in group(results, "data").items() for part in made_together(runs)
    ]
    return "\n\n".join(lines)


def _circumstances(data: str, results: Sequence[Result]) -> str:
    one = results[0].circumstances
    seeds = {result.settings["seed"] for result in results}
    minutes = sum(result.circumstances["seconds"] for result in results) / 60
    trained_at = {commit for result in results for commit in result.circumstances["trained_at"]}
    earlier = ", ".join(sorted(trained_at - {one["commit"]}))
    names = f"{' and '.join(ADDED)}: " if came_later(results[0]) else ""
    return (
        f"{names}"
        f"{len(results)} runs, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, data {data}; "
        f"commit {one['commit']}{f', networks trained at {earlier}' if earlier else ''}; acn_hf {one['acn_hf']}, "
        f"torch {one['torch']}, transformers {one['transformers']}; {one['device']}, {minutes:.0f} minutes in all"
        f"{', beside that training' if earlier else ''}."
    )


def render(experiment: Experiment, results: Sequence[Result], pictures: Path | None, link: str) -> str:
    """Return the section of an experiment, and draw its picture if there is a folder for it."""
    section = experiment.section(results)
    if section.draw is None:
        link = ""
    elif pictures is not None:
        section.save_picture(pictures / f"{experiment.name}.png")
    text = section.markdown(f"{link}/{experiment.name}.png" if link else None)
    return "\n".join([text, *filter(None, [caution(results)]), circumstances(results), ""])


def page_with(page: str, rendered: str) -> str:
    """Return a page whose marked place holds what is rendered.

    Raises:
        ValueError: It has no such place.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must hold the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{rendered}\n{END}{after}"


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__, formatter_class=Help).parse_args_into_dataclasses()
    page, sections = Path(arguments.page), []
    pictures = page.parent / "paper" if arguments.pictures else None
    try:
        text = page.read_text()
        for experiment in experiments():
            store = Store(arguments.results_dir, experiment.name)
            if store.runs():
                sections.append(render(experiment, store.results(), pictures, "paper"))
        if not sections:
            raise FileNotFoundError(f"there must be results in {arguments.results_dir}; there are none")
        write_text(page, page_with(text, "\n".join(sections)))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
