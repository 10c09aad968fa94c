"""An experiment: its runs, and the section of the page that its results become."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from filelock import Timeout
from transformers import HfArgumentParser
from transformers.utils import logging

from acn_hf.scripts import Help

from .laboratory import Arguments, Laboratory
from .rendering import Section, caution
from .store import Result


@dataclass(frozen=True)
class Job:
    """One run of an experiment.

    Args:
        settings (`dict`): Everything that decides it, `seed` too; the name of its file is made of the values that are
            no lists.
        measure: Returns the values.
    """

    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        """The name of its file."""
        named = {key: value for key, value in self.settings.items() if not isinstance(value, list)}
        return "-".join(f"seed{value}" if key == "seed" else str(value) for key, value in named.items())


@dataclass(frozen=True)
class Experiment:
    """A claim of the paper, and how it is looked at here.

    Args:
        name (`str`): Of its script and of the folder of its results.
        jobs: Returns its runs in a laboratory.
        section: Returns the section of the page from all results.
        arguments (`type`, *optional*, defaults to `Arguments`): A subclass, for a script that takes more; what it
            refuses is a `ValueError`.
    """

    name: str
    jobs: Callable[[Laboratory], Sequence[Job]]
    section: Callable[[Sequence[Result]], Section]
    arguments: type[Arguments] = Arguments


def run(experiment: Experiment, laboratory: Laboratory) -> list[Result]:
    """Run what has no result yet, and return all results of the experiment that were asked for.

    Several processes may run the same experiment: each takes the runs that no other has begun, and waits at the end.
    """
    store, waiting, results = laboratory.store(experiment.name), list(experiment.jobs(laboratory)), []
    turn = 0
    while waiting:
        job = waiting.pop(0)
        try:
            with store.lock(job.name).acquire(timeout=1 if turn > 0 else 0):
                settings = {**job.settings, **vars(laboratory.size), "data": laboratory.data_name(job.settings)}
                result = store.find(job.name, settings)
                if result is None:
                    laboratory.trained_at.clear()
                    start = time.perf_counter()
                    values = job.measure()
                    seconds = time.perf_counter() - start
                    more = {"trained_at": sorted(laboratory.trained_at), "seconds": round(seconds, 1)}
                    result = store.save(job.name, settings, values, **more)
                    print(f"{experiment.name}/{job.name}: {seconds:.0f} s", flush=True)
                results.append(result)
        except Timeout:
            waiting.append(job)
            turn += 1
    return results


def said(experiment: Experiment, laboratory: Laboratory) -> str:
    """Return the section of all results of an experiment, as it is printed."""
    results = laboratory.store(experiment.name).results()
    return f"{experiment.section(results).markdown()}{caution(results)}"


def be_quiet() -> None:
    """Leave out the progress bars and the advice of libraries."""
    logging.set_verbosity_error()
    datasets.disable_progress_bars()


def main(experiment: Experiment, argv: Sequence[str] | None = None) -> None:
    """Run an experiment from the command line, and print its section."""
    parser = HfArgumentParser(experiment.arguments, description=sys.modules["__main__"].__doc__, formatter_class=Help)
    be_quiet()
    try:
        (arguments,) = parser.parse_args_into_dataclasses(args=argv)
        laboratory = Laboratory(arguments)
        run(experiment, laboratory)
        print(said(experiment, laboratory))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
