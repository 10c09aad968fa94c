"""The callback records what measuring afterwards gives, and changes nothing of the training."""

import pytest

from acn_hf import (
    AcnViTForImageClassification,
    AcnViTModel,
    GradientFlowCallback,
    GradientFlowHistory,
    LayerSheddingCallback,
    measure_gradient_flow,
)
from acn_hf.depth.metrics import ProfileError
from tests.support.training import NUM_LAYERS, build_model, data, same_weights, trainer, weights

NAMES = {
    f"gradient_flow/{part}_at_depth_{depth}"
    for part in ("full", "direct", "mediated")
    for depth in range(NUM_LAYERS + 1)
}


def some(number=20):
    return data()["validation"].select(range(number))


def logged(run):
    return {entry["step"]: entry for entry in run.state.log_history if "gradient_flow/full_at_depth_0" in entry}


@pytest.mark.parametrize("attached", [False, True])
def test_the_log_and_the_checkpoints_hold_the_history(tmp_path, attached):
    callback = GradientFlowCallback(some(), every_steps=2)
    run = trainer(tmp_path, callbacks=None if attached else [callback], save_steps=4)
    if attached:
        callback.attach(run)
    begun = measure_gradient_flow(run.model, some())
    run.train()
    history = callback.history
    assert history.steps == (0, 2, 4, 6)
    assert history.flows[0] == begun
    assert history.flows[-1] == measure_gradient_flow(run.model, some())
    assert list(logged(run)) == [0, 2, 4, 6]
    for flow, entry in zip(history.flows, logged(run).values(), strict=True):
        assert entry.keys() >= NAMES
        assert flow.mediated == tuple(entry[f"gradient_flow/mediated_at_depth_{depth}"] for depth in flow.depths)
    saved = GradientFlowHistory.load(tmp_path / "checkpoint-4" / "gradient_flow.json")
    assert (saved.steps, saved.flows) == (history.steps[:3], history.flows[:3])
    assert GradientFlowHistory.load(tmp_path / "checkpoint-6" / "gradient_flow.json") == history
    assert [entry["step"] for entry in run.state.log_history if "loss" in entry] == [1, 2, 3, 4, 5, 6]


def test_measuring_changes_nothing(tmp_path):
    # Dropout and shuffling draw random numbers, so a single one more would change the weights.
    plain = trainer(tmp_path / "plain", build_model(hidden_dropout_prob=0.1))
    plain.train()
    measured = trainer(tmp_path / "measured", build_model(hidden_dropout_prob=0.1), gradient_accumulation_steps=1)
    GradientFlowCallback(some(), every_steps=1).attach(measured)
    measured.train()
    assert same_weights(weights(plain.model), weights(measured.model))


def test_a_resumed_run_goes_on_with_the_history(tmp_path):
    whole = GradientFlowCallback(some(), every_steps=2)
    trainer(tmp_path / "whole", callbacks=[whole]).train()
    resumed = GradientFlowCallback(some(), every_steps=2)
    trainer(tmp_path / "whole", callbacks=[resumed]).train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-4"))
    assert resumed.history == whole.history
    (tmp_path / "whole" / "checkpoint-4" / "gradient_flow.json").unlink()
    trainer(tmp_path / "whole", callbacks=[resumed]).train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-4"))
    assert resumed.history.steps == (6,)


def test_a_run_in_bf16_is_measured_under_its_autocast(tmp_path):
    callback = GradientFlowCallback(some(), every_steps=6)
    run = trainer(tmp_path, callbacks=[callback], bf16=True)
    exact = measure_gradient_flow(run.model, some())
    run.train()
    assert callback.history.flows[0].full != exact.full
    # A few operations rounded to 2 ** -8 each.
    assert callback.history.flows[0].full == pytest.approx(exact.full, rel=10 * 2**-8)


def test_layers_that_leave_take_their_depths_along(tmp_path):
    callback = GradientFlowCallback(some(), every_steps=3)
    run = trainer(tmp_path, callbacks=[callback], eval_strategy="no", save_strategy="no")
    LayerSheddingCallback(tolerance=1.0, patience=1, start=0.0, every=1).attach(run)
    run.train()
    depths = [len(flow.depths) for flow in callback.history.flows]
    assert depths[0] == NUM_LAYERS + 1 > depths[-1]
    assert str(callback.history)


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_steps_is_a_number_of_steps(every):
    with pytest.raises(ValueError, match=f"every_steps must be a whole number of steps >= 1; got {every}"):
        GradientFlowCallback(some(), every_steps=every)


def test_what_can_be_read_once_is_refused():
    with pytest.raises(ValueError, match=r"must be a data set, a loader or a list of batches; got generator"):
        GradientFlowCallback((batch for batch in []), every_steps=1)


def test_refused_before_the_first_step(tmp_path):
    headless = AcnViTModel(build_model().config)
    for model, rows, error, text in (
        (headless, some(), TypeError, "a loss needs a model with a head, and AcnViTModel has none"),
        (build_model(), some(0), ProfileError, "at least one example"),
        (build_model(), some().remove_columns("labels"), ProfileError, "the data must hold labels; got only pixel"),
    ):
        assert isinstance(model, (AcnViTModel, AcnViTForImageClassification))
        run = trainer(tmp_path, model, callbacks=[GradientFlowCallback(rows, every_steps=1)])
        with pytest.raises(error, match=text):
            run.train()
        assert run.state.global_step == 0
