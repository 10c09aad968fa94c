"""Intermediate supervision: the loss is the weighted sum of the losses at all depths, and nothing else changes."""

import copy

import pytest
import torch

from acn_hf import intermediate_supervision, truncate
from acn_hf.depth.layers import shed_layers
from acn_hf.modeling.depth import depth_outputs
from acn_hf.training.supervision import IntermediateSupervision, depth_weights
from tests.support.families import BASES, NUM_LAYERS, SOME_CONNECTIONS, TRAINED, by_name, each_head

CLASSIFIER = by_name("bert-ForSequenceClassification")
IMAGES = by_name("vit-ForImageClassification")
RESIDUAL = {"residual_scale": 1.0}


def losses(model, inputs):
    return [output.loss for _, output in depth_outputs(model, inputs)]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@each_head(
    TRAINED,
    options={**SOME_CONNECTIONS, "residual": RESIDUAL},
    weights=["linear", "uniform", [0.5, 0.0, 2.0, 1.0]],
)
def test_loss_and_gradients_are_those_of_the_weighted_sum(build, head, options, weights):
    model, inputs = build(head, **options).train(), head.inputs(labels=True)
    shares = depth_weights(weights, NUM_LAYERS)
    expected = sum(share * loss for share, loss in zip(shares, losses(model, inputs), strict=True))
    wanted = gradients(model, expected)
    with intermediate_supervision(model, weights):
        loss = model(**inputs).loss
        got = gradients(model, loss)
    torch.testing.assert_close(loss, expected)
    assert wanted.keys() == got.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@each_head(TRAINED)
def test_only_the_loss_of_training_changes(build, head):
    model, inputs = build(head), head.inputs(labels=True)
    plain = model(**inputs)
    with intermediate_supervision(model):
        evaluated = model(**inputs)
        model.train()
        trained = model(**inputs)
    assert torch.equal(evaluated.loss, plain.loss)
    assert not torch.equal(trained.loss, plain.loss)
    assert trained.keys() == plain.keys()
    for name in plain:
        if name != "loss":
            assert torch.equal(trained[name], plain[name])


def test_a_pass_without_labels_is_left_alone(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs()
    plain = model(**inputs)
    with intermediate_supervision(model):
        assert torch.equal(model(**inputs).logits, plain.logits)


@pytest.mark.parametrize("wanted", [False, True])
@each_head([CLASSIFIER, IMAGES])
def test_hidden_states_come_back_only_if_asked_for(build, head, wanted):
    model, inputs = build(head).train(), head.inputs(labels=True)
    with intermediate_supervision(model):
        output = model(**inputs, output_hidden_states=wanted)
    assert ("hidden_states" in output) == wanted
    if wanted:
        assert len(output.hidden_states) == NUM_LAYERS + 1


@each_head(TRAINED)
def test_tuples_and_positional_arguments(build, head):
    model, inputs = build(head).train(), head.inputs(labels=True)
    first = model.main_input_name
    rest = {name: value for name, value in inputs.items() if name != first}
    with intermediate_supervision(model):
        expected = model(**inputs).loss
        assert torch.equal(model(inputs[first], **rest, return_dict=False)[0], expected)


def test_everything_is_removed_also_after_an_error(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    plain = model(**inputs).loss
    with pytest.raises(TypeError), intermediate_supervision(model):
        model(**inputs, no_such_argument=object(), labels=1)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not model.base_model._forward_hooks
    assert torch.equal(model(**inputs).loss, plain)


def test_a_failed_pass_leaves_nothing_for_the_next(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    wrong = {**inputs, "labels": torch.tensor([0, 1, 2])}
    with intermediate_supervision(model):
        expected = model(**inputs).loss
        with pytest.raises(ValueError, match="batch_size"):
            model(**wrong)
        assert torch.equal(model(**inputs).loss, expected)
        without = {name: value for name, value in inputs.items() if name != "labels"}
        assert model(**without).loss is None


def test_a_cut_model_is_not_supervised(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    with intermediate_supervision(model):
        short = truncate(model, 2)
    with torch.no_grad():
        plain = truncate(build(CLASSIFIER).train(), 2)(**inputs).loss
    assert torch.equal(short(**inputs).loss, plain)


def test_the_weights_follow_layers_that_leave(build):
    model, inputs = build(IMAGES).train(), IMAGES.inputs(labels=True)
    short = truncate(model, 2)
    with intermediate_supervision(short):
        expected = short(**inputs).loss
    with intermediate_supervision(model):
        shed_layers(model, 2)
        torch.testing.assert_close(model(**inputs).loss, expected)


def test_full_depth_takes_over_the_weights_of_layers_that_leave(build):
    model, inputs = build(IMAGES).train(), IMAGES.inputs(labels=True)
    with intermediate_supervision(truncate(model, 1), [1.0, 5.0]) as supervision:
        expected = supervision.model(**inputs).loss
    with intermediate_supervision(model, [1.0, 2.0, 0.0, 3.0]):
        shed_layers(model, 1)
        torch.testing.assert_close(model(**inputs).loss, expected)


@pytest.mark.parametrize("return_dict", [False, True])
@each_head([CLASSIFIER, IMAGES])
def test_the_weight_of_full_depth_alone_counts_too(build, head, return_dict):
    model, inputs = build(head).train(), head.inputs(labels=True)
    plain = model(**inputs).loss
    with intermediate_supervision(model, [0.0] * NUM_LAYERS + [3.0]):
        torch.testing.assert_close(model(**inputs, return_dict=return_dict)[0], 3 * plain)
        without = model(**head.inputs(), return_dict=return_dict)
    torch.testing.assert_close(without[0], model(**head.inputs(), return_dict=return_dict)[0])


def test_a_supervised_model_is_not_supervised_again(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    with intermediate_supervision(model):
        expected = model(**inputs).loss
        with pytest.raises(ValueError, match="a model is supervised once"), intermediate_supervision(model, "uniform"):
            pass
        assert torch.equal(model(**inputs).loss, expected)
    assert not model._forward_hooks


def test_autocast_reaches_every_depth(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    seen = []
    model.classifier.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    with intermediate_supervision(model), torch.autocast("cpu", torch.bfloat16):
        model(**inputs)
    assert seen == [torch.bfloat16] * NUM_LAYERS  # depth 1 to L; depth 0 has no weight


@pytest.mark.parametrize("num_depths", [1, 2, 3, 7])
def test_a_rotating_subset_has_the_whole_sum_as_its_mean(build, num_depths):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    weights = [0.1, 0.2, 0.3, 0.4]
    supervision = IntermediateSupervision(model, weights, num_depths)
    turns, parts = 3, []
    for supervision.turn in range(turns):
        assert len(supervision.chosen()) == min(num_depths, NUM_LAYERS) + 1
        parts.append(model(**inputs).loss.detach())
    supervision.remove()
    whole = sum(w * loss for w, loss in zip(weights, losses(model, inputs), strict=True))
    torch.testing.assert_close(torch.stack(parts).mean(), whole.detach())


def test_linear_and_uniform_weights():
    assert depth_weights("linear", 4) == pytest.approx((0, 0.1, 0.2, 0.3, 0.4))
    assert depth_weights("uniform", 4) == pytest.approx((0, 0.25, 0.25, 0.25, 0.25))
    assert depth_weights("linear", 0) == (1.0,)
    assert sum(depth_weights("linear", 12)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ("quadratic", "'linear', 'uniform', 'full' or a list of numbers; got 'quadratic'"),
        ([1.0, 2.0], "each of the 4 depths of this model, 0 included; got 2"),
        ([0.0, 0.0, 0.0, 0.0], "at least one of them positive"),
        ([1.0, -1.0, 0.0, 1.0], "finite numbers >= 0"),
        ([1.0, float("nan"), 0.0, 1.0], "finite numbers >= 0"),
        (["a", "b", "c", "d"], "a list of numbers; got "),
        (None, "a list of numbers; got None"),
        (2.0, "a list of numbers; got 2.0"),
    ],
)
def test_weights_that_cannot_be(build, weights, text):
    model = build(CLASSIFIER)
    with pytest.raises(ValueError, match=text), intermediate_supervision(model, weights):
        pass
    assert not model._forward_hooks


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "2"])
def test_numbers_of_depths_that_cannot_be(build, number):
    with pytest.raises(ValueError, match="num_depths must be a whole number >= 1"):
        IntermediateSupervision(build(CLASSIFIER), num_depths=number)


@each_head(BASES)
def test_a_model_without_head_is_refused(build, head):
    with pytest.raises(TypeError, match="a loss needs a model with a head"):
        IntermediateSupervision(build(head))


def test_a_supervised_model_can_be_copied(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    with intermediate_supervision(model):
        twin = copy.deepcopy(model)
        assert torch.equal(twin(**inputs).loss, model(**inputs).loss)
