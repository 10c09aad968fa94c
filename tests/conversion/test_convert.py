"""A residual model becomes the ACN with its weights: the same model at scale 1, the naive reference at scale 0."""

import copy

import pytest
import torch
import transformers
from torch import nn

from acn_hf import ConversionError, from_residual, measure_depth_profile, truncate
from acn_hf.conversion.convert import OWN_FIELDS
from acn_hf.modeling.depth import short_connections
from tests.modeling.test_conformance_reference import doubled
from tests.modeling.test_conformance_saving import same_weights, stored_names
from tests.modeling.test_conformance_upstream import tensors
from tests.modeling.test_half_precision import on
from tests.support.families import HEADS, NUM_LAYERS, TRAINED, by_name, each_head, heads_in_turn

CONVERTED = [head for head in HEADS if head.upstream.__module__.startswith("transformers.")]
"""All but the class of the tests that pools tokens as upstream does not."""

CLASSIFIER, MASKED_LM = by_name("bert-ForSequenceClassification"), by_name("bert-ForMaskedLM")
SOURCES = pytest.mark.parametrize("source", ["model", "checkpoint"])


@pytest.fixture
def original(build):
    """Return a function `head -> residual model` of random weights."""
    return lambda head: head.build_upstream(build(head, residual_scale=1.0))


@pytest.fixture
def converted(tmp_path):
    """Return a function that converts a residual model as it is, or from the folder that upstream saves it in."""

    def convert(model, source, **options):
        if source == "model":
            return from_residual(model, **options)
        model.save_pretrained(tmp_path / "original")
        return from_residual(tmp_path / "original", **options).train(model.training)

    return convert


def same_outputs(one, other) -> bool:
    one, other = tensors(one), tensors(other)
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def states_between_layers(model, layers_name, inputs):
    """Return what the layers of a residual model read and return, `L + 1` tensors."""
    states = []
    layers = model.base_model.get_submodule(layers_name)
    layers[0].register_forward_pre_hook(lambda module, args: states.append(args[0]))
    for layer in layers:
        layer.register_forward_hook(lambda module, args, output: states.append(output))
    model(**inputs)
    return states


@SOURCES
@each_head(CONVERTED)
def test_at_scale_1_it_is_the_residual_model(original, converted, head, source):
    model, inputs = original(head), head.inputs(labels=True)
    acn = converted(model, source, residual_scale=1.0)
    assert type(acn) is head.acn
    assert acn.config.residual_scale == 1.0
    ours, theirs = acn(**inputs), model(**inputs)
    assert same_outputs(ours, theirs)
    head.loss(ours).backward()
    head.loss(theirs).backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert expected.keys() == dict(acn.named_parameters()).keys()
    for name, parameter in acn.named_parameters():
        assert torch.equal(parameter.grad, expected[name]), name


@SOURCES
@each_head(CONVERTED)
@torch.no_grad()
def test_at_scale_1_the_depth_states_are_the_residual_stream(original, converted, head, source):
    model, inputs = original(head), head.inputs()
    states = converted(model, source, residual_scale=1.0)(**inputs, output_hidden_states=True).hidden_states
    expected = states_between_layers(model, head.acn.layers_name, inputs)
    assert len(states) == len(expected) == NUM_LAYERS + 1
    assert all(torch.equal(*pair) for pair in zip(states, expected, strict=True))


CONNECTIONS = {
    "acn": {},
    "attention": {"attention_residual": True},
    "no attention": {"attention_residual": False},
    "upper layers": {"residual_scale": [1.0, 1.0, 0.0]},
    "half": {"residual_scale": 0.5},
    "sum": {"residual_scale": 1.0, "readout": "sum"},
    "learned": {"residual_scale": [1.0, 0.5, 0.0], "learn_residual_scale": True},
}


@heads_in_turn(CONVERTED, options=CONNECTIONS)
@torch.no_grad()
def test_other_connections_are_the_naive_loop_with_these_weights(original, head, options):
    """In float64, whose rounding leaves 1e-10 to none but a wrong term; see `test_conformance_reference.py`."""
    model = original(head).double()
    model.set_attn_implementation("eager")
    acn = from_residual(model, **options)
    inputs = doubled(head.inputs())
    fixed = copy.deepcopy(acn)
    for short in short_connections(fixed):
        short.residual_scale = None  # the naive loop reads the config
    naive = head.build_naive(fixed)
    naive.load_state_dict(model.state_dict())
    ours, expected = acn(**inputs)[0], naive(**inputs)[0]
    assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    assert not torch.allclose(ours, model(**inputs)[0], rtol=1e-3)


@each_head(CONVERTED)
def test_the_options_are_in_the_config(original, head):
    options = {"residual_scale": [1.0, 0.5, 0.0], "attention_residual": True, "readout": "sum"}
    acn = from_residual(original(head), **options, learn_residual_scale=True)
    assert {name: getattr(acn.config, name) for name in options} == options
    scales = [short.residual_scale for short in short_connections(acn)]
    assert [scale.item() for scale in scales] == options["residual_scale"]
    assert all(scale.requires_grad for scale in scales)


@each_head(CONVERTED)
def test_by_default_it_is_the_acn_of_its_family(original, head):
    model = original(head)
    acn, default = from_residual(model), head.acn.config_class()
    kept = {name: value for name, value in model.config.to_dict().items() if name not in OWN_FIELDS}
    assert {name: getattr(acn.config, name) for name in kept} == kept
    for name in ("model_type", "residual_scale", "attention_residual", "readout", "learn_residual_scale"):
        assert getattr(acn.config, name) == getattr(default, name)


@heads_in_turn(CONVERTED, dtype=[torch.bfloat16, torch.float16, torch.float64])
@torch.no_grad()
def test_it_keeps_the_dtype(original, head, dtype, tmp_path):
    model = original(head).to(dtype)
    model.save_pretrained(tmp_path)
    inputs = on("cpu", dtype, head.inputs(labels=True))
    for acn in (from_residual(model, residual_scale=1.0), from_residual(tmp_path, residual_scale=1.0, dtype=dtype)):
        assert acn.dtype == acn.config.dtype == dtype
        assert {parameter.dtype for parameter in acn.parameters()} == {dtype}
        assert same_outputs(acn(**inputs), model(**inputs))


@each_head(CONVERTED)
@torch.no_grad()
def test_it_keeps_the_attention(original, head):
    model, inputs = original(head), head.inputs()
    model.set_attn_implementation("eager")
    acn = from_residual(model, residual_scale=1.0)
    assert acn.config._attn_implementation == "eager"
    assert same_outputs(acn(**inputs, output_attentions=True), model(**inputs, output_attentions=True))


def test_it_keeps_the_device(original):
    acn = from_residual(original(CLASSIFIER).to("meta"), learn_residual_scale=True)
    assert {value.device.type for value in (*acn.parameters(), *acn.buffers())} == {"meta"}


@pytest.mark.parametrize("training", [False, True])
@each_head(CONVERTED)
def test_it_keeps_the_mode_and_what_is_frozen(original, head, training):
    model = original(head).train(training)
    model.base_model.embeddings.requires_grad_(False)
    acn = from_residual(model)
    assert {module.training for module in acn.modules()} == {training}
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in acn.named_parameters()} == trained
    assert set(trained.values()) == {False, True}


@each_head(CONVERTED)
def test_a_checkpoint_is_read_in_eval_mode(original, head, tmp_path):
    original(head).save_pretrained(tmp_path)
    acn = from_residual(tmp_path)
    assert not any(module.training for module in acn.modules())
    assert all(parameter.requires_grad for parameter in acn.parameters())


@each_head(CONVERTED)
def test_it_shares_nothing_with_the_original(original, head):
    model = original(head)
    acn = from_residual(model)
    weights = copy.deepcopy(acn.state_dict())
    config = acn.config.to_dict()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.config.id2label[0] = "changed"
    assert all(torch.equal(weights[name], value) for name, value in acn.state_dict().items())
    assert acn.config.to_dict() == config
    assert {id(module.config) for module in acn.modules() if hasattr(module, "config")} == {id(acn.config)}


@each_head(CONVERTED)
def test_the_original_stays_as_it_is(original, head):
    model = original(head)
    weights, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    modes = [module.training for module in model.modules()]
    from_residual(model, residual_scale=0.5, learn_residual_scale=True)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert model.config.to_dict() == config
    assert [module.training for module in model.modules()] == modes


@SOURCES
@each_head(CONVERTED)
def test_no_random_number_is_drawn(original, converted, head, source):
    model = original(head)
    before = torch.get_rng_state()
    converted(model, source, learn_residual_scale=True)
    assert torch.equal(torch.get_rng_state(), before)


@SOURCES
@each_head([MASKED_LM, by_name("bert-ForPreTraining")])
def test_tied_weights_stay_tied_and_are_stored_once(original, converted, head, source, tmp_path):
    acn = converted(original(head), source)
    assert acn.get_output_embeddings().weight is acn.get_input_embeddings().weight
    acn.save_pretrained(tmp_path / "acn")
    assert not any("decoder.weight" in name for name in stored_names(tmp_path / "acn"))
    assert same_weights(acn, head.acn.from_pretrained(tmp_path / "acn"))


@SOURCES
def test_weights_that_are_not_tied_stay_apart(converted, source):
    config = transformers.BertConfig(**MASKED_LM.fields, tie_word_embeddings=False)
    model = transformers.BertForMaskedLM(config).eval()
    acn = converted(model, source, residual_scale=1.0)
    assert acn.get_output_embeddings().weight is not acn.get_input_embeddings().weight
    assert same_outputs(acn(**MASKED_LM.inputs()), model(**MASKED_LM.inputs()))


BASE_OPTIONS = {
    "bert-Model": [{"add_pooling_layer": False}],
    "vit-Model": [{"add_pooling_layer": False}, {"use_mask_token": True}],
}


@SOURCES
@pytest.mark.parametrize(("name", "options"), [(name, each) for name, all_ in BASE_OPTIONS.items() for each in all_])
def test_base_models_with_and_without_parts(converted, source, name, options, tmp_path):
    head = by_name(name)
    model = head.upstream(head.upstream.config_class(**head.fields), **options).eval()
    acn = converted(model, source, residual_scale=1.0, **(options if source == "checkpoint" else {}))
    assert acn.state_dict().keys() == model.state_dict().keys()
    inputs = head.inputs()
    if "use_mask_token" in options:
        nn.init.ones_(model.embeddings.mask_token)
        nn.init.ones_(acn.embeddings.mask_token)
        inputs["bool_masked_pos"] = torch.tensor([[True, False, False, True]] * 2)
    assert same_outputs(acn(**inputs), model(**inputs))


@SOURCES
@each_head(CONVERTED)
@torch.no_grad()
def test_auto_classes_load_what_was_converted(original, converted, head, source, tmp_path):
    acn, inputs = converted(original(head), source, residual_scale=[1.0, 0.5, 0.0]), head.inputs(labels=True)
    acn.save_pretrained(tmp_path / "acn")
    loaded = getattr(transformers, head.auto).from_pretrained(tmp_path / "acn")
    assert type(loaded) is head.acn
    assert loaded.config.name_or_path == str(tmp_path / "acn")
    assert same_outputs(loaded(**inputs), acn(**inputs))


@each_head([head for head in TRAINED if head in CONVERTED])
@torch.no_grad()
def test_what_was_converted_is_measured_and_cut(original, head):
    acn, inputs = from_residual(original(head), residual_scale=1.0, readout="sum"), head.inputs(labels=True)
    losses = [truncate(acn, depth)(**inputs)["loss"].item() for depth in range(NUM_LAYERS + 1)]
    assert measure_depth_profile(acn, [inputs], metric="loss").values == pytest.approx(losses, abs=1e-6)
    assert truncate(acn, 1).config.original_num_hidden_layers == NUM_LAYERS


@pytest.mark.parametrize("wrap", [lambda model: torch.compile(model, backend="eager"), nn.DataParallel])
def test_a_wrapped_model_is_converted(original, wrap):
    model = original(CLASSIFIER)
    assert same_weights(from_residual(wrap(model)), from_residual(model))


def test_a_new_head_on_a_checkpoint(original, tmp_path):
    model = original(MASKED_LM)
    model.save_pretrained(tmp_path)
    acn = from_residual(tmp_path, architecture="BertForSequenceClassification", num_labels=5)
    assert type(acn) is CLASSIFIER.acn
    assert acn.classifier.out_features == 5
    kept = model.bert.state_dict()
    assert all(torch.equal(acn.bert.state_dict()[name], kept[name]) for name in kept)


def test_a_checkpoint_in_a_subfolder(original, tmp_path):
    model = original(CLASSIFIER)
    model.save_pretrained(tmp_path / "best")
    assert same_weights(from_residual(tmp_path, subfolder="best"), from_residual(model))


def test_the_same_head_for_other_classes(original, tmp_path):
    original(CLASSIFIER).save_pretrained(tmp_path)
    acn = from_residual(tmp_path, num_labels=2, ignore_mismatched_sizes=True)
    assert acn.classifier.out_features == acn.config.num_labels == 2


def test_fewer_layers_of_a_checkpoint(original, tmp_path):
    model = original(CLASSIFIER)
    model.save_pretrained(tmp_path)
    short = from_residual(tmp_path, num_hidden_layers=2)
    assert same_weights(short, truncate(from_residual(model), 2))


@each_head([by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")])
def test_learned_scales_have_the_dtype_of_the_weights(build, head):
    original = head.build_upstream(build(head)).to(torch.bfloat16)
    acn = from_residual(original, residual_scale=0.5, learn_residual_scale=True)
    assert {weight.dtype for weight in acn.parameters()} == {torch.bfloat16}
    assert acn(**head.inputs())[0].dtype == torch.bfloat16


@each_head([CLASSIFIER, by_name("vit-ForImageClassification"), by_name("deit-ForImageClassification")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(original, converted, head, value):
    model = original(head)
    name, weight = list(model.named_parameters())[-1]
    weight.data[0] = value
    with pytest.raises(ConversionError, match=f"^weights must be finite numbers; {name} holds nan or infinity$"):
        converted(model, "checkpoint")
