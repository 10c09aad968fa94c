"""The log of a run: what is read of it, which of many numbers are shown, and what is refused by name."""

import json
import math
from itertools import pairwise

import pytest

from acn_hf import DepthProfile, DepthProfileCallback, LayerSheddingCallback, ResidualAnnealingCallback
from acn_hf.report import RunLog
from acn_hf.report.run_log import MOST_MEASUREMENTS, MOST_POINTS, MOST_VALUES, Removal
from tests.support.run_logs import DEPTHS, EVERY, STEPS, entries, value_at, write_run
from tests.support.training import NUM_LAYERS, trainer


def test_the_measurements_are_those_of_the_log(tmp_path):
    run = RunLog.of_folder(write_run(tmp_path / "my run"))
    steps = list(range(EVERY, STEPS + 1, EVERY))
    assert [one.step for one in run.measurements] == steps
    for one in run.measurements:
        assert one.values == {depth: value_at(one.step, depth) for depth in range(DEPTHS + 1)}
        assert one.effective_depth == max(1, DEPTHS - one.step // EVERY)
        assert one.epoch == one.step / 10
    assert (run.name, run.metric, run.step, run.num_measurements) == ("my run", "eval_accuracy", STEPS, len(steps))
    assert run.greater_is_better is True
    assert run.removals == ()
    assert run.losses["loss"].points == tuple((step, 2.5 - step / STEPS) for step in range(1, STEPS + 1))
    assert [step for step, _ in run.losses["eval_loss"].points] == steps
    assert run.scale.points[-1] == (STEPS, 0.0)
    assert run.command is None


def test_the_log_that_a_trainer_writes(tmp_path):
    run = trainer(tmp_path)
    profile = DepthProfileCallback().attach(run)
    ResidualAnnealingCallback(1.0, 0.0, 1.0).attach(run)
    LayerSheddingCallback(tolerance=1.0, patience=1, start=0.0).attach(run)
    run.train()
    read = RunLog.of_folder(tmp_path)  # from its newest checkpoint
    assert [one.step for one in read.measurements] == [2, 4, 6]
    assert read.measurements[-1].values == dict(zip(profile.profile.depths, profile.profile.values, strict=True))
    assert read.measurements[0].values.keys() == set(range(NUM_LAYERS + 1))
    assert read.removals == (Removal(2, NUM_LAYERS, 1),)
    assert (read.num_examples, read.greater_is_better) == (80, True)
    assert len(read.losses["loss"].points) == 6
    assert [value for _, value in read.scale.points] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])
    assert read.facts["model"] == "AcnViTForImageClassification"
    assert read.facts["steps"] == "6 of 6"
    assert read.facts["read from"] == "checkpoint-6/trainer_state.json"
    run.save_state()
    longer = RunLog.of_folder(tmp_path)
    assert longer.saved == run.state.log_history[-1]["eval_shedding_saved_layer_steps"]
    assert "seconds" in longer.facts
    assert longer.facts["read from"] == f"{tmp_path.name}/trainer_state.json"


def test_layers_that_left(tmp_path):
    run = RunLog.of_folder(write_run(tmp_path, entries(left={20: 3, 40: 1})))
    assert run.removals == (Removal(20, 4, 3), Removal(40, 3, 1))
    assert run.saved == 0.25
    assert [max(one.values) for one in run.measurements] == [4, 4, 3, 3, 1, 1]


@pytest.mark.parametrize("newest", ["folder", "checkpoint"])
def test_the_log_that_goes_on_for_longest_counts(tmp_path, newest):
    short, long = ("checkpoint-70", "") if newest == "folder" else ("", "checkpoint-70")
    write_run(tmp_path / short, entries(steps=30))
    write_run(tmp_path / long, entries(steps=70))
    write_run(tmp_path / "checkpoint-9", entries(steps=90))  # is not the newest one
    (tmp_path / "checkpoint-80").mkdir()  # a run that was stopped while it wrote
    assert RunLog.of_folder(tmp_path).step == 70


def test_of_several_at_one_step_the_last_counts(tmp_path):
    again = {**entries()[-1], "eval_accuracy_at_depth_0": 0.75}
    run = RunLog.of_folder(write_run(tmp_path, [*entries(), again]))
    assert run.num_measurements == STEPS // EVERY
    assert run.measurements[-1].values[0] == 0.75


def test_the_metric_that_is_asked_for(tmp_path):
    near, far = entries(metric="loss", prefix="eval_near"), entries(metric="f1_macro", prefix="eval_far", every=5)
    write_run(tmp_path, sorted([*near, *far], key=lambda entry: entry["step"]))
    run = RunLog.of_folder(tmp_path)
    assert (run.metric, run.others, run.greater_is_better) == ("eval_far_f1_macro", ("eval_near_loss",), True)
    run = RunLog.of_folder(tmp_path, metric="eval_near_loss", name="Near", command="python train.py")
    assert (run.metric, run.others, run.greater_is_better) == ("eval_near_loss", ("eval_far_f1_macro",), False)
    assert (run.name, run.command) == ("Near", "python train.py")
    assert set(run.losses) == {"loss", "eval_near_loss"}
    with pytest.raises(ValueError, match="that the log holds, eval_far_f1_macro, eval_near_loss; got 'f1'"):
        RunLog.of_folder(tmp_path, metric="f1")


def test_a_profile_that_lies_beside_knows_more(tmp_path):
    write_run(tmp_path, entries(metric="my_own"))
    assert RunLog.of_folder(tmp_path).greater_is_better is None
    DepthProfile((0, 1), (0.5, 0.4), "own", False, 321, (1, 2)).save(tmp_path / "depth_profile.json")
    (tmp_path / "model_card.json").write_text(json.dumps({"training": {"learning_rate": 0.01}}))
    run = RunLog.of_folder(tmp_path)
    assert (run.greater_is_better, run.num_examples) == (None, None), "it is of another metric"
    DepthProfile((0, 1), (0.5, 0.4), "my_own", False, 321, (1, 2)).save(tmp_path / "depth_profile.json")
    run = RunLog.of_folder(tmp_path)
    assert (run.greater_is_better, run.num_examples) == (False, 321)
    assert run.training == {"learning_rate": 0.01}


# --- What is chosen out of many


def test_of_many_measurements_some_are_shown(tmp_path):
    log = entries(steps=2000, every=1, losses=2, left={1200: 3, 1601: 2})
    run = RunLog.of_folder(write_run(tmp_path, log, best_global_step=1234))
    steps = [one.step for one in run.measurements]
    assert run.num_measurements == 2000
    assert len(steps) <= MOST_MEASUREMENTS
    assert {1, 2000, 1234, 1200, 1201, 1601, 1602} <= set(steps)
    assert max(after - before for before, after in pairwise(steps)) <= 2 * 2000 / MOST_MEASUREMENTS
    assert steps == sorted(steps)
    curve = run.losses["loss"]
    assert (curve.num_logged, len(curve.points)) == (1000, MOST_POINTS)
    assert curve.points[0] == (3.0, pytest.approx(2.5 - 3 / 2000)), "the mean of two steps, 2 and 4"
    assert len(run.scale.points) == MOST_POINTS
    assert (run.scale.points[0][0], run.scale.points[-1]) == (2, (2000, 0.0))


def test_of_deep_models_fewer_measurements_are_shown(tmp_path):
    run = RunLog.of_folder(write_run(tmp_path, entries(steps=300, every=1, depths=99)))
    assert sum(len(one.values) for one in run.measurements) <= MOST_VALUES
    assert (run.measurements[0].step, run.measurements[-1].step) == (1, 300)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_losses_that_are_no_numbers_are_left_out_and_counted(tmp_path, number):
    log = entries()
    for entry in log[5:8]:
        entry["loss"] = number
    curve = RunLog.of_folder(write_run(tmp_path, log)).losses["loss"]
    assert (curve.num_logged, curve.num_absent, len(curve.points)) == (STEPS, 3, STEPS - 3)
    assert all(math.isfinite(value) for _, value in curve.points)


def test_a_log_without_losses(tmp_path):
    run = RunLog.of_folder(write_run(tmp_path, [entry for entry in entries() if "eval_effective_depth" in entry]))
    assert (run.losses, run.scale) == ({}, None)


# --- What is refused


def changed(**values):
    log = entries()
    log[EVERY + 1].update(values)  # the first measurement
    return log


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ([], "the log is empty"),
        ({}, r"is no log of a Trainer: log_history must be a list; got \{\}"),
        (None, "log_history must be a list; got None"),
        ([{"loss": 1.0, "step": 1}], "has no metric at any depth, such as eval_accuracy_at_depth_3, which DepthProf"),
        (["loss"], r"entry 0 of log_history must be a dictionary with a step >= 0; got 'loss'"),
        ([{"loss": 1.0}], r"entry 0 of log_history must be a dictionary with a step >= 0; got \{'loss'"),
        (changed(step=True), "entry 11 .* with a step >= 0"),
        (changed(step=-1), "entry 11 .* with a step >= 0"),
        (
            changed(eval_accuracy_at_depth_3="high"),
            "entry 11 of log_history: eval_accuracy_at_depth_3 must be",
        ),
        (changed(eval_accuracy_at_depth_3=None), "eval_accuracy_at_depth_3 must be a finite number; got None"),
        (changed(eval_accuracy_at_depth_3=float("nan")), "eval_accuracy_at_depth_3 must be a finite number; got nan"),
        (changed(eval_effective_depth=1.5), "eval_effective_depth must be a depth >= 0; got 1.5"),
        (changed(eval_shedding_depth="x" * 100), "eval_shedding_depth must be a depth >= 0; got 'xxxx.* …"),
        (
            changed(eval_shedding_saved_layer_steps=[]),
            r"saved_layer_steps must be a finite number; got \[",
        ),
        (changed(loss="low"), "entry 11 of log_history: loss must be a number; got 'low'"),
        (changed(epoch={}), r"epoch must be a number; got \{\}"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path, log, words):
    write_run(tmp_path)
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    with pytest.raises(ValueError, match=words) as refused:
        RunLog.of_folder(tmp_path)
    assert str(tmp_path / "trainer_state.json") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["trainer_state.json", "config.json", "model_card.json", "depth_profile.json"])
@pytest.mark.parametrize(
    "text", ['{"log_history": [', "[]", "\xff", "[" * 100_000], ids=["cut", "list", "bytes", "deep"]
)
def test_a_damaged_file_is_refused_by_name(tmp_path, name, text):
    write_run(tmp_path)
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=name) as refused:
        RunLog.of_folder(tmp_path)
    assert len(str(refused.value)) < 400


def test_the_damaged_log_of_a_checkpoint_is_not_passed_over(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path / "checkpoint-70")
    (tmp_path / "checkpoint-70" / "trainer_state.json").write_text("{")
    with pytest.raises(ValueError, match=r"checkpoint-70/trainer_state.json is damaged"):
        RunLog.of_folder(tmp_path)


def test_a_folder_without_a_log(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must have a trainer_state.json; .* and its checkpoints hold none"):
        RunLog.of_folder(tmp_path)
