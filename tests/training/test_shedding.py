"""Layers that leave while training: when, from where, and that everything goes on as if they had never been there."""

import math
from types import SimpleNamespace

import pytest
from transformers import TrainerState

from acn_hf import AcnViTForImageClassification, DepthError, DepthProfile, LayerSheddingCallback
from acn_hf.modeling.depth import encoder_layers
from acn_hf.training.shedding import saved_layer_steps
from tests.support.training import (
    ACCUMULATION,
    BFLOAT16,
    CHECKPOINTING,
    build_model,
    same_weights,
    some_of,
    trainer,
    weights,
)

DEPTH = 4  # of the models of tests.support.training


class Scripted(LayerSheddingCallback):
    """Finds, measurement by measurement, the effective depths that it was told."""

    def __init__(self, *effective_depths, **options):
        super().__init__(every=1, **{"start": 0.0, **options})
        self.effective_depths = effective_depths

    def measure(self, args, model, eval_dataloader=None):
        present = model.config.num_hidden_layers
        step = self.trainer.state.global_step
        effective = min(present, self.effective_depths[min(step, len(self.effective_depths)) - 1])
        values = tuple(float(depth >= effective) for depth in range(present + 1))
        return DepthProfile(tuple(range(present + 1)), values, "accuracy", True, 1, (1,) * (present + 1))


def run_scripted(folder, *effective_depths, model=None, resume=None, options=None, **training):
    run = trainer(folder, model, **{"eval_strategy": "no", **training})
    Scripted(*effective_depths, **(options or {})).attach(run)
    run.train(resume_from_checkpoint=resume)
    return run


def depths(run):
    """Return the depth from each step on."""
    return {entry["step"]: entry["eval_shedding_depth"] for entry in run.state.log_history if _has_depth(entry)}


def _has_depth(entry):
    return "eval_shedding_depth" in entry


@pytest.mark.parametrize(
    ("effective", "options", "expected"),
    [
        ([4, 4, 4, 4, 4, 4], {}, [4, 4, 4, 4, 4, 4]),
        ([1, 1, 1, 1, 1, 1], {}, [4, 2, 2, 2, 2, 2]),
        ([1, 1, 1, 1, 1, 1], {"margin": 0}, [4, 1, 1, 1, 1, 1]),
        ([1, 1, 1, 1, 1, 1], {"margin": 2}, [4, 3, 3, 3, 3, 3]),
        ([1, 1, 1, 1, 1, 1], {"margin": 9}, [4, 4, 4, 4, 4, 4]),
        ([1, 1, 1, 1, 1, 1], {"patience": 1}, [2, 2, 2, 2, 2, 2]),
        ([1, 1, 1, 1, 1, 1], {"patience": 3}, [4, 4, 2, 2, 2, 2]),
        ([1, 2, 1, 1, 1, 1], {}, [4, 3, 3, 2, 2, 2]),  # the deepest of the last two; then again two
        ([1, 4, 1, 4, 1, 1], {}, [4, 4, 4, 4, 4, 2]),
        ([1, 1, 1, 1, 1, 1], {"start": 0.5}, [4, 4, 4, 4, 2, 2]),  # steps 4 and 5 are the first that count
        ([1, 1, 1, 1, 1, 1], {"start": 1.0}, [4, 4, 4, 4, 4, 4]),
        ([0, 0, 0, 0, 0, 0], {"margin": 0, "patience": 1}, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_layers_leave_when_the_last_measurements_agree(tmp_path, effective, options, expected):
    run = run_scripted(tmp_path, *effective, options=options, save_strategy="no")
    assert depths(run) == {0: DEPTH, **dict(enumerate(expected, start=1))}
    assert run.model.config.num_hidden_layers == len(encoder_layers(run.model)) == expected[-1]


def test_the_shorter_network_trains_as_if_it_had_always_been_short(tmp_path):
    run = run_scripted(tmp_path / "shed", 1, options={"patience": 1, "margin": 1}, save_steps=1, max_steps=4)
    # The same run without the callback from its first checkpoint on, which holds two layers.
    short = AcnViTForImageClassification.from_pretrained(tmp_path / "shed" / "checkpoint-1")
    assert short.config.num_hidden_layers == 2
    rest = trainer(tmp_path / "rest", short, eval_strategy="no", max_steps=4)
    rest.train(resume_from_checkpoint=str(tmp_path / "shed" / "checkpoint-1"))
    assert same_weights(weights(run.model), weights(rest.model))


def test_the_optimiser_forgets_what_left(tmp_path):
    run = run_scripted(tmp_path, 1, options={"patience": 1}, max_steps=3, save_strategy="no")
    optimizer = run.optimizer
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in run.model.parameters()}
    assert {id(parameter) for parameter in optimizer.state} == held


def test_the_schedule_does_not_notice(tmp_path):
    rates = []
    for name, effective in (("kept", DEPTH), ("shed", 1)):
        run = run_scripted(tmp_path / name, effective, save_strategy="no")
        rates.append([entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry])
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 6


BUILT = ("long", "from the checkpoint")


@pytest.mark.parametrize(
    ("step", "built", "options"),
    some_of(
        [(2, BUILT[0], {}), (4, BUILT[1], CHECKPOINTING), (2, BUILT[1], ACCUMULATION), (4, BUILT[0], BFLOAT16)],
        (2, 4),
        BUILT,
        ({}, CHECKPOINTING, ACCUMULATION, BFLOAT16),
    ),
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, options, built, step):
    effective = [4, 2, 2, 0, 0, 0]  # four layers, from step 3 on three, from step 5 on one
    whole = run_scripted(tmp_path, *effective, **options)
    assert list(depths(whole).values()) == [4, 4, 4, 3, 3, 1, 1]
    checkpoint = str(tmp_path / f"checkpoint-{step}")
    model = build_model() if built == "long" else AcnViTForImageClassification.from_pretrained(checkpoint)
    resumed = run_scripted(tmp_path / "resumed", *effective, model=model, resume=checkpoint, **options)
    assert same_weights(weights(whole.model), weights(resumed.model))
    assert depths(resumed) == depths(whole)
    configs = [{**run.model.config.to_dict(), "_name_or_path": None} for run in (whole, resumed)]
    assert configs[0] == configs[1]


def test_the_checkpoint_is_an_ordinary_one(tmp_path):
    run = run_scripted(tmp_path, 1)
    loaded = AcnViTForImageClassification.from_pretrained(tmp_path / "checkpoint-6")
    assert loaded.config.num_hidden_layers == 2
    assert loaded.config.original_num_hidden_layers == DEPTH
    assert same_weights(weights(loaded), weights(run.model))


def test_real_measurements_shed_layers(tmp_path):
    run = trainer(tmp_path, max_steps=12, eval_steps=2)
    LayerSheddingCallback(tolerance=1.0, margin=1, patience=2).attach(run)
    run.train()
    assert run.model.config.num_hidden_layers == 1  # everything is within 1.0 of everything
    saved = [entry for entry in run.state.log_history if "eval_shedding_saved_layer_steps" in entry]
    # Four layers until step 4 (1.2 is the start, 2 and 4 count), then one: 4 * 4 + 1 * 8 of 48 layer-steps.
    assert saved[-1]["step"] == 12
    assert saved[-1]["eval_shedding_saved_layer_steps"] == pytest.approx(1 - 24 / 48)


def test_evaluating_a_trained_model_does_not_cut_it(tmp_path):
    run = trainer(tmp_path, eval_strategy="no")
    LayerSheddingCallback(tolerance=1.0, patience=1, margin=0, start=0.0).attach(run)
    run.evaluate()
    run.train()
    run.evaluate()
    run.predict(run.eval_dataset)
    assert run.model.config.num_hidden_layers == DEPTH


def test_a_network_without_layers_has_none_to_lose(tmp_path):
    run = trainer(tmp_path, model=build_model(num_hidden_layers=0))
    LayerSheddingCallback(tolerance=1.0, patience=1, margin=0, start=0.0).attach(run)
    run.train()
    assert run.state.log_history[-1]["eval_shedding_saved_layer_steps"] == 0.0


@pytest.mark.parametrize("given", [False, True])
def test_of_several_evaluation_sets_one_must_be_named(tmp_path, given):
    run = trainer(tmp_path)
    near, far = run.eval_dataset.select(range(40)), run.eval_dataset
    run.eval_dataset = {"near": near, "far": far}
    LayerSheddingCallback(near if given else None, tolerance=1.0, margin=1, patience=2).attach(run)
    if not given:
        with pytest.raises(ValueError, match=r"give LayerSheddingCallback data, since .* several; got near"):
            run.train()
        return
    run.train()
    assert list(depths(run).items()) == [(0, 4), (2, 4), (4, 1), (6, 1)]


def test_saved_layer_steps_by_hand():
    entries = [(0, 12), (100, 12), (200, 6), (300, 3)]
    state = TrainerState(global_step=400, log_history=[{"step": s, "eval_shedding_depth": d} for s, d in entries])
    # 200 steps of 12, 100 of 6 and 100 of 3 layers are 3,300 of 4,800.
    assert saved_layer_steps(state) == pytest.approx(1 - 3300 / 4800)
    assert saved_layer_steps(TrainerState(global_step=5)) == 0.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tolerance": -0.1}, "tolerance must be a finite number >= 0; got -0.1"),
        ({"tolerance": math.nan}, "tolerance must be a finite number >= 0; got nan"),
        ({"margin": -1}, "margin must be >= 0 and patience >= 1; got -1 and 2"),
        ({"patience": 0}, "margin must be >= 0 and patience >= 1; got 1 and 0"),
        ({"start": 1.5}, r"start must lie in \[0, 1\]; got 1.5"),
        ({"every": 0}, "every must be a whole number of steps >= 1; got 0"),
    ],
)
def test_arguments_that_cannot_be(options, text):
    with pytest.raises(ValueError, match=text):
        LayerSheddingCallback(**options)


def test_several_processes_need_the_trainer(tmp_path):
    run = trainer(tmp_path)
    settings = SimpleNamespace(load_best_model_at_end=False, world_size=2)
    with pytest.raises(ValueError, match=r"must be attached, attach\(trainer\).*there are 2 processes"):
        LayerSheddingCallback().on_train_begin(settings, run.state, run.control, model=run.model)


def test_without_the_callback_a_run_of_another_depth_is_not_resumed(tmp_path):
    run_scripted(tmp_path, 1)
    run = trainer(tmp_path)
    before = weights(run.model)
    with pytest.raises(DepthError, match="the weights are those of 2 layers and this model has 4"):
        run.train(resume_from_checkpoint=True)
    assert same_weights(before, weights(run.model))


def test_a_deeper_checkpoint_is_not_loaded_into_a_shorter_model(tmp_path):
    trainer(tmp_path, max_steps=2).train()
    run = trainer(tmp_path, build_model(num_hidden_layers=2))
    LayerSheddingCallback().attach(run)
    with pytest.raises(DepthError, match="the weights are those of 4 layers and this model has 2"):
        run.train(resume_from_checkpoint=True)
