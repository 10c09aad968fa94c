"""Weights that go while a network is fine-tuned: when, which ones, that they stay away, and that a run can go on."""

import pytest
import torch
from transformers import AutoModelForImageClassification

from acn_hf import AcnViTForImageClassification, PruningCallback, depth_logits, measure_sparsity, prune_model, truncate
from acn_hf.modeling.depth import encoder_layers
from acn_hf.smaller.pruning import prunable_weights
from acn_hf.training.gradual_pruning import SCORES
from tests.support.adapted import any_peft, quiet, with_peft  # noqa: F401 (a fixture)
from tests.support.training import (
    ACCUMULATION,
    BFLOAT16,
    CHECKPOINTING,
    build_model,
    data,
    same_weights,
    some_of,
    trainer,
    weights,
)
from tests.training.test_shedding import Scripted, depths

METHODS = ["magnitude", "movement"]


def run_pruning(folder, sparsity=0.75, *, model=None, resume=None, options=None, others=(), **training):
    run = trainer(folder, model, **{"eval_strategy": "no", "save_steps": 1, **training})
    for other in others:
        other.attach(run)
    PruningCallback(sparsity, **{"start": 0.0, "end": 0.8, **(options or {})}).attach(run)
    run.train(resume_from_checkpoint=resume)
    return run


def logged(run):
    return [entry["sparsity"] for entry in run.state.log_history if "loss" in entry]


def zeros_of(model):
    return {name: weight == 0 for name, weight in prunable_weights(model).items()}


@pytest.mark.parametrize(
    ("options", "steps", "expected"),
    [
        ({"start": 0.0, "end": 1.0}, 4, [0, 0.8 * (1 - 0.75**3), 0.8 * (1 - 0.5**3), 0.8 * (1 - 0.25**3), 0.8]),
        ({"start": 0.0, "end": 1.0, "shape": "linear"}, 4, [0, 0.2, 0.4, 0.6, 0.8]),
        ({"start": 0.25, "end": 0.75, "shape": "linear"}, 4, [0, 0, 0.4, 0.8, 0.8]),
        ({"start": 0.25, "end": 0.25}, 4, [0, 0.8, 0.8, 0.8, 0.8]),
        ({"start": 0.0, "end": 0.0}, 2, [0, 0.8, 0.8]),
        ({"start": 1.0, "end": 1.0}, 2, [0, 0, 0.8]),
        ({"start": 0.1, "end": 0.7, "shape": "linear"}, 5, [0, 0.8 / 6, 0.4, 0.8 * 5 / 6, 0.8, 0.8]),
    ],
)
def test_the_schedule(options, steps, expected):
    callback = PruningCallback(0.8, **options)
    assert [callback.sparsity_at(step, steps) for step in range(steps + 1)] == pytest.approx(expected)


@pytest.mark.parametrize("method", METHODS)
def test_the_log_follows_the_schedule(tmp_path, method):
    run = run_pruning(tmp_path, options={"method": method}, save_strategy="no")
    callback = PruningCallback(0.75, start=0.0, end=0.8)
    number = sum(measure_sparsity(run.model).weights)
    assert logged(run) == [round(callback.sparsity_at(step, 6) * number) / number for step in range(1, 7)]
    assert measure_sparsity(run.model).sparsity == 0.75


@pytest.mark.parametrize(("every", "changes"), [(2, {1, 3, 5, 6}), (3, {1, 4, 6}), (100, {1, 6})])
def test_weights_go_every_so_many_steps_and_at_the_end(tmp_path, every, changes):
    found = [0.0, *logged(run_pruning(tmp_path, options={"every": every, "end": 1.0}, save_strategy="no"))]
    assert {step for step in range(1, 7) if found[step] > found[step - 1]} == changes
    assert found[-1] == 0.75


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("optim", "options"),
    some_of(
        [("adamw_torch", {}), ("adafactor", CHECKPOINTING), ("sgd", ACCUMULATION), ("adamw_torch", BFLOAT16)],
        ("adamw_torch", "adafactor", "sgd"),
        ({}, CHECKPOINTING, ACCUMULATION, BFLOAT16),
    ),
)
def test_zeros_stay_in_every_checkpoint(tmp_path, optim, method, options):
    run = run_pruning(
        tmp_path, options={"method": method}, optim=optim, weight_decay=0.1, save_only_model=True, **options
    )
    gone = {name: torch.zeros_like(zeros) for name, zeros in zeros_of(run.model).items()}
    for step in range(1, 7):
        loaded = AutoModelForImageClassification.from_pretrained(tmp_path / f"checkpoint-{step}")
        assert measure_sparsity(loaded).sparsity == logged(run)[step - 1]
        assert not loaded.training
        for name, zeros in zeros_of(loaded).items():
            assert (zeros | ~gone[name]).all(), "a pruned weight came back"
            gone[name] = zeros
    assert same_weights(weights(loaded), weights(run.model))


def test_momentum_and_decay_would_have_moved_them(tmp_path):
    """What the callback is for: without it an optimiser moves zeros at once."""
    run = trainer(tmp_path, prune_model(build_model(), 0.5), eval_strategy="no", max_steps=2)
    run.train()
    assert measure_sparsity(run.model).sparsity < 0.01


def test_the_zeros_of_a_pruned_model_are_kept(tmp_path):
    model = prune_model(build_model(), 0.5)
    zeros = zeros_of(model)
    run = run_pruning(tmp_path, 0.2, model=model, save_strategy="no")
    assert logged(run) == [0.5] * 6
    assert all(torch.equal(zeros[name], now) for name, now in zeros_of(run.model).items())
    assert not same_weights(weights(run.model), weights(prune_model(build_model(), 0.5)))


@pytest.mark.parametrize("clip", [0.0, 0.01])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_movement_scores_are_the_sum_of_minus_weight_times_gradient(tmp_path, clip, accumulation):
    """Against a loop that trains by hand: three steps of SGD, the lowest scores of three quarters go at the third."""
    settings = {"max_steps": 3, "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant"}
    settings |= {"per_device_train_batch_size": 16 // accumulation, "gradient_accumulation_steps": accumulation}
    options = {"method": "movement", "start": 1.0, "end": 1.0}
    run = run_pruning(tmp_path, options=options, max_grad_norm=clip, save_strategy="no", **settings)

    model = build_model().train()
    pruned = prunable_weights(model)
    scores = {name: torch.zeros_like(weight) for name, weight in pruned.items()}
    torch.manual_seed(0)
    seen = trainer(tmp_path / "again", build_model(), **settings).get_train_dataloader()
    batches = list(seen)[: 3 * accumulation]
    for step in range(3):
        model.zero_grad()
        for batch in batches[step * accumulation : (step + 1) * accumulation]:
            (model(**batch).loss / accumulation).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        for name, weight in pruned.items():
            scores[name] -= weight.detach() * weight.grad
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    held = run.optimizer.param_groups[0][SCORES]
    for name, score in scores.items():
        torch.testing.assert_close(held[name], score, rtol=1e-4, atol=1e-7)
    flat = torch.cat([held[name].flatten() for name in pruned])
    lowest = flat.argsort(stable=True)[: round(0.75 * len(flat))]
    found = torch.cat([zeros.flatten() for zeros in zeros_of(run.model).values()])
    assert torch.equal(found.nonzero().squeeze(1), lowest.sort().values)


def test_the_methods_choose_different_weights(tmp_path):
    runs = [run_pruning(tmp_path / method, options={"method": method}, save_strategy="no") for method in METHODS]
    one, other = (torch.cat([zeros.flatten() for zeros in zeros_of(run.model).values()]) for run in runs)
    assert one.sum() == other.sum()
    assert (one != other).float().mean() > 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("step", "options"),
    some_of([(3, {}), (1, ACCUMULATION), (5, BFLOAT16)], (1, 3, 5), ({}, ACCUMULATION, BFLOAT16)),
)
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, method, step, options):
    whole = run_pruning(tmp_path, options={"method": method}, **options)
    checkpoint = str(tmp_path / f"checkpoint-{step}")
    model = build_model(seed=5)
    resumed = run_pruning(tmp_path / "resumed", model=model, resume=checkpoint, options={"method": method}, **options)
    assert same_weights(weights(whole.model), weights(resumed.model))
    assert logged(resumed) == logged(whole)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_resumed_where_layers_leave(tmp_path, method):
    effective = [4, 2, 2, 0, 0, 0]  # four layers, from step 3 on three, from step 5 on one
    whole = run_pruning(tmp_path, options={"method": method}, others=[Scripted(*effective)])
    assert list(depths(whole).values()) == [4, 4, 4, 3, 3, 1, 1]
    assert len(encoder_layers(whole.model)) == 1
    assert measure_sparsity(whole.model).sparsity == pytest.approx(0.75, abs=0.02)
    if method == "movement":
        assert whole.optimizer.param_groups[0][SCORES].keys() == prunable_weights(whole.model).keys()
    for step in (2, 3, 4, 5):
        checkpoint = str(tmp_path / f"checkpoint-{step}")
        resumed = run_pruning(
            tmp_path / f"from-{step}",
            model=build_model(seed=5),
            resume=checkpoint,
            options={"method": method},
            others=[Scripted(*effective)],
        )
        assert same_weights(weights(whole.model), weights(resumed.model))


def test_chosen_modules_may_leave(tmp_path):
    options = {"modules": ["layers.1.mlp.fc1", "layers.3.mlp.fc1"], "method": "movement"}
    run = run_pruning(tmp_path, options=options, others=[Scripted(2, 2, 2, 2, 2, 2, margin=0)], save_strategy="no")
    assert len(encoder_layers(run.model)) == 2
    zeros = {name: int(found.sum()) for name, found in zeros_of(run.model).items() if found.any()}
    assert zeros == {"vit.layers.1.mlp.fc1.weight": round(0.75 * 16 * 32)}


def test_residual_networks(tmp_path):
    options = {"method": "movement"}
    run = run_pruning(tmp_path, model=build_model(residual_scale=1.0), options=options, save_strategy="no")
    assert measure_sparsity(run.model).sparsity == 0.75


def test_every_depth_of_the_result(tmp_path):
    run = run_pruning(tmp_path, save_strategy="no")
    model, pixels = run.model.eval(), data()["validation"]["pixel_values"][:4]
    with torch.no_grad():
        logits = depth_logits(model, pixel_values=pixels)
        for depth in range(5):
            assert torch.equal(truncate(model, depth)(pixel_values=pixels).logits, logits[depth])


def test_the_checkpoint_is_an_ordinary_one(tmp_path):
    run_pruning(tmp_path, options={"method": "movement"})
    trainer(tmp_path / "plain", eval_strategy="no").train()
    names = [sorted(path.name for path in folder.glob("checkpoint-6/*")) for folder in (tmp_path, tmp_path / "plain")]
    assert names[0] == names[1]
    loaded = AcnViTForImageClassification.from_pretrained(tmp_path / "checkpoint-6")
    assert loaded.state_dict().keys() == build_model().state_dict().keys()


def test_other_callbacks_see_the_sparsity(tmp_path):
    seen = []
    run = trainer(tmp_path, eval_strategy="no", max_steps=2)
    run.callback_handler.callbacks[0].on_log = lambda *args, logs, **kwargs: seen.append(dict(logs))
    callback = PruningCallback(0.5, start=0.0).attach(run)
    assert callback.attach(run) is callback
    assert run.callback_handler.callbacks.count(callback) == 1
    run.train()
    assert [entry["sparsity"] for entry in seen if "loss" in entry] == logged(run)


def test_gradients_that_overflow_leave_the_scores_alone(tmp_path):
    run = trainer(tmp_path, eval_strategy="no", max_steps=1)
    callback = PruningCallback(0.5, method="movement", start=1.0, end=1.0).attach(run)
    run.train()
    optimizer = run.optimizer
    before = {name: score.clone() for name, score in optimizer.param_groups[0][SCORES].items()}
    for weight in prunable_weights(run.model).values():
        weight.grad = torch.ones_like(weight)
    next(iter(prunable_weights(run.model).values())).grad[0, 0] = torch.inf
    run.args.fp16 = True  # whose scaler skips such a step
    callback.on_pre_optimizer_step(run.args, run.state, run.control, model=run.model, optimizer=optimizer)
    assert same_weights(before, optimizer.param_groups[0][SCORES])


def test_a_layer_that_loses_all_its_weights_is_named_once(tmp_path, caplog):
    model = build_model()
    with torch.no_grad():
        model.vit.layers[1].mlp.fc1.weight.mul_(1e-6)
    run_pruning(tmp_path, 0.5, model=model, learning_rate=1e-8, save_strategy="no")
    assert [message.split(":")[0] for message in caplog.messages] == ["vit.layers.1.mlp.fc1.weight (1 in all)"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be a number in \[0, 1\); got 1.0"),
        ({"sparsity": -0.5}, r"sparsity must be a number in \[0, 1\); got -0.5"),
        ({"method": "lottery"}, "method must be one of magnitude, movement; got 'lottery'"),
        ({"shape": "square"}, "shape must be one of cubic, linear; got 'square'"),
        ({"start": 0.5, "end": 0.4}, "0 <= start <= end <= 1; got 0.5, 0.4"),
        ({"start": -0.1}, "0 <= start <= end <= 1; got -0.1, 0.7"),
        ({"end": 1.1}, "0 <= start <= end <= 1; got 0.1, 1.1"),
        ({"end": float("nan")}, "0 <= start <= end <= 1; got 0.1, nan"),
        ({"every": 0}, "every must be a whole number of steps >= 1; got 0"),
        ({"every": True}, "every must be a whole number of steps >= 1; got True"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PruningCallback(**{"sparsity": 0.5, **options})


def test_what_cannot_be_pruned_is_refused_when_training_begins(tmp_path):
    with pytest.raises(ValueError, match="modules must name linear modules of the model; got 'query'"):
        run_pruning(tmp_path, options={"modules": ["query"]})
    with pytest.raises(ValueError, match=r"load_best_model_at_end must be False while weights go.*got True"):
        run_pruning(tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=1)
    with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
        run_pruning(tmp_path, model=torch.nn.Linear(2, 2), remove_unused_columns=False)


def test_the_best_checkpoint_may_be_loaded_where_all_are_pruned_alike(tmp_path):
    options = {"start": 0.0, "end": 0.0}
    run = run_pruning(tmp_path, options=options, load_best_model_at_end=True, eval_strategy="steps", eval_steps=1)
    assert measure_sparsity(run.model).sparsity == 0.75


def test_movement_needs_gradients(tmp_path):
    model = build_model()
    model.vit.layers[0].requires_grad_(False)
    with pytest.raises(ValueError, match=r"ranks weights that are trained; got vit\.layers\.0\..*, which is frozen"):
        run_pruning(tmp_path, model=model, options={"method": "movement"})
    run = run_pruning(tmp_path, model=model, save_strategy="no")
    assert measure_sparsity(run.model).sparsity == 0.75
    run = trainer(tmp_path)
    callback = PruningCallback(0.5, method="movement")
    run.args.fp16, run.args.max_grad_norm = True, 0.0
    with pytest.raises(ValueError, match=r"movement pruning in float16 needs max_grad_norm > 0.*got 0.0"):
        callback.on_train_begin(run.args, run.state, run.control, model=run.model, optimizer=run.create_optimizer())


def test_deepspeed_is_refused(tmp_path):
    run = trainer(tmp_path)
    run.args.deepspeed = {"zero_optimization": {"stage": 3}}
    with pytest.raises(ValueError, match="gradients must lie at the parameters, and DeepSpeed keeps them"):
        PruningCallback(0.5).on_train_begin(run.args, run.state, run.control, model=run.model, optimizer=None)


def test_a_checkpoint_without_scores_is_refused(tmp_path):
    run_pruning(tmp_path, options={"method": "magnitude"})
    with pytest.raises(ValueError, match="step 3 holds scores of 0 matrices and the model has 24"):
        run_pruning(tmp_path, options={"method": "movement"}, resume=str(tmp_path / "checkpoint-3"))


@quiet
@pytest.mark.usefixtures("any_peft")
def test_adapters_are_refused(tmp_path):
    with pytest.raises(TypeError, match="must hold no adapters to be pruned; got default"):
        run_pruning(tmp_path, model=with_peft(build_model()))
