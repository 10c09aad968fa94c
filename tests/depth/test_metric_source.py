"""A metric of one's own may lie in a Python file or a module, and what cannot be loaded is named."""

import sys

import pytest

from acn_hf import measure_depth_profile
from acn_hf.depth.metrics import METRICS, Metric, ProfileError, resolve_metric
from tests.support.families import by_name

CLASSIFIER = by_name("bert-ForSequenceClassification")
CODE = """
import numpy as np
from dataclasses import dataclass

@dataclass
class _Count:
    number: "int"

def errors(predictions, references):
    return _Count(int((predictions != references).sum())).number

def _helper(predictions, references):
    return 0.0
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "metric.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("name", ["", ":errors"])
def test_a_function_of_a_file_is_a_metric(build, file, name):
    model, batch = build(CLASSIFIER), CLASSIFIER.inputs(batch_size=8, labels=True)
    measured = measure_depth_profile(model, [batch], metric=f"{file}{name}", greater_is_better=False)
    accuracy = measure_depth_profile(model, [batch]).values
    assert measured.values == pytest.approx([8 * (1 - value) for value in accuracy])
    assert (measured.metric, measured.greater_is_better) == ("errors", False)


def test_nothing_stays_behind(file):
    modules, paths = set(sys.modules), list(sys.path)
    resolve_metric(str(file))
    assert set(sys.modules) == modules
    assert sys.path == paths


def test_a_function_of_a_module_is_a_metric():
    metric = resolve_metric("sklearn.metrics:zero_one_loss", False)
    assert (metric.name, metric.greater_is_better) == ("zero_one_loss", False)
    assert metric.score([1, 0], [1, 1]) == 0.5


def test_a_module_of_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "own_metric_here.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    assert resolve_metric("own_metric_here:errors").name == "errors"
    del sys.modules["own_metric_here"]


def test_a_function_says_which_direction_is_good(file):
    file.write_text(f"{CODE}\nerrors.greater_is_better = False\n")
    assert resolve_metric(str(file)).greater_is_better is False
    assert resolve_metric(str(file), True).greater_is_better is True


def test_a_file_may_hold_a_whole_metric(file):
    file.write_text("from acn_hf.depth import Metric\nDISTANCE = Metric('distance', False, max, needs='numbers')\n")
    metric = resolve_metric(str(file))
    assert (metric.name, metric.greater_is_better, metric.needs) == ("distance", False, "numbers")
    assert resolve_metric(f"{file}:DISTANCE").name == "distance"
    with pytest.raises(ProfileError, match="greater_is_better is for a metric of your own; 'distance' is known"):
        resolve_metric(str(file), True)


def test_a_metric_is_what_it_is():
    metric = Metric("mine", True, max)
    assert resolve_metric(metric) is metric
    assert resolve_metric(METRICS["mse"], False) is METRICS["mse"]


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (CODE, ":error", "metric.py must hold 'error'; it holds errors$"),
        (
            f"{CODE}\ndef other(a, b): return 0",
            "",
            "must hold one public function; it holds errors, other: say which, as ",
        ),
        ("x = 3", "", "must hold one public function; it holds none$"),
        ("x = 3", ":x", r"metric.py:x must be a function of \(predictions, references\); got 3$"),
        (
            "def one(a): return 0",
            "",
            r"must be a function of \(predictions, references\); it takes \(a\)$",
        ),
        ("def one(a", "", "cannot be loaded: SyntaxError: "),
        ("import no_such_package", "", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'$"),
        ("raise RuntimeError('of the user')", ":f", "cannot be loaded: RuntimeError: of the user$"),
    ],
    ids=["name", "several", "none", "number", "one argument", "syntax", "import", "raises"],
)
def test_what_cannot_be_loaded_is_named(file, code, name, message):
    file.write_text(code)
    with pytest.raises(ProfileError, match=message):
        resolve_metric(f"{file}{name}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such.py", "^metric 'no_such.py' cannot be loaded: there is no file no_such.py$"),
        ("no_such.py:f", "^metric 'no_such.py:f' cannot be loaded: there is no file no_such.py$"),
        ("no_such_module:f", "^metric 'no_such_module:f' cannot be loaded: ModuleNotFoundError"),
        ("math:no_such", "^math must hold 'no_such'; it holds no public function$"),
        ("acuracy", r"^metric must be one of .*, or metric.py:function or module:function; got 'acuracy'$"),
    ],
)
def test_what_does_not_exist_is_named(source, message):
    with pytest.raises(ProfileError, match=message):
        resolve_metric(source)


def test_what_is_kept_must_be_known():
    with pytest.raises(ProfileError, match=r"^needs must be one of classes, .*, scores; got 'tag'$"):
        Metric("mine", True, max, needs="tag")
