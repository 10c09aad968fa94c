"""The callback that measures every depth: what it logs, what it leaves as it was, and what it refuses."""

import random

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from acn_hf import (
    AcnViTForImageClassification,
    DepthProfile,
    DepthProfileCallback,
    IntermediateSupervisionCallback,
    intermediate_supervision,
    measure_depth_profile,
)
from acn_hf.depth.metrics import ProfileError
from acn_hf.training.callbacks import PROFILE_NAME
from tests.support.training import CHECKPOINTING, NUM_LAYERS, build_model, same_weights, trainer, weights

NAMES = {f"eval_accuracy_at_depth_{depth}" for depth in range(NUM_LAYERS + 1)} | {"eval_effective_depth"}


class Integration(TrainerCallback):
    """Sees what TensorBoard and its like see."""

    def __init__(self):
        self.seen = {}

    def on_log(self, args, state, control, logs, **kwargs):
        self.seen.update({(state.global_step, name): value for name, value in logs.items()})


def measurements(run):
    return {entry["step"]: entry for entry in run.state.log_history if "eval_effective_depth" in entry}


def test_the_log_and_the_checkpoints_hold_the_profile(tmp_path):
    integration = Integration()
    run = trainer(tmp_path, callbacks=[integration])
    callback = DepthProfileCallback().attach(run)
    run.train()
    logged = measurements(run)
    assert list(logged) == [2, 4, 6]
    for step, entry in logged.items():
        assert entry.keys() >= NAMES
        profile = DepthProfile.load(tmp_path / f"checkpoint-{step}" / "depth_profile.json")
        model = AcnViTForImageClassification.from_pretrained(tmp_path / f"checkpoint-{step}")
        measured = measure_depth_profile(model, run.eval_dataset)
        assert profile.values == measured.values
        assert [entry[f"eval_accuracy_at_depth_{depth}"] for depth in profile.depths] == list(profile.values)
        assert {name for at, name in integration.seen if at == step} >= NAMES
    assert callback.profile.values == profile.values


def test_without_attach_the_history_holds_it(tmp_path):
    run = trainer(tmp_path, callbacks=[DepthProfileCallback()])
    run.train()
    assert list(measurements(run)) == [2, 4, 6]
    assert (tmp_path / "checkpoint-6" / "depth_profile.json").exists()


@pytest.mark.parametrize("attached", [False, True])
def test_the_best_checkpoint_can_be_that_of_a_depth(tmp_path, attached):
    options = {"load_best_model_at_end": True, "metric_for_best_model": "eval_accuracy_at_depth_2", "max_steps": 10}
    callback = DepthProfileCallback()
    run = trainer(tmp_path, callbacks=None if attached else [callback], **options)
    if attached:
        callback.attach(run)
    run.train()
    values = {step: entry["eval_accuracy_at_depth_2"] for step, entry in measurements(run).items()}
    assert len(set(values.values())) > 1
    best = max(values, key=values.get)
    assert run.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    assert run.state.best_metric == values[best]
    assert measure_depth_profile(run.model, run.eval_dataset).value_at(2) == values[best]


def test_measuring_changes_nothing(tmp_path):
    # Dropout and shuffling draw random numbers, so a single one more would change the weights.
    plain = trainer(tmp_path / "plain", build_model(hidden_dropout_prob=0.1))
    plain.train()
    measured = trainer(tmp_path / "measured", build_model(hidden_dropout_prob=0.1))
    DepthProfileCallback(every=1).attach(measured)
    measured.train()
    assert same_weights(weights(plain.model), weights(measured.model))


def test_random_numbers_and_modes_are_put_back(tmp_path):
    run = trainer(tmp_path)
    callback = DepthProfileCallback(collate_fn=noisy_batch).attach(run)
    run.model.train()
    run.model.vit.layers[0].eval()
    modes = [module.training for module in run.model.modules()]
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    first = callback.measure(run.args, run.model)
    drawn = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    assert drawn == (torch.rand(1).item(), random.random(), np.random.rand())
    assert modes == [module.training for module in run.model.modules()]
    assert callback.measure(run.args, run.model).values == first.values


def noisy_batch(rows):
    """Make a batch as a masking collator does, with random numbers."""
    pixels = torch.stack([row["pixel_values"] for row in rows])
    return {"pixel_values": pixels + torch.randn_like(pixels), "labels": torch.stack([row["labels"] for row in rows])}


@pytest.mark.parametrize("options", [CHECKPOINTING, {"gradient_accumulation_steps": 2}])
def test_works_with(tmp_path, options):
    run = trainer(tmp_path, **options)
    DepthProfileCallback().attach(run)
    run.train()
    assert list(measurements(run)) == [2, 4, 6]


def test_every_so_many_steps_without_evaluation(tmp_path):
    run = trainer(tmp_path, eval_strategy="no", save_steps=3)
    DepthProfileCallback(every=2).attach(run)
    run.train()
    assert list(measurements(run)) == [2, 3, 4, 6]  # 3: every checkpoint has a profile of its own
    assert DepthProfile.load(tmp_path / "checkpoint-3" / "depth_profile.json").num_examples == 80


@pytest.mark.parametrize("every", [None, 1])
def test_the_training_loss_is_logged_as_ever(tmp_path, every):
    run = trainer(tmp_path)
    DepthProfileCallback(every=every).attach(run)
    run.train()
    assert [entry["step"] for entry in run.state.log_history if "loss" in entry] == [1, 2, 3, 4, 5, 6]


def test_other_data_and_a_loss(tmp_path):
    run = trainer(tmp_path)
    data = run.train_dataset.select(range(40))
    callback = DepthProfileCallback(data, "loss").attach(run)
    run.train()
    assert callback.profile.num_examples == 40
    assert callback.profile.metric == "loss"
    assert "eval_loss_at_depth_0" in measurements(run)[2]


def test_several_evaluation_sets_keep_their_names(tmp_path):
    run = trainer(tmp_path)
    run.eval_dataset = {"near": run.eval_dataset.select(range(40)), "far": run.eval_dataset}
    callback = DepthProfileCallback().attach(run)
    run.train()
    logged = [name for entry in run.state.log_history for name in entry if name.endswith("effective_depth")]
    assert logged == ["eval_near_effective_depth", "eval_far_effective_depth"] * 3
    assert callback.profile.num_examples == 80


def test_bf16_agrees_with_float32_within_its_rounding(tmp_path):
    run = trainer(tmp_path, bf16=True)
    callback = DepthProfileCallback(metric="loss").attach(run)
    run.train()
    exact = measure_depth_profile(run.model, run.eval_dataset, metric="loss")
    assert callback.profile.values != exact.values
    # bf16 rounds to 2 ** -8; the logits are of the order of 1, and a loss is at most two of them apart.
    assert callback.profile.values == pytest.approx(exact.values, abs=2 * 2**-8)


def test_errors_of_the_data_are_raised(tmp_path):
    run = trainer(tmp_path)
    DepthProfileCallback(run.eval_dataset.select([])).attach(run)
    with pytest.raises(ProfileError, match="at least one example"):
        run.train()


def test_data_that_nobody_knows_are_asked_for_before_training(tmp_path):
    run = trainer(tmp_path, callbacks=[DepthProfileCallback(every=2)])
    with pytest.raises(ValueError, match=r"must be told the data, or be attached"):
        run.train()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("every", [None, 2])
def test_without_one_eval_set_nothing_fails_in_the_middle(tmp_path, attached, every, several):
    run = trainer(tmp_path, eval_strategy="no")
    run.eval_dataset = {"near": run.eval_dataset, "far": run.eval_dataset} if several else None
    callback = DepthProfileCallback(every=every)
    callback.attach(run) if attached else run.add_callback(callback)
    if every is not None:
        with pytest.raises(ValueError, match="to a Trainer that has one eval set"):
            run.train()
        assert run.state.global_step == 0
        return
    run.train()
    assert callback.profile is None
    assert (tmp_path / "checkpoint-6" / "trainer_state.json").exists()
    assert not (tmp_path / "checkpoint-6" / PROFILE_NAME).exists()


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_is_a_number_of_steps(every):
    with pytest.raises(ValueError, match="every must be a whole number of steps >= 1"):
        DepthProfileCallback(every=every)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_tolerance_is_a_number(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a finite number >= 0"):
        DepthProfileCallback(tolerance=tolerance)


def test_other_models_are_refused_before_training(tmp_path):
    run = trainer(tmp_path)
    stranger = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
        DepthProfileCallback().on_train_begin(run.args, run.state, run.control, model=stranger)


def test_supervision_trains_as_the_plain_loop_does(tmp_path):
    run = trainer(tmp_path, max_steps=2, eval_strategy="no", optim="sgd", lr_scheduler_type="constant", max_grad_norm=0)
    IntermediateSupervisionCallback("uniform").attach(run)
    loop = build_model().train()
    optimizer = torch.optim.SGD(loop.parameters(), lr=run.args.learning_rate)
    batches = [dict(batch) for batch in run.get_train_dataloader()][:2]
    run.get_train_dataloader = lambda: batches
    run.train()
    for batch in batches:
        with intermediate_supervision(loop, "uniform"):
            loop(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, tensor in loop.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert not run.model._forward_hooks


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_rotation_follows_the_steps(tmp_path, accumulation):
    callback, seen = IntermediateSupervisionCallback(num_depths=1), []

    class Watch(TrainerCallback):
        def on_substep_end(self, args, state, control, **kwargs):
            seen.append((state.global_step, *callback.supervision.chosen()))

        def on_step_end(self, args, state, control, **kwargs):
            seen.append((state.global_step - 1, *callback.supervision.chosen()))

    run = trainer(tmp_path, gradient_accumulation_steps=accumulation, callbacks=[Watch()], max_steps=4)
    run.train_dataset = run.train_dataset.select(range(64))  # four batches, so that no step of an epoch is a short one
    callback.attach(run)
    run.train()
    others = [1, 2, 3]  # depth 0 has no weight
    assert seen == [(step, NUM_LAYERS, others[step % 3]) for step in range(4) for _ in range(accumulation)]


def test_a_run_that_failed_leaves_no_second_supervision(tmp_path):
    callback = IntermediateSupervisionCallback()
    run = trainer(tmp_path)
    callback.attach(run)
    run.get_train_dataloader = lambda: [{"pixel_values": torch.zeros(1), "labels": torch.zeros(1)}]
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        run.train()
    del run.get_train_dataloader
    run.train()
    assert not run.model._forward_hooks
    assert not run.model.vit._forward_hooks


def test_supervision_of_several_gpus_needs_processes(tmp_path):
    run = trainer(tmp_path)
    run.args._n_gpu = 2
    with pytest.raises(ValueError, match=r"a process for each GPU .* got one for 2"):
        IntermediateSupervisionCallback().on_train_begin(run.args, run.state, run.control, model=run.model)


@pytest.mark.parametrize("attached", [False, True])
def test_two_supervisions_are_refused_before_training(tmp_path, attached):
    run = trainer(tmp_path)
    for kind in ("linear", "uniform"):
        callback = IntermediateSupervisionCallback(kind)
        callback.attach(run) if attached else run.add_callback(callback)
    with pytest.raises(ValueError, match="a model is supervised once"):
        run.train()
