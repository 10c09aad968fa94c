"""Early exit from any model of transformers: an example gets what the model cut at its exit depth says of it."""

import peft
import pytest
import torch
import transformers

from acn_hf import (
    ConfidenceExit,
    DepthError,
    PatienceExit,
    calibrate_exit,
    depth_logits,
    measure_early_exit,
    predict_early_exit,
    truncate,
    with_early_exit,
)
from acn_hf.depth.layers import layers_of
from acn_hf.exits.early_exit import OF_EXAMPLES, OF_TOKENS
from acn_hf.support.auto_classes import auto_class_for
from tests.support.adapted import quiet
from tests.support.any_models import ALL, NUM_LAYERS, AnyModel, any_model, batch_of, sound, texts
from tests.support.covering import covering
from tests.support.exits import PlannedExit

CLASSIFIERS = [entry for entry in ALL if auto_class_for(getattr(transformers, entry.name)) in OF_EXAMPLES + OF_TOKENS]
PLANS = [(4, 1, 2), (2, 1, 1), (3, 3, 1), (1, 1, 1), (0, 2, 4), (0, 0, 0)]
BERT, WORDS = any_model("BertForSequenceClassification"), any_model("XLMRobertaForMaskedLM")


@torch.no_grad()
def check(model, inputs, plan, **options):
    """Assert that each example leaves when planned, with the logits of the model that is cut there."""
    output = predict_early_exit(model, inputs, PlannedExit(plan), **options)
    assert tuple(output.exit_depths.tolist()) == plan
    short = {depth: truncate(model, depth) for depth in set(plan)}
    for example, depth in enumerate(plan):
        expected = short[depth](**inputs).logits[example]
        torch.testing.assert_close(output.logits[example], expected, rtol=1e-5, atol=1e-5)


def planned(entry, plan):
    return tuple(max(depth, entry.lowest) for depth in plan)


@pytest.mark.parametrize("entry", CLASSIFIERS, ids=lambda entry: entry.name)
def test_an_example_gets_what_the_cut_model_says(entry):
    model = entry.build()
    counted = {"counted": torch.ones(3, 9)} if auto_class_for(type(model)) in OF_TOKENS else {}
    for plan in PLANS[:1] + PLANS[-2:]:
        check(model, batch_of(entry, 3), planned(entry, plan), **counted)


@covering(
    whole=False,
    entry={entry.name: entry for entry in CLASSIFIERS},
    plan={"-".join(map(str, plan)): plan for plan in PLANS},
    implementation={name: name for name in ("sdpa", "eager")},
    number={str(number): number for number in (1, 3, 9)},  # 9 as there are tokens: places are not taken for examples
    dtype={"float32": torch.float32, "bfloat16": torch.bfloat16},
)
@torch.no_grad()
def test_every_batch_and_every_implementation(entry, plan, implementation, number, dtype):
    model = entry.build().to(dtype)
    model.set_attn_implementation(implementation)
    inputs = batch_of(entry, number)
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    plan = planned(entry, [plan[row % len(plan)] for row in range(number)])
    counted = {"counted": torch.ones(number, 9)} if auto_class_for(type(model)) in OF_TOKENS else {}
    output = predict_early_exit(model, inputs, PlannedExit(plan), **counted)
    assert tuple(output.exit_depths.tolist()) == plan
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for example, depth in enumerate(plan):
        expected = truncate(model, depth)(**inputs).logits[example]
        torch.testing.assert_close(output.logits[example], expected, rtol=tolerance, atol=tolerance)


def test_what_is_as_long_as_the_batch_by_chance_is_not_taken_for_examples():
    entry = any_model("DebertaV2ForSequenceClassification")
    model = entry.build()
    number = len(model.deberta.encoder.rel_embeddings.weight)
    plan = tuple(1 + row % NUM_LAYERS for row in range(number))
    check(model, batch_of(entry, number), plan)


ELSEWHERE = {
    "WavLMForSequenceClassification": (
        any_model("Wav2Vec2ForSequenceClassification").fields,
        r"position_bias must be of shape \(4, '...'\); got \(",
    ),
    "XLNetForSequenceClassification": (
        {"vocab_size": 60, "d_model": 32, "n_head": 2, "d_inner": 48, "n_layer": 4},
        r"states must be of shape \(4, '...'\); got \(9, 4, 32\)",
    ),
    "BloomForSequenceClassification": (
        {"vocab_size": 60, "hidden_size": 32, "n_head": 2, "n_layer": 4, "pad_token_id": 0},
        r"alibi must be of shape \(4, 1, 9\); got \(8, 1, 9\)",
    ),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_examples_that_are_not_in_the_first_dimension_are_refused(name):
    fields, text = ELSEWHERE[name]
    entry = AnyModel(name, fields, sound(400) if name.startswith("WavLM") else texts)
    with pytest.raises(DepthError, match=text):
        predict_early_exit(entry.build(), batch_of(entry, 4), PlannedExit((1, 4, 2, 3)))


def test_layers_may_call_their_arguments_anything():
    fields, _ = ELSEWHERE["WavLMForSequenceClassification"]
    entry = AnyModel("WavLMForSequenceClassification", fields, sound(400))
    check(entry.build(), batch_of(entry, 3), (2, 2, 2))  # all leave together


def test_logits_that_are_no_numbers_are_refused():
    model = BERT.build()
    with torch.no_grad():
        layers_of(model)[2].output.dense.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="logits must be numbers, to say when an example may leave; got nan"):
        predict_early_exit(model, texts(), ConfidenceExit(1.0))


@quiet
def test_adapters_stay_active():
    model = peft.get_peft_model(BERT.build(), peft.LoraConfig(target_modules=["query"], init_lora_weights=False))
    check(model.eval(), batch_of(BERT, 3), (1, 2, 4))


def test_each_layer_runs_on_those_that_are_left_and_what_stands_before_them_once():
    model, rows, embedded = BERT.build(), [], []
    inputs = batch_of(BERT, 3)
    predict_early_exit(model, inputs, PlannedExit((1, 2, 4)))  # what is asked of a class once, is asked now
    for layer in layers_of(model):
        layer.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    model.bert.embeddings.register_forward_hook(lambda *_: embedded.append(1))
    predict_early_exit(model, inputs, PlannedExit((1, 2, 4)))
    assert rows == [3, 2, 1, 1]
    assert len(embedded) == 1


def test_the_head_reads_the_tokens_that_count_alone():
    model, inputs, read = WORDS.build(), batch_of(WORDS, 3), []
    counted = torch.zeros(3, 9, dtype=torch.bool)
    counted[:, 1] = counted[0, 2] = True
    expected = predict_early_exit(model, inputs, ConfidenceExit(1.0), counted=counted)
    model.lm_head.register_forward_pre_hook(lambda module, args: read.append(args[0].shape[:-1].numel()))
    output = predict_early_exit(model, inputs, ConfidenceExit(1.0, depths=[1, 3]), counted=counted)
    assert torch.equal(output.exit_depths, expected.exit_depths)
    assert read == [4, 4, 27]


def test_the_model_is_left_as_it_was():
    model, inputs = BERT.build().train(), batch_of(BERT, 3)
    before = {name: (type(module), set(vars(module)), module.training) for name, module in model.named_modules()}
    config = model.config.to_dict()
    predict_early_exit(model, inputs, PlannedExit((1, 2, 4)))
    assert before == {n: (type(module), set(vars(module)), module.training) for n, module in model.named_modules()}
    assert model.config.to_dict() == config


@torch.no_grad()
def test_a_view_is_called_as_the_model_is():
    model, inputs = BERT.build(), batch_of(BERT, 3)
    view = with_early_exit(model, PlannedExit((1, 2, 4)))
    assert type(view) is type(model)
    output = view(**inputs, labels=torch.tensor([0, 1, 1]))
    expected = predict_early_exit(model, inputs, PlannedExit((1, 2, 4))).logits
    assert torch.equal(output.logits, expected)
    assert torch.equal(output.loss, torch.nn.functional.cross_entropy(expected, torch.tensor([0, 1, 1])))
    assert torch.equal(view(inputs["input_ids"], inputs["attention_mask"], return_dict=False)[0], expected)
    with pytest.raises(TypeError, match="is a view that is only called"):
        truncate(view, 1)
    with pytest.raises(ValueError, match="early exit is for inference"):
        view.train()(**inputs)


def test_policies_that_look_only_at_some_depths():
    model, inputs = BERT.build(), batch_of(BERT, 3)
    read = []
    model.classifier.register_forward_pre_hook(lambda *_: read.append(1))
    assert predict_early_exit(model, inputs, ConfidenceExit(0.0, depths=[2, 3])).exit_depths.tolist() == [2, 2, 2]
    assert len(read) == 2
    assert predict_early_exit(model, inputs, ConfidenceExit(1.0, depths=[2, 3])).exit_depths.tolist() == [4, 4, 4]
    assert len(read) == 5
    output = predict_early_exit(model, inputs, PatienceExit(1, depths=[1, 3]))
    agree = depth_logits(model, **inputs).argmax(-1)[[1, 3]]
    assert output.exit_depths.tolist() == [3 if one == other else 4 for one, other in zip(*agree.tolist(), strict=True)]


def test_a_policy_is_chosen_and_measured():
    model, data = BERT.build(), []
    for seed in range(3):
        inputs = batch_of(BERT, 6)
        inputs["input_ids"] = torch.randint(5, 50, (6, 9), generator=torch.Generator().manual_seed(seed))
        data.append({**inputs, "labels": torch.arange(6) % 2})
    chosen = calibrate_exit(ConfidenceExit(0.5, depths=[1, 3]), model, data, tolerance=1.0)
    report = measure_early_exit(model, data, chosen.policy, compare=True)
    assert report.accuracy == pytest.approx(chosen.accuracy)
    assert report.mean_depth == pytest.approx(chosen.mean_depth)
    assert chosen.policy.depths == (1, 3)
    assert chosen.mean_depth == 1.0
    assert report.full_depth_accuracy == pytest.approx(chosen.full_depth_accuracy)


def test_what_cannot_leave_early_is_refused():
    inputs = texts()
    with pytest.raises(TypeError, match=r"needs probabilities of classes, .* LlamaForCausalLM gives none"):
        predict_early_exit(any_model("LlamaForCausalLM").build(), inputs, ConfidenceExit(0.5))
    with pytest.raises(DepthError, match=r"depths must lie in \[0, 4\] for this model; got 5"):
        predict_early_exit(BERT.build(), inputs, ConfidenceExit(0.5, depths=[1, 5]))
    with pytest.raises(DepthError, match="depths must be >= 1 for ModernBertForSequenceClassification; got 0"):
        predict_early_exit(
            any_model("ModernBertForSequenceClassification").build(), inputs, ConfidenceExit(0.5, depths=[0, 2])
        )
    with pytest.raises(ValueError, match="a batch must hold at least one example; got none"):
        predict_early_exit(BERT.build(), {"input_ids": torch.ones(0, 9, dtype=torch.long)}, ConfidenceExit(0.5))
    for switch in ("output_hidden_states", "output_attentions"):
        with pytest.raises(ValueError, match=f"{switch} must be off: examples leave at different depths"):
            predict_early_exit(BERT.build(), {**inputs, switch: True}, ConfidenceExit(0.5))


def test_a_class_that_needs_a_layer_is_read_from_the_first_on():
    model = any_model("ModernBertForSequenceClassification").build()
    assert predict_early_exit(model, texts(), ConfidenceExit(0.0)).exit_depths.tolist() == [1, 1, 1]


@pytest.mark.parametrize("depths", [[], [2, 1], [1, 1], [-1], [1.5], "12", 3, [True]], ids=str)
def test_depths_that_are_none(depths):
    with pytest.raises(ValueError, match=r"depths must be ascending whole numbers >= 0, at least one; got"):
        ConfidenceExit(0.5, depths=depths)


def test_depths_and_min_depth_exclude_each_other():
    with pytest.raises(ValueError, match=r"give depths or min_depth, not both; got \[1, 3\] and 2"):
        PatienceExit(1, depths=[1, 3], min_depth=2)
    policy = PatienceExit(1, depths=[1, 3])
    assert PatienceExit.from_dict(policy.to_dict()) == policy
    assert NUM_LAYERS > 3
