"""The laboratory of the paper's experiments, made importable, and small results made by hand."""

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path

import pytest

PAPER = Path(__file__).parents[2] / "examples" / "paper"


def load(name):
    """Return a module of `examples/paper`: a script by its name, or `lab.store`."""
    if str(PAPER) not in sys.path:
        sys.path.append(str(PAPER))
    return importlib.import_module(name)


def laboratory(folder, **arguments):
    """Return a quick laboratory on scikit-learn's digits that writes below a folder."""
    module = load("lab.laboratory")
    places = {"results_dir": str(folder / "results"), "work_dir": str(folder / "models")}
    return module.Laboratory(module.Arguments(quick=True, **places, **arguments))


def result(settings, values, **circumstances):
    """Return a result made by hand."""
    here = {
        "commit": "abc1234",
        "acn_hf": "0",
        "torch": "2",
        "transformers": "5",
        "device": "a CPU",
        "trained_at": [],
        "seconds": 60.0,
    }
    return load("lab.store").Result({"data": "digits", **settings}, values, {**here, **circumstances})


def write_results(path, *results):
    """Write results made by hand into the file of an experiment; their names are their numbers."""
    lines = [json.dumps({"name": str(number), **made.to_dict()}) for number, made in enumerate(results)]
    path.write_text("\n".join([*lines, ""]))


LATER = {"acn": "acn-annealed", "residual": "residual-scaled"}


def annealed(results):
    """Return the results of ACNs and residual networks as those of the networks that came to the page later."""
    return [
        dataclasses.replace(run, settings={**run.settings, key: LATER[run.settings[key]]})
        for run in results
        for key in ("arch", "method")
        if run.settings.get(key) in LATER
    ]


def check_verdict_on_both(section, results):
    """Check that the sentence on the annealed ACN is that on the ACN, and that neither changes the other."""
    old = [run for run in results if {*LATER} & {run.settings.get("arch"), run.settings.get("method")}]
    ours, theirs = section(old).verdict, section(annealed(old)).verdict
    assert "the annealed ACN" in theirs
    renamed = ours.replace("the ACN", "the annealed ACN").replace("acn from", "acn-annealed from")
    assert theirs == re.sub(r"over residual\b", "over residual-scaled", renamed)
    both = section([*results, *annealed(results)]).verdict
    for claim in (section(results).verdict, theirs):
        for sentence in re.split(r"\.? Clearly: .*|\.$", claim)[0].split("; vit, "):
            assert sentence in both, sentence


@pytest.fixture
def small(tmp_path):
    """A laboratory whose networks train in a second."""
    made = laboratory(tmp_path)
    made.size = dataclasses.replace(made.size, num_layers=1, num_train=64, num_test=50, num_epochs=1)
    return made


def counted(jobs):
    """Return an experiment of given jobs, and the list of the runs that were made."""
    experiment, rendering, made = load("lab.experiment"), load("lab.rendering"), []

    def measure(number):
        made.append(number)
        return {"accuracies": [0.1, 0.5 + number / 10], "effective_depth": 1}

    def all_jobs(laboratory):
        return [
            experiment.Job({"family": "vit", "arch": "acn", "seed": n}, lambda n=n: measure(n)) for n in range(jobs)
        ]

    def section(results):
        cells = [rendering.cell(values) for values in rendering.series(results, "accuracies")]
        return rendering.Section("A title", "a claim.", "Here.", (rendering.table(["0", "1"], [cells]),), "It held.")

    return experiment.Experiment("counted", all_jobs, section), made
