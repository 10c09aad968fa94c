"""Run every experiment of the paper, one after another.

What is unusual: a network that several experiments need is trained once, whatever is complete is not run again, and the
script may be started as often as there are cores: each process takes the runs that no other has begun.

    python examples/paper/run_all.py --quick
    python examples/paper/run_all.py --image_data FASHION_MNIST --text_data REVIEWS
    python examples/paper/render_paper.py --results_dir runs/paper/results

Cost with --quick: 3 minutes on two CPU cores, started twice.
In full: 4 hours of training and 1.5 hours for the rest, on one core.
"""

import importlib
import time

from lab.experiment import Experiment, be_quiet, run, said
from lab.laboratory import Arguments, Laboratory
from transformers import HfArgumentParser

from acn_hf.scripts import Help

NAMES = (
    "auto_compression",
    "training_length",
    "task_difficulty",
    "noise",
    "low_data",
    "continual_learning",
    "transfer",
    "residual_relatives",
    "pruning",
    "early_exit",
    "cost",
)
"""In the order of the page."""


def experiments() -> list[Experiment]:
    """Return all experiments."""
    return [importlib.import_module(name).EXPERIMENT for name in NAMES]


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__, formatter_class=Help).parse_args_into_dataclasses()
    be_quiet()
    try:
        for experiment in experiments():
            start = time.perf_counter()
            laboratory = Laboratory(experiment.arguments(**vars(arguments)))
            run(experiment, laboratory)
            print(f"== {experiment.name}: {time.perf_counter() - start:.0f} s ==\n", flush=True)
            print(said(experiment, laboratory), flush=True)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
