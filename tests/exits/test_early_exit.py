"""An example that leaves at depth k gets what the model cut at depth k says of it, and no more layers run on it."""

import copy

import accelerate
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, create_mask

from acn_hf import ConfidenceExit, EntropyExit, PatienceExit, depth_logits, predict_early_exit, truncate
from acn_hf.exits.rows import of_examples
from acn_hf.modeling.depth import encoder_layers
from tests.support.adapted import any_peft, each_way, quiet
from tests.support.exits import (
    CLASSIFIERS,
    OF_EXAMPLES,
    OF_TOKENS,
    PlannedExit,
    expected_depths,
    padded,
    with_two_tokens,
)
from tests.support.families import NUM_LAYERS, by_name, each_head

__all__ = ["any_peft"]

PLAN = (2, 0, 3, 1, 0, 2, 3, 1)
CONNECTIONS = {
    "acn": {},
    "half": {"residual_scale": 0.5},
    "residual": {"residual_scale": 1.0},
    "half-sum": {"residual_scale": 0.5, "readout": "sum"},
    "residual-sum": {"residual_scale": 1.0, "readout": "sum"},
    "learned": {"residual_scale": [1.0, 0.25, 0.0], "learn_residual_scale": True},
}
SEQUENCES, TOKENS, WORDS = (
    by_name(f"bert-{name}") for name in ("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM")
)


@torch.no_grad()
def check_against_cut_models(model, inputs, output, plan=PLAN, **tolerances):
    """Assert that each example left when planned, with the logits of the model cut there."""
    assert output.exit_depths.dtype == torch.long
    assert tuple(output.exit_depths.tolist()) == plan
    at_depth = [truncate(model, depth).eval()(**inputs).logits for depth in range(NUM_LAYERS + 1)]
    expected = torch.stack([at_depth[depth][example] for example, depth in enumerate(plan)])
    torch.testing.assert_close(output.logits, expected, **{"rtol": 1e-5, "atol": 1e-5} | tolerances)


@each_head(CLASSIFIERS, options=CONNECTIONS, implementation=["sdpa", "eager"])
def test_logits_are_those_of_the_model_cut_at_the_exit_depth(build, head, options, implementation):
    model, inputs = build(head, **options), padded(head.inputs(len(PLAN)))
    model.set_attn_implementation(implementation)
    counted = {"counted": torch.ones(8, 7)} if head in OF_TOKENS else {}
    output = predict_early_exit(model, inputs, PlannedExit(PLAN), **counted)
    check_against_cut_models(model, inputs, output)


@each_head(CLASSIFIERS)
@torch.no_grad()
def test_an_example_gets_what_it_gets_alone(build, head):
    model, inputs = build(head), padded(head.inputs(len(PLAN)))
    counted = {"counted": torch.ones(8, 7)} if head in OF_TOKENS else {}
    output = predict_early_exit(model, inputs, PlannedExit(PLAN), **counted)
    for example, depth in enumerate(PLAN):
        alone = {name: value[example : example + 1] for name, value in inputs.items()}
        expected = truncate(model, depth)(**alone).logits[0]
        torch.testing.assert_close(output.logits[example], expected, rtol=1e-5, atol=1e-5)


@each_head(CLASSIFIERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_models_of_other_precisions(build, head, dtype):
    model, inputs = build(head).to(dtype), head.inputs(len(PLAN))
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    output = predict_early_exit(model, inputs, PlannedExit(PLAN))
    assert output.logits.dtype == dtype
    check_against_cut_models(model, inputs, output, **({"rtol": 0.02, "atol": 0.02} if dtype.itemsize == 2 else {}))


@each_head(CLASSIFIERS)
def test_autocast_around_the_call_counts(build, head):
    model, inputs = build(head), head.inputs(len(PLAN))
    with torch.autocast("cpu", torch.bfloat16):
        output = predict_early_exit(model, inputs, PlannedExit(PLAN))
        assert output.logits.dtype == torch.bfloat16
        check_against_cut_models(model, inputs, output, rtol=0.02, atol=0.02)


def what_the_head_reads(model):
    """Return a list that grows, at each call of the head, by the number of predictions that it makes."""
    read = []
    names = {"cls": "cls.predictions.decoder", "cls_classifier": "cls_classifier", "classifier": "classifier"}
    classifier = model.get_submodule(next(path for child, path in names.items() if child in model._modules))
    classifier.register_forward_pre_hook(lambda module, args: read.append(args[0].shape[:-1].numel()))
    return read


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data parallel": torch.nn.DataParallel,
    "prepared": lambda model: accelerate.Accelerator(mixed_precision="bf16", cpu=True).prepare(model),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@each_head([SEQUENCES, OF_EXAMPLES[-1], WORDS])
def test_wrapped_models(build, head, wrap):
    model, inputs = build(head), head.inputs(len(PLAN))
    output = predict_early_exit(wrap(copy.deepcopy(model)), inputs, PlannedExit(PLAN))
    check_against_cut_models(model, inputs, output)


@quiet
@pytest.mark.usefixtures("any_peft")
@each_way
@each_head([SEQUENCES, OF_EXAMPLES[-1], TOKENS])
def test_adapters_stay_active(build, head, adapt):
    model, inputs = adapt(build(head)), head.inputs(len(PLAN))
    output = predict_early_exit(model, inputs, PlannedExit(PLAN))
    check_against_cut_models(model, inputs, output)
    plain = predict_early_exit(build(head), inputs, PlannedExit(PLAN))
    assert not torch.allclose(plain.logits[2], output.logits[2])


@each_head(CLASSIFIERS)
@pytest.mark.parametrize("depth", range(NUM_LAYERS + 1))
def test_all_leave_together(build, head, depth):
    plan = (depth,) * 4
    model, inputs = build(head), head.inputs(4)
    output = predict_early_exit(model, inputs, PlannedExit(plan))
    check_against_cut_models(model, inputs, output, plan)
    assert output.mean_depth == depth


@pytest.mark.parametrize("min_depth", [0, 2])
@each_head(CLASSIFIERS)
def test_an_empty_batch(build, head, min_depth):
    inputs = {name: value[:0] for name, value in head.inputs(2).items()}
    output = predict_early_exit(build(head), inputs, PatienceExit(1, min_depth=min_depth))
    full = head.build()(**head.inputs(2)).logits
    assert output.logits.shape == (0, *full.shape[1:])
    assert output.exit_depths.shape == (0,)
    assert output.mean_depth != output.mean_depth


@each_head(CLASSIFIERS)
def test_each_layer_runs_on_those_that_are_left_and_the_head_reads_no_others(build, head):
    model, inputs = build(head), head.inputs(len(PLAN))
    per_example = 7 if head in OF_TOKENS else 1
    rows, read = [], what_the_head_reads(model)
    for layer in encoder_layers(model):
        layer.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    predict_early_exit(model, inputs, PlannedExit(PLAN))
    assert rows == [sum(depth > layer for depth in PLAN) for layer in range(NUM_LAYERS)] == [6, 4, 2]
    # At the end the head reads all examples once more, each at its own depth.
    assert read == [8 * per_example, 6 * per_example, 4 * per_example, 8 * per_example]


@each_head(CLASSIFIERS)
def test_min_depth_is_the_first_at_which_the_head_is_read(build, head):
    model, inputs = build(head), head.inputs(4)
    read = what_the_head_reads(model)
    output = predict_early_exit(model, inputs, ConfidenceExit(0.0, min_depth=2))
    assert output.exit_depths.tolist() == [2] * 4
    assert len(read) == 2
    never = predict_early_exit(model, inputs, ConfidenceExit(0.0, min_depth=NUM_LAYERS))
    assert len(read) == 3
    torch.testing.assert_close(never.logits, model(**inputs).logits)


def largest_probability(logits):
    return logits.softmax(-1).amax(-1)


def share_of_largest_entropy(logits):
    return torch.distributions.Categorical(logits=logits).entropy() / torch.tensor(logits.shape[-1]).log()


@torch.no_grad()
def telling_threshold(measure, model, inputs, counted, make_sure):
    """Return a threshold, and the exit depths from 1 on, of which as many as possible differ."""
    features = {name: value for name, value in inputs.items() if name != "labels"}
    values = measure(depth_logits(model, **features)[1:-1]).double().flatten()
    thresholds = [float(values.quantile(share / 20)) for share in range(1, 20)]
    expected = {one: expected_depths(model, features, make_sure(one), counted, 1) for one in thresholds}
    best = max(thresholds, key=lambda one: len(expected[one].unique()))
    assert len(expected[best].unique()) > 1
    return best, expected[best]


def is_confident(threshold):
    return lambda seen: largest_probability(seen[-1]) >= threshold


def has_little_entropy(threshold):
    return lambda seen: share_of_largest_entropy(seen[-1]) <= threshold


@each_head(CLASSIFIERS)
def test_examples_leave_when_a_probability_is_large(build, head):
    model, inputs = build(head), with_two_tokens(head.inputs(16))
    counted = inputs["attention_mask"].bool() if head in OF_TOKENS else None
    threshold, expected = telling_threshold(largest_probability, model, inputs, counted, is_confident)
    output = predict_early_exit(model, inputs, ConfidenceExit(threshold, min_depth=1))
    assert torch.equal(output.exit_depths, expected)
    assert torch.equal(output.predictions, output.logits.argmax(-1))


@each_head(CLASSIFIERS)
def test_examples_leave_when_the_entropy_is_small(build, head):
    model, inputs = build(head), with_two_tokens(head.inputs(16))
    counted = inputs["attention_mask"].bool() if head in OF_TOKENS else None
    threshold, expected = telling_threshold(share_of_largest_entropy, model, inputs, counted, has_little_entropy)
    assert torch.equal(predict_early_exit(model, inputs, EntropyExit(threshold, min_depth=1)).exit_depths, expected)


@pytest.mark.parametrize("patience", [1, 2])
@each_head(CLASSIFIERS)
def test_examples_leave_when_depths_agree(build, head, patience):
    model, inputs = build(head), with_two_tokens(head.inputs(32))
    counted = inputs["attention_mask"].bool() if head in OF_TOKENS else None

    def sure(seen):
        return len(seen) > patience and len(set(seen[-patience - 1 :].argmax(-1).tolist())) == 1

    expected = expected_depths(model, inputs, sure, counted)
    assert torch.equal(predict_early_exit(model, inputs, PatienceExit(patience)).exit_depths, expected)


@each_head(OF_TOKENS)
def test_the_tokens_that_count_decide(build, head):
    model, inputs = build(head), padded(head.inputs(16))
    labels = torch.full((16, 7), -100)
    labels[:, 1:3] = 1
    mine = torch.zeros(16, 7, dtype=torch.bool)
    mine[:, 0] = True
    mine[5] = False
    everything = torch.ones(16, 7, dtype=torch.bool)
    cases = [
        (inputs, {}, inputs["attention_mask"].bool()),
        ({"input_ids": inputs["input_ids"]}, {}, everything),
        ({**inputs, "labels": labels}, {}, labels != -100),
        ({**inputs, "labels": labels}, {"counted": mine}, mine),
        (inputs, {"counted": lambda given: given["input_ids"] > 25}, inputs["input_ids"] > 25),
    ]
    for given, options, counted in cases:
        threshold, expected = telling_threshold(largest_probability, model, given, counted, is_confident)
        output = predict_early_exit(model, given, ConfidenceExit(threshold, min_depth=1), **options)
        assert torch.equal(output.exit_depths, expected)
    assert predict_early_exit(model, inputs, ConfidenceExit(1.0), counted=mine).exit_depths[5] == 0


@pytest.mark.parametrize("head", [SEQUENCES, TOKENS], ids=lambda head: head.name)
def test_labels_change_no_logits(build, head):
    model, inputs = build(head), head.inputs(8, labels=True)
    with_labels = predict_early_exit(model, inputs, PlannedExit(PLAN))
    del inputs["labels"]
    assert torch.equal(with_labels.logits, predict_early_exit(model, inputs, PlannedExit(PLAN)).logits)


@each_head(CLASSIFIERS)
def test_the_model_is_left_as_it_was(build, head):
    model, inputs = build(head, output_hidden_states=True).train(), head.inputs(8)
    encoder_layers(model)[1].eval()

    def state():
        modules = [(name, module.training, set(vars(module))) for name, module in model.named_modules()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
        return modules, hooks, model.config.to_dict(), {name: id(value) for name, value in model.named_parameters()}

    before, given = state(), dict(inputs)
    output = predict_early_exit(model, inputs, PlannedExit(PLAN))
    assert state() == before
    assert inputs == given
    assert not output.logits.requires_grad
    check_against_cut_models(model, inputs, output)


def test_what_layers_get_follows_the_examples():
    rows = torch.tensor([2, 0])
    value = {
        "mask": torch.arange(3).view(3, 1),
        "shared": torch.zeros(1, 5),
        "pair": (torch.arange(3), "x"),
        "on": True,
    }
    taken = of_examples(value, rows, 3)
    assert taken["mask"].tolist() == [[2], [0]]
    assert taken["shared"] is value["shared"]
    assert taken["pair"][0].tolist() == [2, 0]
    assert (taken["pair"][1], taken["on"]) == ("x", True)


def test_a_mask_of_flex_attention_follows_the_examples():
    lengths = torch.tensor([3, 200, 130])

    def is_token(example, head, query, key):
        return key < lengths[example]

    mask = create_block_mask(is_token, 3, None, 256, 256, device="cpu")
    rows = torch.tensor([2, 0])
    taken = of_examples(mask, rows, 3)
    assert taken.shape == (2, 1, 256, 256)
    assert torch.equal(taken.to_dense(), mask.to_dense()[rows])
    dense = create_mask(taken.mask_mod, 2, 1, 256, 256, device="cpu")
    assert torch.equal(dense, create_mask(is_token, 3, 1, 256, 256, device="cpu")[rows])
