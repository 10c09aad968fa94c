"""The laboratory of the paper's experiments, made importable, and small results made by hand."""

import importlib
import sys
from pathlib import Path

PAPER = Path(__file__).parents[1] / "examples" / "paper"


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
