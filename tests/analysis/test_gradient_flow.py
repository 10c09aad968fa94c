"""Gradient flow is that of the closed form, of the naive loops, of finite differences, and of a plain backward pass."""

import math
import random

import numpy as np
import peft
import pytest
import torch
from transformers import BertModel

from acn_hf import (
    AcnBertForMaskedLM,
    GradientFlow,
    GradientFlowHistory,
    lora_config,
    measure_gradient_flow,
    plot_gradient_flow,
)
from acn_hf.analysis.gradient_flow import direct_view, parameters_by_depth, plain_view
from acn_hf.depth.metrics import ProfileError
from acn_hf.modeling.depth import encoder_layers, head_output, short_connections
from tests.modeling.test_conformance_reference import doubled, eager
from tests.modeling.test_half_precision import on, on_each_device
from tests.support.families import NUM_LAYERS, SOME_CONNECTIONS, TRAINED, by_name, each_head
from tests.support.line import build_line

BERT, VIT, MLM = map(by_name, ("bert-ForSequenceClassification", "vit-ForImageClassification", "bert-ForMaskedLM"))
FLOW = GradientFlow((0, 1, 2), (4.0, 2.0, 1.0), (1.0, 1.0, 1.0), (3.5, 1.5, 0.0), 8)


def norm(tensors) -> float:
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in tensors if tensor is not None))


def norms(model, loss) -> tuple[float, ...]:
    """Return the norm at every depth of the gradients that a backward pass leaves."""
    model.zero_grad()
    loss.backward()
    return tuple(norm(parameter.grad for parameter in own) for own in parameters_by_depth(model))


def close(actual, expected, tolerance=1e-9):
    assert actual == pytest.approx(expected, rel=tolerance, abs=1e-12)


WEIGHTS = [0.5, -1.25, 2.0, 0.75]
X = torch.tensor([[3.0]], dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("readout", ["auto", "sum"])
def test_the_closed_form_of_a_line(alpha, readout):
    """Table 1 of the paper; a sum at scale 1, which it does not have, is the residual network at every depth, added."""
    model = build_line(WEIGHTS, residual_scale=alpha, readout=readout)
    flow = measure_gradient_flow(model, {"x": X, "labels": X})
    gains = [alpha + weight for weight in WEIGHTS]
    below = [3.0 * math.prod(gains[:i]) for i in range(len(gains) + 1)]  # x_0, x_1, ...
    last = len(gains)
    if alpha == 1 and readout == "auto":  # y = prod(1 + w) x
        assert model(X).logits.item() == pytest.approx(below[-1])
        mediated = [math.prod(gains[i:]) - 1 for i in range(last + 1)]
    else:  # y = (1 + sum_k prod_{j<=k} g_j) x
        assert model(X).logits.item() == pytest.approx(sum(below))
        mediated = [sum(math.prod(gains[i:k]) for k in range(i + 1, last + 1)) for i in range(last + 1)]
    inputs = [3.0, *below[:-1]]  # what the embeddings and each layer multiply by their weight
    close(flow.direct, [abs(x) for x in inputs])
    close(flow.mediated, [abs(x * above) for x, above in zip(inputs, mediated, strict=True)])
    close(flow.full, [abs(x * (1 + above)) for x, above in zip(inputs, mediated, strict=True)])
    close(flow.ratio, [1 / abs(1 + above) for above in mediated])
    assert (flow.depths, flow.num_examples) == (tuple(range(last + 1)), 1)


@each_head(TRAINED)
def test_the_naive_loop(build, head):
    model, inputs = eager(build(head, **SOME_CONNECTIONS["mixed"]).double()), doubled(head.inputs(labels=True))
    flow = measure_gradient_flow(model, inputs)
    gradients = []
    for direct in (False, True):
        model.config.direct_gradient_only = direct
        naive = head.build_naive(model)
        head.loss(naive(**inputs)).backward()
        layers = naive.base_model.get_submodule(model.layers_name)
        gradients.append([[each.grad for each in part.parameters()] for part in (naive.base_model.embeddings, *layers)])
    full, direct = ([[torch.zeros(()) if g is None else g for g in own] for own in part] for part in gradients)
    close(flow.full, [norm(own) for own in full])
    close(flow.direct, [norm(own) for own in direct])
    rest = [[f - d for f, d in zip(fs, ds, strict=True)] for fs, ds in zip(full, direct, strict=True)]
    close(flow.mediated, [norm(own) for own in rest])
    assert min(flow.direct[1:]) > 0


@pytest.mark.parametrize("part", ["full", "direct"])
@each_head([BERT, VIT])
def test_finite_differences(build, head, part):
    """A step along the gradient of a depth raises the loss by its norm; the direct part keeps all other `x_i`."""
    model, inputs = build(head).double(), doubled(head.inputs(labels=True))
    flow = getattr(measure_gradient_flow(model, inputs), part)
    view = plain_view(model) if part == "full" else direct_view(model)
    norms(model, view(**inputs).loss)
    unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
    outputs = model.base_model(**unlabelled, output_layer_outputs=True, output_hidden_states=True)
    kept, depth_state, step = outputs.layer_outputs, outputs.hidden_states[-1], 1e-6
    layers = [model.base_model.embeddings, *encoder_layers(model)]
    for depth in range(1, NUM_LAYERS + 1):
        losses = []
        for sign in (1, -1):
            moves = [(each, sign * step / flow[depth] * each.grad) for each in layers[depth].parameters()]
            with torch.no_grad():
                for each, move in moves:
                    each += move
                if part == "full":
                    losses.append(model(**inputs).loss)
                else:
                    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool) if head is BERT else None
                    moved = layers[depth](kept[depth - 1], mask)
                    losses.append(head_output(model, depth_state + moved - kept[depth], inputs).loss)
                for each, move in moves:
                    each -= move
        close((losses[0] - losses[1]).item() / (2 * step), flow[depth], 1e-5)


def split(inputs, *sizes):
    return [
        dict(zip(inputs, parts, strict=True))
        for parts in zip(*(value.split(list(sizes)) for value in inputs.values()), strict=True)
    ]


@each_head([head for head in TRAINED if head.name != "bert-ForPreTraining"])
def test_batches_of_any_size_are_as_one(build, head):
    model, inputs = build(head).double(), doubled(head.inputs(batch_size=7, labels=True))
    if head is MLM:  # examples of which different numbers of tokens count, in one batch none
        inputs["labels"][0] = 3
        inputs["labels"][6] = -100
    whole, parts = (measure_gradient_flow(model, data) for data in (inputs, iter(split(inputs, 2, 4, 1))))
    # Upstream adds 1e-5 to the number of masked patches.
    tolerance = 1e-5 if head.name.endswith("ForMaskedImageModeling") else 1e-9
    for part in ("full", "direct", "mediated"):
        close(getattr(parts, part), getattr(whole, part), tolerance)
    assert parts.num_examples == whole.num_examples == 7


def test_pretraining_in_batches_of_equal_shares(build):
    head = by_name("bert-ForPreTraining")
    model, inputs = build(head).double(), head.inputs(batch_size=6, labels=True)
    close(measure_gradient_flow(model, split(inputs, 2, 4)).full, measure_gradient_flow(model, inputs).full)


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@each_head([BERT, VIT])
def test_the_norms_are_those_of_a_backward_pass_in_every_precision(build, head, dtype, device):
    model, inputs = build(head).to(device, dtype), on(device, dtype, head.inputs(labels=True))
    flow = measure_gradient_flow(model, inputs)
    tolerance = 1e-5 if device == "cpu" else 1e-2  # a GPU adds in any order, and rounds every sum to the dtype
    close(flow.full, norms(model, model(**inputs).loss), tolerance)
    close(flow.direct, norms(model, direct_view(model)(**inputs).loss), tolerance)


@on_each_device
def test_autocast_around_it(build, device):
    """Casts of weights that a pass without gradients left with autocast have none."""
    model, inputs = build(BERT).to(device), on(device, torch.float32, BERT.inputs(labels=True))
    with torch.autocast(device, torch.bfloat16):
        with torch.no_grad():
            model(**inputs)
        flow = measure_gradient_flow(model, inputs)
        loss = model(**inputs).loss
    close(flow.full, norms(model, loss), 1e-5 if device == "cpu" else 1e-2)
    assert flow.full != pytest.approx(measure_gradient_flow(model, inputs).full, rel=1e-6)


@pytest.mark.gpu
def test_the_device_of_choice_and_the_way_back(build):
    model, inputs = build(BERT), BERT.inputs(labels=True)
    flow = measure_gradient_flow(model, inputs, device="cuda")
    assert model.device.type == "cpu"
    close(flow.full, measure_gradient_flow(model, inputs).full, 1e-3)


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(build, switch):
    model, inputs = build(VIT), VIT.inputs(labels=True)
    expected = measure_gradient_flow(model, inputs)
    with switch():
        assert measure_gradient_flow(model, inputs) == expected


@each_head([BERT, VIT])
def test_it_leaves_no_trace(build, head):
    model, inputs = build(head, hidden_dropout_prob=0.1).train(), head.inputs(labels=True)
    encoder_layers(model)[1].eval()
    model(**inputs).loss.backward()
    unused = next(model.parameters())
    unused.grad = None

    def seen():
        return (
            [id(parameter.grad) for parameter in model.parameters()],
            [(module.training, len(module._forward_hooks), sorted(vars(module))) for module in model.modules()],
            model.config.to_dict(),
            (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        )

    model(**inputs, output_hidden_states=True)  # what records them stays in a model for good
    gradients = [None if each.grad is None else each.grad.clone() for each in model.parameters()]
    before, values = seen(), [each.clone() for each in model.parameters()]
    rows = [{name: value[0] for name, value in inputs.items()}]
    flow = measure_gradient_flow(model, torch.utils.data.DataLoader(rows, shuffle=True))
    assert seen() == before
    assert flow.num_examples == 1
    assert gradients.count(None) == 1
    for each, value, gradient in zip(model.parameters(), values, gradients, strict=True):
        assert torch.equal(each, value)
        assert gradient is None or torch.equal(each.grad, gradient)


@pytest.mark.parametrize("prob", [0.0, 0.5])
def test_dropout_is_off(build, prob):
    model = build(VIT, hidden_dropout_prob=prob).train()
    assert measure_gradient_flow(model, VIT.inputs(labels=True)) == measure_gradient_flow(
        build(VIT), VIT.inputs(labels=True)
    )


def test_frozen_parameters_have_none(build):
    model, inputs = build(BERT), BERT.inputs(labels=True)
    whole = measure_gradient_flow(model, inputs)
    model.base_model.embeddings.requires_grad_(False)
    encoder_layers(model)[1].requires_grad_(False)
    flow = measure_gradient_flow(model, inputs)
    close(flow.full, [0.0, whole.full[1], 0.0, whole.full[3]], 1e-6)
    close(flow.direct, [0.0, whole.direct[1], 0.0, whole.direct[3]], 1e-6)
    assert math.isnan(flow.ratio[2])
    model.requires_grad_(False)
    assert measure_gradient_flow(model, inputs).full == (0.0,) * (NUM_LAYERS + 1)


def test_where_norms_stand_after_the_additions_a_residual_network_has_no_direct_gradient(build):
    flow = measure_gradient_flow(build(BERT, residual_scale=1.0), BERT.inputs(labels=True))
    assert flow.direct[:-1] == (0.0,) * NUM_LAYERS
    assert flow.direct[-1] == flow.full[-1] > 0


@each_head([BERT, VIT])
def test_a_model_of_direct_gradients_has_no_other(build, head):
    inputs = head.inputs(labels=True)
    flow = measure_gradient_flow(build(head, direct_gradient_only=True), inputs)
    assert flow.full == flow.direct == measure_gradient_flow(build(head), inputs).direct
    assert flow.mediated == (0.0,) * (NUM_LAYERS + 1)


def test_learned_scales_count_in_their_layers(build):
    model, inputs = build(VIT, residual_scale=0.5, learn_residual_scale=True).double(), VIT.inputs(labels=True)
    inputs = doubled(inputs)
    flow = measure_gradient_flow(model, inputs)
    close(flow.full, norms(model, model(**inputs).loss))
    for short in short_connections(model):
        short.residual_scale.requires_grad_(False)
    assert all(
        less < more for less, more in zip(measure_gradient_flow(model, inputs).full[1:], flow.full[1:], strict=True)
    )


def test_a_shared_parameter_counts_at_the_lowest_depth(build):
    model, inputs = build(BERT).double(), BERT.inputs(labels=True)
    layers = encoder_layers(model)
    layers[1].intermediate = layers[0].intermediate
    flow = measure_gradient_flow(model, inputs)
    model(**inputs).loss.backward()
    own = [each for each in layers[1].parameters() if all(each is not other for other in layers[0].parameters())]
    close(flow.full[1], norm(each.grad for each in layers[0].parameters()))
    close(flow.full[2], norm(each.grad for each in own))
    assert len(own) < len(list(layers[1].parameters()))


def test_embeddings_that_the_head_shares_count_at_depth_0_with_all_they_learn(build):
    model, inputs = build(MLM).double(), MLM.inputs(labels=True)
    tied = model.get_input_embeddings().weight
    assert tied is model.get_output_embeddings().weight
    flow = measure_gradient_flow(model, inputs)
    close(flow.full, norms(model, model(**inputs).loss))
    assert type(model) is AcnBertForMaskedLM
    unread = [token for token in range(40) if token not in inputs["input_ids"]]
    assert tied.grad[unread].any(), "only the head reads these"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_adapters_count_and_what_they_froze_does_not(build):
    model = build(BERT)
    adapted = peft.get_peft_model(model, lora_config(model, r=2, init_lora_weights=False)).double()
    inputs = BERT.inputs(labels=True)
    flow = measure_gradient_flow(adapted, inputs)
    adapted(**inputs).loss.backward()
    for depth, layer in enumerate(encoder_layers(model), start=1):
        named = [(name, each) for name, each in layer.named_parameters() if each.grad is not None]
        assert all("lora_" in name for name, _ in named)
        close(flow.full[depth], norm(each.grad for _, each in named))
    assert flow.full[0] == 0.0


def test_wrappers_are_looked_through(build):
    model, inputs = build(BERT), BERT.inputs(labels=True)
    expected = measure_gradient_flow(model, inputs)
    assert measure_gradient_flow(torch.compile(model, backend="eager"), inputs) == expected


REFUSED = {
    "empty": (lambda inputs: [], "the data must hold at least one example; got none"),
    "unlabelled": (
        lambda inputs: {"input_ids": inputs["input_ids"]},
        "the data must hold labels; got only input_ids",
    ),
    "ignored": (lambda inputs: inputs | {"labels": torch.full((2, 7), -100)}, "at least one label must count; all are"),
    "tensors": (lambda inputs: inputs["input_ids"], "a batch must be a dictionary of tensors; got Tensor"),
}


@pytest.mark.parametrize(("make", "text"), REFUSED.values(), ids=REFUSED)
def test_refused_data(build, make, text):
    with pytest.raises(ProfileError, match=text):
        measure_gradient_flow(build(MLM), make(MLM.inputs(labels=True)))


class Spoiled(torch.autograd.Function):
    """A layer output whose gradient is not a number."""

    @staticmethod
    def forward(context, output):
        return output.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * math.nan


@pytest.mark.parametrize("depth", [1, 2])
def test_a_gradient_that_is_not_a_number_is_an_error_that_names_the_depth(build, depth):
    model, inputs = build(VIT), VIT.inputs(labels=True)
    encoder_layers(model)[depth - 1].register_forward_hook(lambda module, args, output: Spoiled.apply(output))
    with pytest.raises(ProfileError, match="full gradient at depth 0 must be a finite number >= 0; got nan"):
        measure_gradient_flow(model, inputs)
    model.base_model.embeddings.requires_grad_(False)
    for layer in encoder_layers(model)[: depth - 1]:
        layer.requires_grad_(False)
    with pytest.raises(ProfileError, match=f"full gradient at depth {depth} must be a finite number >= 0; got nan"):
        measure_gradient_flow(model, inputs)


def test_refused_models(build):
    with pytest.raises(TypeError, match="a loss needs a model with a head, and AcnBertModel has none"):
        measure_gradient_flow(build(by_name("bert-Model")), BERT.inputs())
    with pytest.raises(TypeError, match="only the models of acn_hf"):
        measure_gradient_flow(BertModel(BertModel.config_class(hidden_size=24, num_hidden_layers=1)), BERT.inputs())
    model = build(BERT)
    model.config.num_hidden_layers = 2
    with pytest.raises(ValueError, match="holds 3 layers and its config says num_hidden_layers=2"):
        measure_gradient_flow(model, BERT.inputs(labels=True))


REFUSED_FIELDS = [
    ({"full": (1.0,)}, "three norms for each of its depths; got 3 depths and 1, 3, 3 norms"),
    ({"depths": (0, 2, 1)}, r"depths of a gradient flow must be whole numbers that ascend; got \(0, 2, 1\)"),
    ({"depths": (0, 0.5, 1)}, r"depths of a gradient flow must be whole numbers that ascend; got \(0, 0\.5, 1\)"),
    ({"depths": (-1, 0, 1)}, r"depths of a gradient flow must be whole numbers that ascend; got \(-1, 0, 1\)"),
    ({"num_examples": 0}, "a gradient flow must be that of at least one example; got 0"),
    ({"num_examples": None}, "a gradient flow must be that of at least one example; got None"),
    ({"direct": (1.0, -1.0, 1.0)}, "norm of the direct gradient at depth 1 must be a finite number >= 0; got -1.0"),
    ({"mediated": (1.0, 1.0, math.inf)}, "norm of the mediated gradient at depth 2 .* got inf"),
]


@pytest.mark.parametrize(("fields", "text"), REFUSED_FIELDS)
def test_refused_records(fields, text):
    with pytest.raises(ProfileError, match=text):
        GradientFlow(**{**FLOW.to_dict(), **fields})


def test_a_refused_history():
    with pytest.raises(ProfileError, match="one flow for each step; got 2 steps, 1 flows"):
        GradientFlowHistory((0, 1), (FLOW,))
    with pytest.raises(ProfileError, match=r"steps of a history must ascend; got \(2, 2\)"):
        GradientFlowHistory((2,), (FLOW,)).with_flow(2, FLOW)


def test_records_save_and_read_as_tables(tmp_path):
    history = GradientFlowHistory().with_flow(0, FLOW).with_flow(5, FLOW)
    for record in (FLOW, history, GradientFlowHistory()):
        record.save(tmp_path / "record.json")
        assert type(record).load(tmp_path / "record.json") == record
    assert FLOW.ratio == (0.25, 0.5, 1.0)
    assert all(text in str(FLOW) for text in ("8 examples", "DG / FG", "0.250"))
    assert [line.split("│")[1:3] for line in str(history).splitlines() if "0.25" in line] == [
        [" 0    ", " 0.25 "],
        [" 5    ", " 0.25 "],
    ]


def test_a_history_of_many_layers_is_readable():
    depths = tuple(range(25))
    flow = GradientFlow(depths, (4.0,) * 25, (1.0,) * 25, (3.5,) * 25, 8)
    assert str(GradientFlowHistory((0,), (flow,))).count(" 0.25 ") == 25


def test_the_lines_of_one_measurement():
    axes = plot_gradient_flow(FLOW)
    assert [tuple(line.get_ydata()) for line in axes.get_lines()] == [FLOW.full, FLOW.direct, FLOW.mediated]
    (line,) = plot_gradient_flow(FLOW, part="ratio").get_lines()
    assert (tuple(line.get_ydata()), line.axes.get_ylabel()) == (FLOW.ratio, "DG / FG")


@pytest.mark.parametrize("part", ["full", "direct", "mediated", "ratio"])
def test_the_heat_map_of_a_history(part):
    short = GradientFlow((0, 1), (2.0, 1.0), (1.0, 0.5), (1.5, 0.5), 8)
    axes = plot_gradient_flow(GradientFlowHistory((0, 10), (FLOW, short)), part=part)
    shown = axes.get_images()[0].get_array().filled(math.nan).T
    expected = [getattr(FLOW, part), (*getattr(short, part), math.nan)]
    np.testing.assert_array_equal(shown, expected)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10"]
    low, high = axes.get_ylim()
    assert low < high, "depth grows upwards"


def test_refused_pictures():
    with pytest.raises(ValueError, match="part must be one of full, direct, mediated, ratio; got 'norm'"):
        plot_gradient_flow(FLOW, part="norm")
    with pytest.raises(ValueError, match="a history must hold at least one measurement; got none"):
        plot_gradient_flow(GradientFlowHistory())
