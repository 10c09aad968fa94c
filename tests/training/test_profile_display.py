"""Profiles are seen while they are measured: in TensorBoard by step, in a notebook as one picture that changes."""

import io
import json
import logging
import subprocess
import sys
import types

import pytest
from matplotlib.figure import Figure
from PIL import Image
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from acn_hf import DepthProfileCallback, LayerSheddingCallback
from acn_hf.depth.drawing import EARLIER, plot_profile_history
from tests.support.training import NUM_LAYERS, trainer

pytest.importorskip("tensorboard")
LOGGER = "acn_hf.training.profile_display"


class Stop(TrainerCallback):
    """Ends a run early."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def reporting(folder, monkeypatch, **options):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "events"))
    return trainer(folder, report_to="tensorboard", **options)


def figures(folder):
    """Return the pictures by their names and steps, and the names of the numbers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "events"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    found = {
        (tag, event.step): Image.open(io.BytesIO(event.encoded_image_string))
        for tag in tags["images"]
        for event in events.Images(tag)
    }
    return found, tags["scalars"]


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


@pytest.fixture(autouse=True)
def _heard(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.WARNING, "acn_hf")


# --- TensorBoard


def test_tensorboard_has_a_figure_for_each_measurement(tmp_path, monkeypatch, caplog):
    run = reporting(tmp_path, monkeypatch, save_steps=3)
    DepthProfileCallback(every=2).attach(run)
    run.train()
    pictures, numbers = figures(tmp_path)
    assert list(pictures) == [("eval/accuracy_at_every_depth", step) for step in (2, 3, 4, 6)]
    assert "eval/accuracy_at_depth_0" in numbers
    assert {picture.size for picture in pictures.values()} == {(1050, 600)}
    assert all(len(picture.convert("RGB").getcolors(10**6)) > 100 for picture in pictures.values()), "it is not empty"
    assert said(caplog) == []


def test_a_figure_holds_the_profile_of_its_step(tmp_path, monkeypatch):
    run, drawn = reporting(tmp_path, monkeypatch), []
    callback = DepthProfileCallback().attach(run)

    class Writer:
        def add_figure(self, tag, figure, step):
            lines = [list(line.get_ydata()) for axes in figure.axes for line in axes.get_lines()]
            drawn.append((tag, step, list(callback.profile.values) in lines))

        def __getattr__(self, name):
            return lambda *args, **kwargs: None

    (board,) = [one for one in run.callback_handler.callbacks if isinstance(one, TensorBoardCallback)]
    board.tb_writer = Writer()
    run.train()
    assert drawn == [("eval/accuracy_at_every_depth", step, True) for step in (2, 4, 6)]


def test_several_sets_have_figures_of_their_own(tmp_path, monkeypatch):
    run = reporting(tmp_path, monkeypatch, max_steps=2)
    run.eval_dataset = {"near": run.eval_dataset.select(range(40)), "far": run.eval_dataset}
    DepthProfileCallback().attach(run)
    run.train()
    assert set(figures(tmp_path)[0]) == {
        ("eval/near_accuracy_at_every_depth", 2),
        ("eval/far_accuracy_at_every_depth", 2),
    }


@pytest.mark.slow
def test_resumed_and_stopped_runs_and_evaluations_go_on_at_their_steps(tmp_path, monkeypatch):
    first = reporting(tmp_path, monkeypatch, callbacks=[Stop(4)])
    DepthProfileCallback().attach(first)
    first.train()
    assert first.state.global_step == 4
    second = reporting(tmp_path, monkeypatch)
    DepthProfileCallback().attach(second)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    second.evaluate(metric_key_prefix="test")
    assert set(figures(tmp_path)[0]) == {
        *(("eval/accuracy_at_every_depth", step) for step in (2, 4, 6)),
        ("test/accuracy_at_every_depth", 6),
    }


def test_the_main_process_alone_draws(tmp_path, monkeypatch):
    run = reporting(tmp_path, monkeypatch, max_steps=2)
    callback = DepthProfileCallback().attach(run)
    run.train()
    run.state.is_world_process_zero = False
    monkeypatch.setattr("acn_hf.training.profile_display.writers_of", lambda trainer: pytest.fail("it looked"))
    callback.on_evaluate(run.args, run.state, run.control, {}, model=run.model)


@pytest.mark.parametrize("wanted", [None, pytest.param(True, marks=pytest.mark.slow)])
def test_without_matplotlib_training_goes_on_and_says_it_once(tmp_path, monkeypatch, caplog, wanted):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    run = reporting(tmp_path, monkeypatch, max_steps=4)
    callback = DepthProfileCallback(figures=wanted).attach(run)
    run.train()
    run.train()
    assert callback.profile is not None
    pictures, numbers = figures(tmp_path)
    assert pictures == {}
    assert "eval/effective_depth" in numbers
    (line,) = said(caplog)
    assert "profiles are not drawn without matplotlib: pip install 'acn-hf[plots]'" in line


@pytest.mark.parametrize(
    ("wanted", "attached", "reports", "words"),
    [
        (None, False, True, "callback.attach(trainer)"),
        (True, False, True, "callback.attach(trainer)"),
        (True, True, False, "figures=True has no effect"),
        (True, False, False, "figures=True has no effect"),
        (None, True, False, None),
        (None, False, False, None),
        (False, False, True, None),
        (False, True, True, None),
    ],
)
def test_what_has_no_effect_says_so(tmp_path, monkeypatch, caplog, wanted, attached, reports, words):
    run = reporting(tmp_path, monkeypatch) if reports else trainer(tmp_path)
    callback = DepthProfileCallback(figures=wanted)
    callback.attach(run) if attached else run.add_callback(callback)
    for _ in range(2):  # as two trainings do
        callback.on_train_begin(run.args, run.state, run.control, model=run.model)
    lines = said(caplog)
    assert len(lines) == (words is not None)
    assert all(words in line for line in lines)


def test_none_are_drawn_if_none_are_asked_for(tmp_path, monkeypatch):
    run = reporting(tmp_path, monkeypatch, max_steps=2)
    DepthProfileCallback(figures=False).attach(run)
    run.train()
    assert figures(tmp_path)[0] == {}


@pytest.mark.parametrize("figures", ["yes", 1, 0])
def test_figures_is_yes_or_no(figures):
    with pytest.raises(ValueError, match="figures must be True, False or None; got"):
        DepthProfileCallback(figures=figures)


# --- The picture of many steps


def lines(axes):
    return [(line.get_label(), list(line.get_xdata()), list(line.get_ydata()), line.get_alpha()) for line in axes.lines]


def test_the_newest_profile_stands_before_the_earlier_ones():
    history = {10: {0: 0.1, 1: 0.5, 2: 0.6}, 30: {0: 0.1, 1: 0.9}, 20: {0: 0.1, 1: 0.7, 2: 0.8}}  # a layer left
    drawn = lines(plot_profile_history(history, "accuracy", effective_depth=1))
    assert [line[:3] for line in drawn] == [
        ("from step 10 on", [0, 1, 2], [0.1, 0.5, 0.6]),
        ("_child1", [0, 1, 2], [0.1, 0.7, 0.8]),
        ("step 30", [0, 1], [0.1, 0.9]),
        ("effective depth 1", [1], [0.9]),
    ]
    assert drawn[0][3] < drawn[1][3] < 1
    assert drawn[2][3] is None


def test_of_many_profiles_some_are_drawn():
    axes = Figure().add_subplot()
    assert plot_profile_history({step: {0: 0.1, 1: step / 1000} for step in range(1000)}, "loss", ax=axes) is axes
    drawn = [values[-1] for _, _, values, _ in lines(axes)]
    assert len(drawn) == EARLIER + 1
    assert (drawn[0], drawn[-2], drawn[-1]) == (0, 0.998, 0.999)
    with pytest.raises(ValueError, match="a history must hold at least one measurement; got none"):
        plot_profile_history({}, "loss")


@pytest.mark.parametrize("worst", [float("nan"), float("inf")])
def test_a_model_that_fell_apart_can_be_drawn(worst, tmp_path):
    axes = plot_profile_history({1: {0: 2.3, 1: worst}, 2: {0: worst, 1: worst}}, "loss", effective_depth=0)
    axes.figure.savefig(tmp_path / "picture.png")


# --- Notebook


class Shell:
    """What `IPython` and `IPython.display` are to us, and what a notebook shows of it."""

    def __init__(self):
        self.shown, self.config = [], {"IPKernelApp": {}}

    def display(self, picture, display_id=None):
        self.shown.append([picture])
        return types.SimpleNamespace(update=self.shown[-1].append) if display_id else None


@pytest.fixture
def notebook(monkeypatch):
    shell = Shell()
    module, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    module.get_ipython = lambda: shell
    display.display, display.Image = shell.display, types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shell


def pictures(shown):
    return [[picture.alt.partition(": ")[0] for picture in pictures] for pictures in shown]


def test_a_notebook_has_one_picture_that_changes(tmp_path, notebook):
    run = trainer(tmp_path)
    callback = DepthProfileCallback().attach(run)
    run.train()
    steps = [f"eval_accuracy at each depth at step {step}" for step in (2, 4, 6)]
    assert pictures(notebook.shown) == [steps]
    newest = notebook.shown[0][-1]
    assert newest.alt.endswith(f"; effective depth {callback.profile.effective_depth(0.005)}")
    assert f"{NUM_LAYERS}: {callback.profile.values[-1]:.4g}" in newest.alt
    assert Image.open(io.BytesIO(newest.data)).size == (1050, 600)
    run.evaluate()
    run.evaluate()  # in cells of their own
    assert pictures(notebook.shown) == [steps, steps[-1:], steps[-1:]]
    run.train()
    assert len(notebook.shown) == 4


@pytest.mark.slow
def test_each_set_has_a_picture_also_beside_the_progress_of_notebooks(tmp_path, notebook):
    class Progress(TrainerCallback):
        """Takes the times out of the metrics, as transformers' NotebookProgressCallback does."""

        def on_evaluate(self, args, state, control, metrics, **kwargs):
            prefix = next(name.removesuffix("_loss") for name in metrics if name.endswith("_loss"))
            for end in ("_runtime", "_samples_per_second", "_steps_per_second"):
                metrics.pop(f"{prefix}{end}")

    run = trainer(tmp_path, max_steps=4, callbacks=[Progress()])
    run.eval_dataset = {"near": run.eval_dataset.select(range(40)), "far": run.eval_dataset}
    DepthProfileCallback().attach(run)
    run.train()
    assert pictures(notebook.shown) == [
        [f"eval_{name}_accuracy at each depth at step {step}" for step in (2, 4)] for name in ("near", "far")
    ]


def test_a_resumed_run_has_its_earlier_profiles_behind(tmp_path, notebook, monkeypatch):
    first = trainer(tmp_path, callbacks=[Stop(4)])
    DepthProfileCallback().attach(first)
    first.train()
    seen = []

    def draw(history, *args, **options):
        seen.append({step: list(values) for step, values in history.items()})
        return plot_profile_history(history, *args, **options)

    monkeypatch.setattr("acn_hf.training.profile_display.plot_profile_history", draw)
    second = trainer(tmp_path)
    DepthProfileCallback().attach(second)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    every = list(range(NUM_LAYERS + 1))
    assert seen == [{2: every, 4: every, 6: every}]


@pytest.mark.slow
def test_layers_that_leave_are_not_in_later_profiles(tmp_path, notebook):
    run = trainer(tmp_path)
    DepthProfileCallback().attach(run)
    LayerSheddingCallback(tolerance=1.0, patience=1, start=0.0).attach(run)
    run.train()
    newest = notebook.shown[0][-1].alt
    assert ", 1: " in newest
    assert ", 2: " not in newest


@pytest.mark.parametrize("kind", ["console", "no shell"])
def test_elsewhere_nothing_is_displayed(tmp_path, notebook, monkeypatch, kind):
    if kind == "console":
        notebook.config = {}
    else:
        sys.modules["IPython"].get_ipython = lambda: None
    run = trainer(tmp_path, max_steps=2)
    DepthProfileCallback().attach(run)
    run.train()
    assert notebook.shown == []


CELL = """
import json, sys
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config({"IPKernelApp": {}}), display_pub_class=CapturingDisplayPublisher)
done = shell.run_cell(sys.argv[1])
done.raise_error()
kept = [{**one, "data": sorted(one["data"])} for one in shell.display_pub.outputs if "image/png" in one["data"]]
progress = [one for one in shell.display_pub.outputs if "text/html" in one["data"]]
json.dump({"pictures": kept, "progress": len(progress), "callbacks": shell.user_ns["names"]}, sys.stdout, default=str)
"""


@pytest.mark.slow
def test_in_ipython_itself_beside_the_progress_of_transformers(tmp_path):
    pytest.importorskip("IPython")
    cell = (
        "from tests.support.training import trainer\n"
        "from acn_hf import DepthProfileCallback\n"
        f"run = trainer({str(tmp_path)!r}, disable_tqdm=False)\n"
        "DepthProfileCallback().attach(run)\n"
        "names = [type(one).__name__ for one in run.callback_handler.callbacks]\n"
        "run.train();\n"
    )
    done = subprocess.run([sys.executable, "-c", CELL, cell], capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "NotebookProgressCallback" in seen["callbacks"]
    assert seen["progress"] > 0
    shown = seen["pictures"]
    assert [one.get("update", False) for one in shown] == [False, True, True]
    assert len({one["transient"]["display_id"] for one in shown}) == 1
    assert [one["metadata"]["image/png"]["alt"].partition(": ")[0][-6:] for one in shown] == [
        f"step {step}" for step in (2, 4, 6)
    ]
