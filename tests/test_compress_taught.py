"""The main job with a teacher: tune, teach, measure, choose, cut, heal, test."""

import json
import re
from functools import partial
from itertools import chain, repeat

import datasets
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForImageClassification,
    Trainer,
    TrainerCallback,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

import acn_hf
from acn_hf import BudgetError, compress, measure_depth_profile, truncate
from acn_hf.depth.metrics import METRICS, ProfileError
from acn_hf.training.calming import Calmed
from acn_hf.training.stage_trainer import StageSettings
from tests.support import training
from tests.support.training import data, same_weights, weights

CPU = torch.device("cpu")
LAYERS = 4


@pytest.fixture(scope="module")
def model():
    """A small ViT of transformers that knows digits a little."""
    set_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_labels=10,
    )
    return ViTForImageClassification(config).eval()


def makers(folder, model=None, **epochs):
    """Return a function from a model to its Trainer for each stage that is named."""
    settings = StageSettings(folder, CPU, learning_rate=3e-3, batch_size=16, seed=3)
    return {name: settings.maker(name, number, data()["train"], None) for name, number in epochs.items()}


def run(model, folder, *, epochs=None, **options):
    stages = makers(folder, **({"tune": 1, "teach": 2, "heal": 1} if epochs is None else epochs))
    return compress(model, data()["validation"], **stages, **options)


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    """One run through all stages."""
    return run(model, tmp_path_factory.mktemp("run"), test=data()["test"], tolerance=0.1)


def test_every_stage_is_reported(model, result):
    before = weights(model)
    assert set(result.seconds) >= {"tuned", "taught"}
    assert result.before is not None
    assert result.before.values != result.profile.values
    assert result.before.depths == result.profile.depths == tuple(range(LAYERS + 1))
    assert result.full_value == result.before.values[-1]
    assert result.test.num_examples == 80
    assert same_weights(before, weights(model))
    stored = result.to_dict()
    json.dumps(stored)
    assert stored["data"] == {"full": result.full_value, "short": result.value, "num_examples": 80}
    assert stored["test"]["short"] == result.test.short
    assert set(result.seconds) == {*result.training, "measured", "tested", "cost"}
    assert all(seconds > 0 for seconds in result.seconds.values())


def test_the_arguments_of_every_stage_are_kept(result):
    """They are those that the Trainers had."""
    assert (
        {"tuned", "taught"} < set(result.training) == {"tuned", "taught", *(f"healed-{one}" for one in result.healed)}
    )
    for stage, epochs in {"tuned": 1, "taught": 2, **{f"healed-{one}": 1 for one in result.healed}}.items():
        known = result.training[stage]
        assert (known["num_train_epochs"], known["learning_rate"], known["seed"]) == (epochs, 3e-3, 3)
        assert (known["per_device_train_batch_size"], known["bf16"]) == (16, False)
    assert result.to_dict()["training"] == result.training


def test_a_model_that_is_fine_tuned_says_how_too(model, tmp_path):
    result = run(model, tmp_path, depth=1, epochs={"finetune": 1})
    assert result.training["finetuned"]["num_train_epochs"] == 1
    assert set(result.seconds) == {"finetuned", "measured", "cost"}


def test_values_are_those_of_the_models(model, result):
    """The value on the data, and that on the test data, are what the short model has when it is measured alone."""
    alone = measure_depth_profile(result.model, data()["validation"], depths=[])
    assert alone.values[-1] == result.value
    assert measure_depth_profile(result.model, data()["test"], depths=[]).values[-1] == result.test.short
    assert result.model.config.num_hidden_layers == result.depth == alone.depths[-1]


class TrainingBeganError(Exception):
    """Training began."""


def trains(model):
    raise TrainingBeganError


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_that_does_not_fit_is_refused_before_anything_is_trained(model, metric):
    """Every metric is refused as it would be after the training, or the training begins."""
    try:
        measure_depth_profile(model, data()["validation"], metric=metric, depths=[])
    except ProfileError as refused:
        expected = pytest.raises(ProfileError, match=re.escape(str(refused)))
    else:
        expected = pytest.raises(TrainingBeganError)
    with expected:
        compress(model, data()["validation"], tune=trains, metric=metric)


def test_what_comes_out_is_an_ordinary_checkpoint(result, tmp_path):
    result.save_pretrained(tmp_path / "short")
    read = AutoModelForImageClassification.from_pretrained(tmp_path / "short")
    assert type(read) is ViTForImageClassification
    assert same_weights(weights(read), weights(result.model))
    assert json.loads((tmp_path / "short" / "result.json").read_text())["depth"] == result.depth


def test_the_card_and_the_picture_are_those_of_the_result(result, tmp_path):
    """Every value at every depth, of every curve, and what speaks against it."""
    result.save_pretrained(tmp_path / "short", test_data="the last digits")
    facts = acn_hf.CardFacts.load(tmp_path / "short" / "model_card.json")
    known = facts.compression
    assert (known.before, known.healed, known.test) == (result.before, result.healed, result.test)
    assert (known.interval, known.doubts) == (result.interval, result.doubts)
    text = (tmp_path / "short" / "README.md").read_text()
    for depth in result.profile.depths:
        values = (result.before.value_at(depth), result.profile.value_at(depth))
        row = next(
            line.replace("*", "") for line in text.splitlines() if re.match(rf"\| \**{depth}\** \| \**0\.", line)
        )
        healed = f"{result.healed[depth]:.4f}" if depth in result.healed else ""
        assert row.startswith(" | ".join([f"| {depth}", *(f"{value:.4f}" for value in values), healed, ""]))
    assert all(f"\n- {doubt}\n" in text for doubt in result.doubts)
    assert f"on the last digits, by which nothing was chosen (80 examples) | {result.test.full:.4f}" in text


def test_tables_say_what_was_done(result):
    text = str(result)
    assert "accuracy, test data" in text
    from acn_hf.support.records import render

    table = render(result.depths_table())
    assert "before teaching" in table
    assert f"{result.depth} *" in table


def test_a_depth_that_is_given_is_healed_there(model, tmp_path):
    result = run(model, tmp_path, depth=2, epochs={"teach": 1, "heal": 1})
    assert (result.depth, set(result.healed)) == (2, {2})
    assert result.before is not None
    assert "healed" in str(result) or any("healing made it worse" in doubt for doubt in result.doubts)


class Scripted:
    """Values of the metric by depth, for healed and for taught models, which no training gives so plainly."""

    def __init__(self, monkeypatch, taught, healed, before=None):
        self.healed, self.tried = healed, []
        monkeypatch.setattr("acn_hf.compression.job.Job.taught", self._taught)
        monkeypatch.setattr("acn_hf.compression.job.Job.end_of", self._end)
        of = partial(acn_hf.DepthProfile, metric="accuracy", greater_is_better=True, num_examples=10)
        depths = tuple(range(len(taught)))
        first, then = (of(depths, tuple(one), num_parameters=depths) for one in (before or taught, taught))
        profiles = chain([first], repeat(then))
        monkeypatch.setattr("acn_hf.compression.job.Job.measured", lambda job, model, **options: next(profiles))

    def _taught(self, student, make_trainer, weights):
        if weights == "full":
            self.tried.append(student.config.num_hidden_layers)
        return student

    def _end(self, model, num_examples):
        depth = model.config.num_hidden_layers
        return acn_hf.DepthProfile((depth,), (self.healed[depth],), "accuracy", True, 10, (1,))


@pytest.mark.parametrize(
    ("taught", "healed", "tolerance", "chosen", "tried"),
    [
        ((0.1, 0.5, 0.6, 0.89, 0.9), {1: 0.8, 2: 0.895}, 0.02, 2, [2, 1]),
        ((0.1, 0.5, 0.6, 0.89, 0.9), {1: 0.8, 2: 0.87, 3: 0.9}, 0.02, 3, [2, 3]),
        ((0.1, 0.5, 0.6, 0.7, 0.9), {1: 0.9, 2: 0.9}, 0.0, 1, [2, 1]),
        ((0.1, 0.2, 0.3, 0.4, 0.9), {2: 0.5, 3: 0.5}, 0.0, 4, [2, 3]),
        ((0.1, 0.9, 0.9, 0.9, 0.9), {1: 0.95}, 0.0, 1, [1]),
        ((0.1, 0.9, 0.9, 0.9, 0.9), {1: 0.2}, 0.0, 1, [1]),
    ],
)
def test_the_smallest_depth_is_found_that_is_good_enough_when_healed(
    model, monkeypatch, tmp_path, taught, healed, tolerance, chosen, tried
):
    script = Scripted(monkeypatch, taught, healed)
    result = run(model, tmp_path, epochs={"teach": 1, "heal": 1}, tolerance=tolerance)
    assert (result.depth, script.tried) == (chosen, tried)
    if healed.get(chosen, 0) >= taught[chosen]:
        assert result.value == healed.get(chosen, taught[chosen])
    else:
        assert result.value == taught[chosen]


@pytest.mark.parametrize(
    ("before", "taught", "depth", "is_said"),
    [
        (0.9, 0.8, None, True),
        (0.9, 0.8, LAYERS, True),
        (0.9, 0.8, 2, False),
        (0.9, 0.9, LAYERS, False),
        (0.8, 0.9, None, False),
    ],
)
def test_full_depth_that_teaching_made_worse_is_said(model, monkeypatch, tmp_path, before, taught, depth, is_said):
    """Where something is cut off, what it costs stands in the table."""
    low = (0.1, 0.2, 0.2, 0.2)
    Scripted(monkeypatch, (*low, taught), {2: 0.2}, before=(*low, before))
    how = {"choose_healed": False} if depth is None else {"depth": depth}
    result = run(model, tmp_path, epochs={"teach": 1, "heal": 1}, **how)
    assert result.depth == (LAYERS if depth is None else depth)
    text = f"nothing was cut off, and teaching made full depth worse: accuracy {before:.4f} before, {taught:.4f} taught"
    assert any(doubt.startswith(text) for doubt in result.doubts) is is_said


def test_without_a_search_only_the_chosen_depth_is_healed(model, monkeypatch, tmp_path):
    script = Scripted(monkeypatch, (0.1, 0.5, 0.6, 0.89, 0.9), {3: 0.9})
    result = run(model, tmp_path, epochs={"heal": 1}, tolerance=0.02, choose_healed=False)
    assert (result.depth, script.tried) == (3, [3])


def test_limits_choose_the_best_depth_within_them(model, tmp_path):
    profile = measure_depth_profile(model, data()["validation"])
    sizes = {depth: truncate(model, depth).num_parameters() for depth in profile.depths}
    result = compress(model, data()["validation"], max_parameters=sizes[2])
    best = max(profile.values[:3])
    assert result.profile.value_at(result.depth) == best
    assert result.depth <= 2
    assert result.tradeoffs.depths == result.profile.depths
    assert result.to_dict()["tradeoffs"]["metric"] == "accuracy"
    assert compress(model, data()["validation"], max_latency_ms=1e6, max_mb=1e6).depth <= LAYERS
    for stages in ({}, {"teach": _fails}, {"tune": _fails, "teach": _fails}):  # before anything is trained
        with pytest.raises(BudgetError, match=r"no depth meets max_mb=0\.0001: the smallest, depth 0, has"):
            compress(model, data()["validation"], max_mb=0.0001, **stages)


def test_a_run_that_was_stopped_between_stages_ends_in_the_same_bits(model, tmp_path):
    whole = run(model, tmp_path / "one", work_dir=tmp_path / "work-one", depth=2)
    stages = makers(tmp_path / "two", tune=1, teach=2)
    with pytest.raises(KeyboardInterrupt):
        compress(model, data()["validation"], **stages, heal=_stopped, work_dir=tmp_path / "work-two", depth=2)
    assert (tmp_path / "work-two" / "taught" / "stage.json").exists()
    stages = makers(tmp_path / "two", tune=1, teach=2, heal=1)
    trained = dict.fromkeys(("tune", "teach"), _fails) | {"heal": stages["heal"]}
    resumed = compress(model, data()["validation"], **trained, work_dir=tmp_path / "work-two", resume=True, depth=2)
    assert same_weights(weights(whole.model), weights(resumed.model))
    for known in ("data", "training", "calmed"):
        assert resumed.to_dict()[known] == whole.to_dict()[known]
    assert set(resumed.seconds) == set(whole.seconds)


def test_what_was_done_to_calm_a_copy_is_not_forgotten_when_a_run_goes_on(model, tmp_path, monkeypatch):
    calmed = Calmed((5,), (1, 2), 9)
    monkeypatch.setattr("acn_hf.training.teaching.calm_student", lambda trainer, teacher, weights: calmed)
    options = {"work_dir": tmp_path / "work", "depth": 2}
    assert run(model, tmp_path, epochs={"teach": 1}, **options).calmed == calmed
    resumed = compress(model, data()["validation"], teach=_fails, **options, resume=True)
    assert resumed.calmed == calmed


def test_the_calming_that_is_told_is_that_of_the_depth_that_was_chosen(model, tmp_path, monkeypatch):
    """And not that of the first depth that was tried."""
    script = Scripted(monkeypatch, (0.1, 0.5, 0.6, 0.7, 0.9), {1: 0.9, 2: 0.9})

    def taught(job, student, make_trainer, weights):
        if weights == "full":
            depth = student.config.num_hidden_layers
            script.tried.append(depth)
            job.stages.note(f"healed-{depth}", calmed=Calmed((5,), (depth,), depth).to_dict())
        return student

    monkeypatch.setattr("acn_hf.compression.job.Job.taught", taught)
    result = run(model, tmp_path, epochs={"teach": 1, "heal": 1}, tolerance=0.0)
    assert (result.depth, script.tried) == (1, [2, 1])
    assert result.calmed == Calmed((5,), (1,), 1)


class Stop(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 7:
            raise KeyboardInterrupt


def _stopped(short):
    raise KeyboardInterrupt


def _fails(model):
    raise AssertionError("a stage that is done is trained again")


def test_a_stage_that_was_stopped_goes_on_to_the_bit(model, tmp_path):
    """From its checkpoint, in the middle of an epoch, with the same order of examples and the same answers."""
    options = {"learning_rate": 3e-3, "batch_size": 16, "checkpoint_every": 3}
    rows = data()["train"]
    whole = StageSettings(tmp_path / "one", CPU, **options).maker("teach", 2, rows, None)
    expected = acn_hf.teach(model, whole)
    folder = tmp_path / "two" / f"teach-{LAYERS}"
    first = StageSettings(tmp_path / "two", CPU, **options)

    def stopped(student):
        trainer = first.maker("teach", 2, rows, None)(student)
        trainer.add_callback(Stop())
        return trainer

    with pytest.raises(KeyboardInterrupt):
        acn_hf.teach(model, stopped)
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-6"]
    resumed = StageSettings(tmp_path / "two", CPU, **options, resume=True).maker("teach", 2, rows, None)
    assert same_weights(weights(acn_hf.teach(model, resumed)), weights(expected))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"teacher": "x"}, "a teacher needs teach or heal, in which it teaches; got str alone"),
        (
            {"choose_healed": True},
            "choose_healed=True looks for the smallest depth within a tolerance",
        ),
        ({"depth": 1, "max_mb": 3}, "a depth is given, or limits that choose one; got max_mb=3, depth=1"),
        ({"max_mb": 3, "tolerance": 0.1}, "tolerance chooses a depth, so none may be given; got max_mb=3"),
        (
            {"max_mb": 3, "confidence": 0.9},
            "relative and confidence choose a depth, so none may be given",
        ),
        ({"teach": _fails, "soft_labels": 0.0}, r"soft_labels must lie in \(0, 1\]; got 0.0"),
        ({"teach": _fails, "soft_labels": 1.5}, r"soft_labels must lie in \(0, 1\]; got 1.5"),
        ({"soft_labels": 0.5}, "soft_labels needs teach or heal, in which a teacher answers; got 0.5 alone"),
        ({"heal": _fails, "finetune": _fails}, "heal and finetune both train the cut model"),
        ({"test": iter([])}, "test is read twice, so it must not be an iterator"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_done(model, options, text):
    with pytest.raises(ProfileError, match=text):
        compress(model, data()["validation"], **options)


def test_labels_may_be_a_part_of_the_loss(model, tmp_path):
    """Both stages that teach take the share: the same as `teach` does, and healed from there."""
    result = run(model, tmp_path / "a", epochs={"teach": 1, "heal": 1}, soft_labels=0.3, depth=2)
    stages = makers(tmp_path / "b", teach=1, heal=1)
    taught = acn_hf.teach(model, stages["teach"], soft_labels=0.3)
    healed = acn_hf.teach(truncate(taught, 2), stages["heal"], teacher=model, weights="full", soft_labels=0.3)
    expected = healed if result.finetuned is not None else truncate(taught, 2)
    assert same_weights(weights(result.model), weights(expected))
    assert not same_weights(weights(taught), weights(acn_hf.teach(model, makers(tmp_path / "c", teach=1)["teach"])))


STAGES = ("tune", "teach", "heal", "finetune")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["a Trainer", "arguments", "a data set"])
def test_a_stage_that_is_no_function_is_refused_before_anything_is_read(model, tmp_path, stage, kind):
    maker = makers(tmp_path, **{stage: 1})[stage]
    given = {"a Trainer": maker(model), "arguments": maker(model).args, "a data set": data()["train"]}[kind]
    text = (
        f"{stage} must be a function from a model to the Trainer that is to train it, .*; got {type(given).__name__}$"
    )
    with pytest.raises(TypeError, match=text):
        compress(model, (pytest.fail("was read") for _ in range(1)), **{stage: given})
    with pytest.raises(TypeError, match=text.replace(stage, "make_trainer")):
        acn_hf.teach(model, given)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", ["DataLoader", "DatasetDict", "dict", "str", "NoneType"])
def test_training_data_that_are_no_rows_are_refused(model, tmp_path, stage, kind):
    """Upstream's Trainer would go wrong somewhere in them, with an error that does not say it."""
    rows = data()["train"]
    given = {
        "DataLoader": DataLoader(rows, batch_size=4),
        "DatasetDict": datasets.DatasetDict(train=rows),
        "dict": {"train": rows},
        "str": "train.csv",
        "NoneType": None,
    }[kind]
    maker = makers(tmp_path, **{stage: 1})[stage]

    def make_trainer(copy):
        trainer = maker(copy)
        trainer.train_dataset = given
        return trainer

    text = rf"the train_dataset of the Trainer of a stage must be a data set of rows, .*; got {kind}\b"
    with pytest.raises(TypeError, match=text):
        compress(model, data()["validation"], **{stage: make_trainer}, depth=2)
    with pytest.raises(TypeError, match=text):
        acn_hf.teach(model, make_trainer)


def test_a_trainer_that_makes_its_batches_itself_needs_no_rows(model, tmp_path):
    rows = data()["train"]

    class Own(Trainer):
        def get_train_dataloader(self):
            return DataLoader(rows, batch_size=16)

    arguments = training.arguments(tmp_path, max_steps=1, eval_strategy="no", save_strategy="no")
    result = compress(model, data()["validation"], finetune=lambda copy: Own(copy, arguments), depth=2)
    assert result.finetuned is not None


def test_doubts_are_said_and_strict_refuses_them_before_anything_is_trained(model, tmp_path):
    one_class = data()["validation"].filter(lambda row: row["labels"] == 3)
    result = compress(model, one_class, depth=2)
    assert any("have the label" in doubt for doubt in result.doubts)
    for stage in STAGES:
        with pytest.raises(ProfileError, match="strict refuses a choice about which there are doubts"):
            compress(model, one_class, **{stage: _fails}, depth=2, strict=True)


@pytest.mark.parametrize("first", STAGES)
def test_doubts_about_the_data_are_told_before_anything_is_trained_and_once(model, tmp_path, first):
    """By whatever stage comes first; where nothing stands against the data nothing is told of them."""
    validation, told = data()["validation"], []
    few = {"one class": validation.filter(lambda row: row["labels"] == 3), "few": validation.select(range(20))}
    expected = {
        "one class": "all 6 examples have the label",
        "few": "a difference of 0.005 in accuracy can never be told",
    }
    (maker,) = makers(tmp_path, **{first: 1}).values()

    def trained(copy):
        told.append("begins")
        return maker(copy)

    for name, rows in few.items():
        told.clear()
        result = compress(model, rows, **{first: trained}, note=told.append)
        before = told[: told.index("begins")]
        assert any(expected[name] in doubt for doubt in before), told
        assert [doubt for doubt in told if doubt != "begins"] == list(result.doubts)
        assert len(set(result.doubts)) == len(result.doubts)
    told.clear()
    compress(model, validation, **{first: trained}, tolerance=0.1, note=told.append)
    assert not any("the label" in one or "never" in one for one in told)


def test_doubts_of_a_choice_without_training_are_told_too(model):
    told = []
    result = compress(model, data()["validation"].select(range(1)), note=told.append)
    assert told == list(result.doubts) == ["the data hold one example, by which no depth can be chosen"]
