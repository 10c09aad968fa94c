"""An ACN of scale 1 becomes the model of transformers that computes the same, and that is the one it was."""

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from acn_hf import AcnBertConfig, ConversionError, from_residual, prune_width, to_residual, truncate
from acn_hf.conversion.layouts import POSITIONS, SEGMENTS, layout_of
from acn_hf.modeling.configuration_acn import AcnConfig
from acn_hf.modeling.depth import short_connections
from tests.conversion.test_convert import CONVERTED, same_outputs, states_between_layers
from tests.conversion.test_layouts import NAMES, config_of, each_class, inputs_of, original
from tests.modeling.test_conformance_saving import same_weights
from tests.modeling.test_half_precision import on
from tests.support.adapted import any_peft, quiet  # noqa: F401 (a fixture)
from tests.support.families import NUM_LAYERS, by_name, each_head

CLASSIFIER, MASKED_LM = by_name("bert-ForSequenceClassification"), by_name("bert-ForMaskedLM")
OURS = {field.name for field in dataclasses.fields(AcnConfig)} - {
    field.name for field in dataclasses.fields(transformers.PreTrainedConfig)
}
OURS = (OURS | {"pooling", "original_model_type", "auto_map", "experts_implementation"}) - {"num_hidden_layers"}
READER = Path(__file__).parents[1] / "support" / "plain_reader.py"


def without_padding_rows(model):
    """Return the weights of a model, without the rows of RoBERTa's positions that no token has."""
    first = model.config.pad_token_id + 1 if layout_of(type(model).__name__).padding_side else 0
    return {name: weight[first:] if name.endswith(POSITIONS) else weight for name, weight in model.state_dict().items()}


# --- the models that compute the same


@each_head(CONVERTED)
def test_it_is_upstreams_model(build, head):
    acn, inputs = build(head, residual_scale=1.0), head.inputs(labels=True)
    model = to_residual(acn)
    assert type(model) is head.upstream
    assert type(model.config) is head.upstream.config_class
    ours, theirs = model(**inputs), acn(**inputs)
    assert same_outputs(ours, theirs)
    head.loss(ours).backward()
    head.loss(theirs).backward()
    gradients = {name: parameter.grad for name, parameter in acn.named_parameters()}
    assert gradients.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in model.named_parameters())


@each_head(CONVERTED)
@torch.no_grad()
def test_its_stream_holds_the_depth_states(build, head):
    acn, inputs = build(head, residual_scale=1.0), head.inputs()
    states = acn(**inputs, output_hidden_states=True).hidden_states
    expected = states_between_layers(to_residual(acn), head.acn.layers_name, inputs)
    assert len(states) == len(expected) == NUM_LAYERS + 1
    assert all(torch.equal(*pair) for pair in zip(states, expected, strict=True))


@each_head(CONVERTED)
def test_the_way_there_and_back_changes_nothing(build, head):
    model = head.build_upstream(build(head, residual_scale=1.0))
    again = to_residual(from_residual(model, residual_scale=1.0))
    assert type(again) is type(model)
    assert same_weights(again, model)
    assert again.config.to_dict() == model.config.to_dict()


@each_class
@torch.no_grad()
def test_the_way_there_and_back_ends_in_the_family_where_it_began(name):
    model, inputs = original(name), inputs_of(name, padded=True)
    again = to_residual(from_residual(model, residual_scale=1.0))
    assert type(again) is type(model)
    theirs, ours = without_padding_rows(model), without_padding_rows(again)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    kept = inputs["attention_mask"].bool()
    for key, expected in model(**inputs).items():
        whole = expected.shape[: kept.dim()] != kept.shape
        assert torch.equal(*(out if whole else out[kept] for out in (again(**inputs)[key], expected))), key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_other_families_are_theirs(name):
    model, inputs = original(name), inputs_of(name, labels=True)
    again = to_residual(from_residual(model, residual_scale=1.0))
    for each in (model, again):
        output = each(**inputs)
        (output["loss"] if "loss" in output else output[0].square().mean()).backward()
    expected = {key: parameter.grad for key, parameter in model.named_parameters()}
    for key, parameter in again.named_parameters():
        same_nothing = parameter.grad is None and expected[key] is None
        assert same_nothing or torch.equal(parameter.grad, expected[key]), key


DROPPED = {"qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds"}
"""Fields of DistilBERT that BERT does not have: the dropout of two heads in training, and how weights begin."""
HEADS_OF_ELECTRA = {"summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"}
"""Fields of heads that do not map."""
RENAMED = {"activation", "attention_dropout", "dim", "dropout", "embedding_size", "hidden_dim", "n_heads", "n_layers"}
"""Fields that have another name in BERT."""


@each_class
def test_all_fields_come_back_that_compute(name):
    model = original(name, initializer_range=0.3, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    before, after = model.config.to_dict(), to_residual(from_residual(model, residual_scale=1.0)).config.to_dict()
    assert {field for field in before if before[field] != after.get(field)} <= DROPPED
    fields, of_bert = (
        {field.name for field in dataclasses.fields(kind)} for kind in (type(model.config), AcnBertConfig)
    )
    assert fields - of_bert <= RENAMED | DROPPED | HEADS_OF_ELECTRA


@each_head(CONVERTED)
def test_its_config_holds_nothing_of_ours(build, head, tmp_path):
    model = to_residual(build(head, residual_scale=1.0, learn_residual_scale=True))
    assert not OURS & set(model.config.to_dict())
    model.save_pretrained(tmp_path)
    assert not OURS & set(json.loads((tmp_path / "config.json").read_text()))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.slow
def test_another_process_reads_it_without_acn_hf(build, tmp_path):
    models = {head.name: (to_residual(build(head, residual_scale=1.0)), head.inputs(), head) for head in CONVERTED}
    roberta = to_residual(from_residual(original("RobertaForMaskedLM"), residual_scale=1.0))
    models["roberta"] = (roberta, inputs_of("RobertaForMaskedLM"), MASKED_LM)
    jobs = []
    for name, (model, inputs, head) in models.items():
        model.save_pretrained(tmp_path / name)
        job = {"name": name, "folder": str(tmp_path / name), "reader": head.auto, "inputs": inputs}
        jobs.append(job | ({"reader": type(model).__name__} if name.endswith("WithTeacher") else {}))
    torch.save(jobs, tmp_path / "jobs.pt")
    command = [sys.executable, str(READER), str(tmp_path / "jobs.pt"), str(tmp_path / "answers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told, outputs = json.loads((tmp_path / "answers.json").read_text()), load_file(tmp_path / "answers.safetensors")
    for name, (model, inputs, _) in models.items():
        assert told[name]["class"] == type(model).__name__
        assert told[name]["not in order"] == {}
        with torch.no_grad():
            assert torch.equal(outputs[name], model(**inputs)[0]), name


# --- what it keeps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@each_head(CONVERTED)
@torch.no_grad()
def test_it_keeps_the_dtype(build, head, dtype):
    acn, inputs = build(head, residual_scale=1.0).to(dtype), on("cpu", dtype, head.inputs())
    model = to_residual(acn)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert same_outputs(model(**inputs), acn(**inputs))


@pytest.mark.parametrize("training", [False, True])
@each_head(CONVERTED)
def test_it_keeps_the_mode_and_what_is_frozen(build, head, training):
    acn = build(head, residual_scale=1.0).train(training)
    acn.base_model.embeddings.requires_grad_(False)
    model = to_residual(acn)
    assert {module.training for module in model.modules()} == {training}
    trained = {name: parameter.requires_grad for name, parameter in acn.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == trained
    assert set(trained.values()) == {False, True}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_stays_frozen_in_other_families(name):
    model = original(name)
    model.requires_grad_(False)
    again = to_residual(from_residual(model, residual_scale=1.0))
    assert not any(parameter.requires_grad for parameter in again.parameters())


@each_head(CONVERTED)
def test_it_shares_nothing_and_leaves_the_acn_as_it_is(build, head):
    acn = build(head, residual_scale=1.0)
    weights, config, state = copy.deepcopy(acn.state_dict()), acn.config.to_dict(), torch.get_rng_state()
    model = to_residual(acn)
    assert torch.equal(torch.get_rng_state(), state)
    own = copy.deepcopy(model.state_dict())
    assert all(torch.equal(weights[name], value) for name, value in acn.state_dict().items())
    assert acn.config.to_dict() == config
    with torch.no_grad():
        for parameter in acn.parameters():
            parameter.add_(1)
    acn.config.id2label[0] = "changed"
    assert all(torch.equal(own[name], value) for name, value in model.state_dict().items())
    assert "changed" not in model.config.id2label.values()
    assert {id(module.config) for module in model.modules() if hasattr(module, "config")} == {id(model.config)}


@each_head([MASKED_LM, by_name("bert-ForPreTraining")])
def test_tied_weights_stay_tied(build, head):
    model = to_residual(build(head, residual_scale=1.0))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("ForMaskedLM")])
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_the_words_of_other_families(name, tied):
    model = original(name, tie_word_embeddings=tied)
    acn = from_residual(model, residual_scale=1.0)
    acn.get_output_embeddings().bias.normal_()  # as training moves it
    again = to_residual(acn)
    assert (again.get_output_embeddings().weight is again.get_input_embeddings().weight) is tied
    assert torch.equal(again(**inputs_of(name)).logits, acn(**inputs_of(name)).logits)


def test_it_keeps_the_attention_and_the_device(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.set_attn_implementation("eager")
    assert to_residual(acn).config._attn_implementation == "eager"
    assert {weight.device.type for weight in to_residual(acn.to("meta")).parameters()} == {"meta"}


@pytest.mark.parametrize("options", [{"add_pooling_layer": False}, {"use_mask_token": True}])
def test_models_without_head_keep_their_parts(options):
    head = by_name("vit-Model")
    acn = head.acn(head.config(residual_scale=1.0), **options).eval()
    assert to_residual(acn).state_dict().keys() == acn.state_dict().keys()
    assert same_outputs(to_residual(acn)(**head.inputs()), acn(**head.inputs()))


@pytest.mark.parametrize("wrap", [lambda model: torch.compile(model, backend="eager"), nn.DataParallel])
def test_a_wrapped_model_is_converted(build, wrap):
    acn = build(CLASSIFIER, residual_scale=1.0)
    assert same_weights(to_residual(wrap(acn)), to_residual(acn))


@torch.no_grad()
def test_a_model_that_was_cut_and_made_narrower(build):
    acn, inputs = prune_width(truncate(build(CLASSIFIER, residual_scale=[1.0] * NUM_LAYERS), 2), 8), CLASSIFIER.inputs()
    model = to_residual(acn)
    assert (model.config.num_hidden_layers, model.config.intermediate_size) == (2, 8)
    assert same_outputs(model(**inputs), acn(**inputs))


@pytest.mark.parametrize("readout", ["auto", "sum"])
@each_head([CLASSIFIER, by_name("vit-ForImageClassification")])
@torch.no_grad()
def test_without_layers_every_acn_is_upstreams_model(build, head, readout):
    acn, inputs = truncate(build(head, residual_scale=0.0, readout=readout), 0), head.inputs()
    assert same_outputs(to_residual(acn)(**inputs), acn(**inputs))


@each_head([head for head in CONVERTED if head.name in ("bert-ForMaskedLM", "vit-ForImageClassification")])
@torch.no_grad()
def test_learned_scales_that_are_1(build, head):
    acn, inputs = build(head, residual_scale=1.0, learn_residual_scale=True).double(), head.inputs()
    inputs = on("cpu", torch.float64, inputs)
    torch.testing.assert_close(to_residual(acn)(**inputs).logits, acn(**inputs).logits, rtol=1e-10, atol=1e-10)
    short_connections(acn)[1].residual_scale.fill_(0.99)
    with pytest.raises(ConversionError, match=r"must be 1 in every layer, .*; in layer 2 of this \w+ it is 0.99$"):
        to_residual(acn)


# --- which class it is


@pytest.mark.parametrize("name", [name for name in NAMES if "For" in name])
@torch.no_grad()
def test_the_class_may_be_named(name):
    """As of checkpoints that were converted before their configs said the family."""
    acn = from_residual(original(name), residual_scale=1.0)
    acn.config.original_model_type = None
    bert = f"Bert{name[name.index('For') :]}"
    assert type(to_residual(acn)).__name__ == bert
    assert type(to_residual(acn, architecture=name)).__name__ == name
    acn.config.original_model_type = config_of(name).model_type
    assert type(to_residual(acn, architecture=bert)).__name__ == bert
    assert torch.equal(to_residual(acn, architecture=bert)(**inputs_of(name))[0], acn(**inputs_of(name))[0])


def test_the_family_travels_with_the_checkpoint(tmp_path):
    from_residual(original("RobertaForMaskedLM"), residual_scale=1.0).save_pretrained(tmp_path)
    acn = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert (acn.config.original_model_type, type(to_residual(acn)).__name__) == ("roberta", "RobertaForMaskedLM")
    other_head = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path)
    assert type(to_residual(other_head)).__name__ == "RobertaForTokenClassification"
    bert = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1, hidden_size=12))
    assert from_residual(bert).config.original_model_type is None


@torch.no_grad()
def test_segments_that_a_distilbert_learned_are_in_its_positions():
    name = "DistilBertForMaskedLM"
    acn, inputs = from_residual(original(name), residual_scale=1.0).double(), inputs_of(name)
    acn.get_parameter(f"bert.{SEGMENTS}").normal_()
    torch.testing.assert_close(to_residual(acn)(**inputs).logits, acn(**inputs).logits, rtol=1e-10, atol=1e-10)


def test_rows_for_padding_come_back_as_zeros():
    again = to_residual(from_residual(original("RobertaModel"), residual_scale=1.0))
    table = again.embeddings.position_embeddings.weight
    assert table.shape[0] == again.config.max_position_embeddings == 18
    assert not table[:2].any()
    assert table[2:].any(dim=1).all()
