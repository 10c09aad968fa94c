"""The residual scale moves from step to step, is saved where it stands, and a resumed run goes on there."""

import json
import math

import numpy as np
import pytest
import torch
from peft import get_peft_model
from torch._dynamo.utils import counters
from transformers import AutoConfig, ViTForImageClassification

from acn_hf import (
    DistillationLoss,
    IntermediateSupervisionCallback,
    ResidualAnnealingCallback,
    from_residual,
    lora_config,
)
from acn_hf.modeling.depth import short_connections
from acn_hf.training.shedding import LayerSheddingCallback
from tests.support.families import by_name
from tests.support.training import NUM_LAYERS, build_model, same_weights, trainer, weights


class Recorder(ResidualAnnealingCallback):
    """Notes the scale that every step was trained with."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        self.seen.append(kwargs["model"].config.residual_scale)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fraction": 1.0}, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]),
        ({"fraction": 0.5}, [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]),
        ({"fraction": 0.0}, [0.0] * 6),
        ({"end": 0.25, "fraction": 0.5}, [1.0, 0.625, 0.25, 0.25, 0.25, 0.25]),
        ({"start": 0.0, "end": 1.0, "fraction": 0.5}, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ({"begin": 0.34, "fraction": 1.0}, [1.0, 1.0, 1.0, 2 / 3, 1 / 3, 0.0]),
        ({"begin": 0.5, "fraction": 0.5}, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        ({"begin": 1.0, "fraction": 1.0}, [1.0] * 6),
        ({"fraction": 1.0, "shape": "cosine"}, [(1 + math.cos(math.pi * share / 5)) / 2 for share in range(6)]),
    ],
)
def test_every_step_has_its_scale(tmp_path, options, expected):
    callback = Recorder(**options)
    trainer(tmp_path, callbacks=[callback], save_strategy="no").train()
    assert callback.seen == pytest.approx(expected, abs=1e-12)


def test_lists_have_a_scale_a_layer(tmp_path):
    callback = Recorder(end=[1.0, 1.0, 0.0, 0.5], fraction=0.5)
    trainer(tmp_path, callbacks=[callback]).train()
    assert callback.seen == [[1.0] * 4, [1.0, 1.0, 0.5, 0.75], *[[1.0, 1.0, 0.0, 0.5]] * 4]


def test_a_checkpoint_holds_the_scale_it_was_trained_with(tmp_path):
    trainer(tmp_path, callbacks=[ResidualAnnealingCallback(fraction=1.0)]).train()
    stored = [AutoConfig.from_pretrained(tmp_path / f"checkpoint-{step}").residual_scale for step in (2, 4, 6)]
    assert stored == pytest.approx([0.8, 0.4, 0.0])


@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_run_goes_on_at_the_right_scale(tmp_path, step):
    whole = trainer(tmp_path / "whole", callbacks=[ResidualAnnealingCallback(fraction=1.0, shape="cosine")])
    whole.train()
    callback = Recorder(fraction=1.0, shape="cosine")
    resumed = trainer(tmp_path / "resumed", callbacks=[callback])
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
    assert callback.seen == [callback.scale_at(number, 6, NUM_LAYERS) for number in range(step + 1, 7)]
    assert same_weights(weights(resumed.model), weights(whole.model))
    assert resumed.model.config.residual_scale == whole.model.config.residual_scale == 0.0


def test_the_best_checkpoint_comes_back_with_its_scale(tmp_path):
    options = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    run = trainer(tmp_path, callbacks=[ResidualAnnealingCallback(fraction=1.0)], **options)
    run.train()
    best = run.state.best_global_step
    assert best < 6, "the first evaluation has the greatest loss"
    stored = AutoConfig.from_pretrained(run.state.best_model_checkpoint).residual_scale
    assert run.model.config.residual_scale == pytest.approx(stored)
    assert run.evaluate()["eval_loss"] == pytest.approx(run.state.best_metric)


def test_the_log_says_the_scale(tmp_path):
    run = trainer(tmp_path, callbacks=[ResidualAnnealingCallback(end=[0.0, 0.0, 1.0, 1.0], fraction=1.0)])
    run.train()
    logged = [entry["residual_scale"] for entry in run.state.log_history if "loss" in entry]
    assert logged == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert "residual_scale" not in next(entry for entry in run.state.log_history if "eval_loss" in entry)
    stored = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    assert stored == [entry for entry in run.state.log_history if "train_loss" not in entry]


def test_layers_may_leave_meanwhile(tmp_path):
    shedding = LayerSheddingCallback(tolerance=1.0, patience=1, margin=1, start=0.0)
    annealing = ResidualAnnealingCallback(end=[0.1, 0.2, 0.3, 0.4], fraction=1.0)
    run = trainer(tmp_path, callbacks=[shedding, annealing])
    run.train()
    assert run.model.config.num_hidden_layers == 1
    assert run.model.config.residual_scale == pytest.approx([0.1])


def test_compiled_models_are_annealed_too(tmp_path):
    torch.compiler.reset()
    plain = trainer(tmp_path / "plain", callbacks=[ResidualAnnealingCallback(fraction=1.0)])
    options = {"torch_compile": True, "torch_compile_backend": "aot_eager", "optim": "sgd"}
    compiled = trainer(tmp_path / "compiled", callbacks=[ResidualAnnealingCallback(fraction=1.0)], **options)
    plain = trainer(tmp_path / "plain", callbacks=[ResidualAnnealingCallback(fraction=1.0)], optim="sgd")
    for run in (plain, compiled):
        run.train()
    for name, weight in weights(plain.model).items():
        torch.testing.assert_close(weights(compiled.model)[name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_a_step_of_several_batches_has_one_scale(tmp_path):
    options = {"max_steps": 4, "eval_strategy": "no", "save_strategy": "no", "optim": "sgd"}
    whole = trainer(tmp_path, callbacks=[ResidualAnnealingCallback(fraction=1.0)], **options)
    parts = Recorder(fraction=1.0)
    halves = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    run = trainer(tmp_path, callbacks=[parts], **options, **halves)
    run.train(), whole.train()
    assert parts.seen == pytest.approx([1.0, 2 / 3, 1 / 3, 0.0])
    for name, weight in weights(whole.model).items():
        torch.testing.assert_close(weights(run.model)[name], weight, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("step", [2, 4])
def test_annealing_with_supervision_goes_on_to_the_bit(tmp_path, step):
    def run(folder):
        made = trainer(folder, callbacks=[ResidualAnnealingCallback(fraction=0.8, order="top_down")])
        IntermediateSupervisionCallback("linear", num_depths=1).attach(made)
        return made

    whole, resumed = run(tmp_path / "whole"), run(tmp_path / "resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
    assert same_weights(weights(resumed.model), weights(whole.model))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft asks by the old name
def test_adapters_are_annealed_and_go_on_and_say_what_their_checkpoint_lacks(tmp_path, caplog):
    def run(folder):
        base = build_model()
        torch.manual_seed(0)
        return trainer(
            folder, get_peft_model(base, lora_config(base, r=2)), callbacks=[ResidualAnnealingCallback(fraction=1.0)]
        )

    whole, resumed = run(tmp_path / "whole"), run(tmp_path / "resumed")
    whole.train()
    assert [one for one in caplog.messages if one.endswith("must be given that of the end, 0.0")]
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert same_weights(weights(resumed.model), weights(whole.model))
    assert resumed.model.base_model.model.config.residual_scale == 0.0


@pytest.mark.parametrize("order", ["together", pytest.param("top_down", marks=pytest.mark.slow)])
def test_a_scale_that_moves_is_compiled_once(tmp_path, order):
    torch.compiler.reset()
    counters.clear()
    options = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 20, "eval_strategy": "no"}
    annealing = Recorder(begin=0.1, fraction=0.9, order=order)
    run = trainer(tmp_path, callbacks=[annealing], save_strategy="no", **options)
    run.train()
    assert len({str(scale) for scale in annealing.seen}) == 16, "fifteen steps are on the way"
    assert counters["stats"]["unique_graphs"] <= 4, "one before, one on the way, one after, and one for the first step"
    assert all(layer.moving is None for layer in short_connections(run.model))


@pytest.mark.parametrize(("order", "lag"), [("top_down", [3, 2, 1, 0]), ("bottom_up", [0, 1, 2, 3])])
def test_layers_may_go_one_after_another(tmp_path, order, lag):
    callback = ResidualAnnealingCallback(fraction=1.0, order=order)
    for step in range(1, 42):
        expected = [1 - min(1.0, max(0.0, (step - 1) / 10 - turn)) for turn in lag]
        assert np.broadcast_to(callback.scale_at(step, 41, 4), 4) == pytest.approx(expected, abs=1e-12)
    assert (callback.scale_at(1, 41, 4), callback.scale_at(41, 41, 4)) == (1.0, 0.0), "numbers at the ends"
    run = trainer(tmp_path, callbacks=[ResidualAnnealingCallback(fraction=1.0, order=order)])
    run.train()
    assert run.model.config.residual_scale == 0.0
    stored = AutoConfig.from_pretrained(tmp_path / "checkpoint-4").residual_scale
    assert stored == pytest.approx(callback.scale_at(4, 6, 4))


def test_a_converted_model_ends_as_an_acn_that_can_be_loaded(tmp_path):
    head = by_name("vit-ForImageClassification")
    fields = {"image_size": 8, "patch_size": 4, "hidden_size": 16, "num_attention_heads": 2, "num_labels": 10}
    config = head.upstream.config_class(**fields, num_hidden_layers=NUM_LAYERS, intermediate_size=32)
    model = from_residual(ViTForImageClassification(config), residual_scale=1.0)
    teacher = ViTForImageClassification(config)
    before = weights(teacher)
    callback = ResidualAnnealingCallback(distillation=DistillationLoss(teacher))
    trainer(tmp_path, model, callbacks=[callback]).train()
    assert same_weights(weights(teacher), before)
    assert not model._forward_hooks
    again = type(model).from_pretrained(tmp_path / "checkpoint-6")
    assert again.config.residual_scale == 0.0
    assert same_weights(weights(again), weights(model))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": 1.5}, "start must lie in \\[0, 1\\]; got 1.5"),
        ({"end": [0.0, -1.0]}, "end must lie in \\[0, 1\\]; got -1.0"),
        ({"end": math.nan}, "end must lie in \\[0, 1\\]; got nan"),
        ({"end": True}, "end must lie in \\[0, 1\\]; got True"),
        ({"end": "0"}, "end must lie in \\[0, 1\\]; got '0'"),
        ({"begin": 0.6}, "begin must lie in \\[0, 0.5\\], where fraction is the end; got 0.6"),
        ({"begin": -0.1}, "begin must lie in \\[0, 0.5\\], where fraction is the end; got -0.1"),
        ({"fraction": 1.2}, "fraction must lie in \\[0, 1\\]; got 1.2"),
        ({"shape": "step"}, "shape must be one of linear, cosine; got 'step'"),
        ({"order": "random"}, "order must be one of together, top_down, bottom_up; got 'random'"),
    ],
)
def test_arguments_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        ResidualAnnealingCallback(**options)


def test_what_cannot_be_annealed_is_refused(tmp_path, build):
    with pytest.raises(ValueError, match="end must hold one number for each of the 4 layers; got 2"):
        trainer(tmp_path, callbacks=[ResidualAnnealingCallback(end=[0.0, 0.0])]).train()
    learned = build_model(learn_residual_scale=True)
    with pytest.raises(ValueError, match="learn_residual_scale must be False; got True"):
        trainer(tmp_path, learned, callbacks=[ResidualAnnealingCallback()]).train()
    residual = by_name("vit-ForImageClassification").build_upstream(build(by_name("vit-ForImageClassification")))
    run = trainer(tmp_path, residual, callbacks=[ResidualAnnealingCallback()])
    with pytest.raises(TypeError, match=r"only the models of acn_hf .* got ViTForImageClassification"):
        run.train()
