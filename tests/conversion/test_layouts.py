"""Families that compute what BERT computes under other names become AC-BERTs, exact at scale 1."""

import copy
import inspect
import re

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoTokenizer

from acn_hf import ConversionError, depth_logits, from_residual, measure_depth_profile, truncate
from acn_hf.conversion.convert import acn_class_of
from acn_hf.conversion.layouts import LAYOUTS, POSITIONS, SEGMENTS, layout_of, mapped_classes
from tests.modeling.test_conformance_saving import same_weights, stored_names
from tests.modeling.test_conformance_upstream import tensors
from tests.support.families import BERT_FIELDS, NUM_LAYERS, by_name
from tests.support.reference import NaiveBertModel

ROBERTA_FIELDS = {**BERT_FIELDS, "pad_token_id": 1, "max_position_embeddings": 18, "type_vocab_size": 1}
DISTILBERT_FIELDS = {
    "vocab_size": 40,
    "dim": 16,
    "n_layers": NUM_LAYERS,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 16,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "qa_dropout": 0.0,
    "num_labels": 3,
}
FIELDS = {
    "Camembert": ROBERTA_FIELDS,
    "DistilBert": DISTILBERT_FIELDS,
    "Electra": {**BERT_FIELDS, "embedding_size": 16},
    "Roberta": ROBERTA_FIELDS,
    "XLMRoberta": ROBERTA_FIELDS,
}


def reads_a_pooler_that_is_not_there(name):
    """The oldest transformers builds two classes without what they read, so that none can be run."""
    build = inspect.getsource(getattr(transformers, name).__init__)
    return name.endswith("ForMultipleChoice") and "add_pooling_layer=False" in build


NAMES = [name for name in sorted(mapped_classes()) if not reads_a_pooler_that_is_not_there(name)]
SOURCES = pytest.mark.parametrize("source", ["model", "checkpoint"])
SLOW = ("XLMRoberta", "Camembert")
"""Families that have the layout of RoBERTa; `make test-all` has them."""
each_class = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name.startswith(SLOW) else []) for name in NAMES]
)


def family_of(name):
    return max((family for family in FIELDS if name.startswith(family)), key=len)


def auto_class_for(name):
    """Return the entry of the BERT head to which a class maps."""
    return by_name(f"bert-{name.removeprefix(family_of(name))}")


def config_of(name, **options):
    fields = {**FIELDS[family_of(name)], "num_labels": auto_class_for(name).fields["num_labels"], **options}
    return getattr(transformers, f"{family_of(name)}Config")(**fields)


def original(name, **options):
    """Return a residual model whose weights, those for padding too, are all random."""
    torch.manual_seed(1)
    model = getattr(transformers, name)(config_of(name, **options)).eval()
    for key, parameter in model.named_parameters():
        is_norm = "norm" in key.lower() and key.endswith("weight")
        torch.nn.init.normal_(parameter, mean=1.0 if is_norm else 0.0, std=0.3)
    return model


def inputs_of(name, padded=False, labels=False):
    """Return a batch without segments; of the second text, two tokens on the right may be padding."""
    batch = auto_class_for(name).inputs(labels=labels)
    del batch["token_type_ids"]
    if padded:
        batch["input_ids"][1, ..., -2:] = config_of(name).pad_token_id
        batch["attention_mask"][1, ..., -2:] = 0
    return batch


@pytest.fixture
def converted(tmp_path):
    def convert(model, source, **options):
        if source == "model":
            return from_residual(model, **options)
        model.save_pretrained(tmp_path / "original")
        return from_residual(tmp_path / "original", **options)

    return convert


@SOURCES
@each_class
def test_at_scale_1_it_is_the_residual_model(converted, name, source):
    model, head, inputs = original(name), auto_class_for(name), inputs_of(name, labels=True)
    acn = converted(model, source, residual_scale=1.0)
    assert type(acn) is head.acn
    ours, theirs = acn(**inputs, output_hidden_states=True), model(**inputs, output_hidden_states=True)
    ours, theirs = tensors(ours), tensors(theirs)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert torch.equal(ours[key], expected), key
    loss = "loss.0" if head.has_head else "last_hidden_state.0"
    ours[loss].square().mean().backward()
    theirs[loss].square().mean().backward()
    gradients = {key: parameter.grad for key, parameter in acn.named_parameters(remove_duplicate=False)}
    for key, parameter in model.named_parameters():
        grad, expected = gradients[layout_of(name).rename(key)], parameter.grad
        if expected is None:  # a pooler that the loss does not read
            assert grad is None
            continue
        assert torch.equal(grad, expected[-len(grad) :]), key
        assert not expected[: -len(grad)].any()  # positions of padding, which is not here


@each_class
@torch.no_grad()
def test_padding_on_the_right_changes_nothing_for_the_tokens(name):
    model, inputs = original(name), inputs_of(name, padded=True)
    kept = inputs["attention_mask"].bool()
    ours, theirs = from_residual(model, residual_scale=1.0)(**inputs), model(**inputs)
    for key, expected in theirs.items():
        whole = expected.shape[: kept.dim()] != kept.shape
        assert torch.equal(ours[key] if whole else ours[key][kept], expected if whole else expected[kept]), key


@each_class
@torch.no_grad()
def test_at_other_scales_it_is_an_acn_of_bert(name):
    model, inputs = original(name), inputs_of(name)
    acn = from_residual(model, residual_scale=[1.0, 0.5, 0.0], readout="sum")
    if acn.base_model is acn:
        naive = NaiveBertModel(acn.config, add_pooling_layer=acn.pooler is not None).eval()
        naive.load_state_dict(acn.state_dict())
    else:
        naive = auto_class_for(name).build_naive(acn)
    ours = acn(**inputs)[0]
    expected = naive(**inputs, token_type_ids=torch.zeros_like(inputs["input_ids"]))[0]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, model(**inputs)[0], rtol=1e-3)


@each_class
@torch.no_grad()
def test_the_auto_class_loads_what_was_converted(name, tmp_path):
    acn, inputs = from_residual(original(name)), inputs_of(name)
    acn.save_pretrained(tmp_path)
    assert acn.config.model_type == "acn_bert"
    options = {} if acn.base_model is not acn else {"add_pooling_layer": acn.pooler is not None}
    loaded = getattr(transformers, auto_class_for(name).auto).from_pretrained(tmp_path, **options)
    assert same_weights(loaded, acn)
    assert torch.equal(loaded(**inputs)[0], acn(**inputs)[0])


@each_class
def test_only_fields_of_bert_stay(name):
    model = original(name, id2label={0: "no", 1: "yes"}) if "For" in name else original(name)
    config = from_residual(model).config
    known = set(auto_class_for(name).acn.config_class().to_dict()) | {"architectures", "dtype"}
    assert set(config.to_dict()) <= known
    assert config.num_hidden_layers == NUM_LAYERS
    assert (config.pad_token_id, config.id2label) == (model.config.pad_token_id, model.config.id2label)


@each_class
def test_it_shares_nothing_and_leaves_the_original_as_it_is(name):
    model = original(name)
    weights, config, state = copy.deepcopy(model.state_dict()), model.config.to_dict(), torch.get_rng_state()
    acn = from_residual(model)
    assert torch.equal(torch.get_rng_state(), state)
    own = copy.deepcopy(acn.state_dict())
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert model.config.to_dict() == config
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(own[key], value) for key, value in acn.state_dict().items())


@pytest.mark.parametrize("name", NAMES)  # a tied weight may come first under either of its names
def test_what_is_frozen_stays_frozen(name):
    model = original(name).train()
    model.requires_grad_(False)
    acn = from_residual(model)
    trained = {key for key, parameter in acn.named_parameters() if parameter.requires_grad}
    assert trained == {key for key, _ in acn.named_parameters() if name.startswith("DistilBert") and SEGMENTS in key}
    assert acn.training


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("ForMaskedLM")])
@SOURCES
def test_tied_weights_stay_tied(converted, name, source, tmp_path):
    acn = converted(original(name), source)
    assert acn.get_output_embeddings().weight is acn.get_input_embeddings().weight
    assert acn.get_output_embeddings().bias is acn.cls.predictions.bias
    acn.save_pretrained(tmp_path / "acn")
    assert not any("decoder" in key for key in stored_names(tmp_path / "acn"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_class
@torch.no_grad()
def test_half_precision(name, dtype):
    model, inputs = original(name).to(dtype), inputs_of(name)
    acn = from_residual(model, residual_scale=1.0)
    assert {parameter.dtype for parameter in acn.parameters()} == {dtype}
    assert torch.equal(acn(**inputs)[0], model(**inputs)[0])


@pytest.mark.parametrize("name", [name for name in NAMES if "For" in name])
@torch.no_grad()
def test_it_is_measured_and_cut(name):
    acn, inputs = from_residual(original(name), residual_scale=1.0, readout="sum"), inputs_of(name, labels=True)
    losses = [truncate(acn, depth)(**inputs).loss.item() for depth in range(NUM_LAYERS + 1)]
    assert measure_depth_profile(acn, [inputs], metric="loss").values == pytest.approx(losses, abs=1e-6)
    assert len(depth_logits(acn, **inputs_of(name))) == NUM_LAYERS + 1


def test_positions_of_padding_are_cut_off():
    model = original("RobertaModel")
    acn = from_residual(model)
    assert acn.config.max_position_embeddings == 16
    assert torch.equal(acn.state_dict()[POSITIONS], model.state_dict()[POSITIONS][2:])


def test_segments_that_are_not_there_add_nothing():
    acn = from_residual(original("DistilBertModel"))
    assert not acn.state_dict()[SEGMENTS].any()
    assert acn.config.type_vocab_size == 2


def test_a_new_head_on_a_checkpoint_of_another_family(tmp_path):
    model = original("RobertaForMaskedLM")
    model.save_pretrained(tmp_path)
    acn = from_residual(tmp_path, architecture="RobertaForSequenceClassification", num_labels=5)
    assert type(acn) is by_name("bert-ForSequenceClassification").acn
    assert acn.classifier.out_features == 5
    layers = {key: value for key, value in acn.state_dict().items() if ".encoder." in key}
    assert layers
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key.replace("bert.", "roberta.", 1)]) for key, value in layers.items())


REFUSED = {
    "DistilBertForSequenceClassification": ", whose head uses ReLU where that of BERT uses tanh",
    "DistilBertForMultipleChoice": ", whose head uses ReLU where that of BERT uses tanh",
    "ElectraForSequenceClassification": ", whose head uses GELU where that of BERT uses tanh",
    "ElectraForMultipleChoice": ", whose head uses GELU where that of BERT uses tanh",
    "ElectraForMaskedLM": ", whose head is not that of BERT",
    "ElectraForPreTraining": ", whose head is not that of BERT",
    "RobertaForCausalLM": "",
    "RobertaPreLayerNormModel": "",
    "XLMRobertaXLModel": "",
    "MPNetModel": "",
    "DebertaV2Model": "",
    "Data2VecAudioModel": "",
    "Data2VecTextModel": "",
    "SwinModel": "",
    "BeitModel": "",
    "GPT2Model": "",
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_classes_that_do_not_map_are_refused_by_their_name(name, reason, tmp_path):
    assert name in dir(transformers)
    with pytest.raises(ConversionError, match=rf"^only models whose .*RobertaModel.*; got {name}{reason}$"):
        acn_class_of(name)
    config = transformers.BertConfig(architectures=[name])
    config.save_pretrained(tmp_path)
    with pytest.raises(ConversionError, match=f"; got {name}{reason}$"):
        from_residual(tmp_path)


def test_every_class_of_a_family_maps_or_is_refused_by_name():
    """A head that a later transformers adds to a family shows here."""
    known = {*mapped_classes(), *REFUSED, *(f"{family}PreTrainedModel" for family in FIELDS)}
    decoders = {f"{family}ForCausalLM" for family in FIELDS}
    beginnings = "|".join(LAYOUTS)
    found = {name for name in dir(transformers) if re.fullmatch(rf"({beginnings})(Model|PreTrainedModel|For\w+)", name)}
    assert found - decoders == (known & found) - decoders
    assert set(NAMES) <= found


@SOURCES
def test_embeddings_that_are_projected_are_refused(converted, source):
    text = "embedding_size must be hidden_size, .*; this ElectraModel has 8 and 16$"
    with pytest.raises(ConversionError, match=text):
        converted(original("ElectraModel", embedding_size=8), source)


def test_a_head_whose_activation_is_another_is_refused():
    with pytest.raises(ConversionError, match=r"hidden_act must be 'gelu', .* of RobertaForMaskedLM .*; got 'relu'$"):
        from_residual(original("RobertaForMaskedLM", hidden_act="relu"))
    name = "RobertaForTokenClassification"
    model, inputs = original(name, hidden_act="relu"), inputs_of(name)
    assert torch.equal(from_residual(model, residual_scale=1.0)(**inputs).logits, model(**inputs).logits)


def test_decoders_are_refused():
    with pytest.raises(StrictDataclassError, match="is_decoder and add_cross_attention must be False"):
        from_residual(original("RobertaModel", is_decoder=True))


WORDS = ["the", "cat", "sat", "on", "mat"]


def roberta_tokenizer():
    letters = sorted({letter for word in WORDS for letter in word} | {"Ġ"})
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
    ids = {token: index for index, token in enumerate(vocabulary)}
    return transformers.RobertaTokenizer(vocab=ids, merges=[], model_max_length=16)


def distilbert_tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    ids = {token: index for index, token in enumerate(vocabulary)}
    return transformers.DistilBertTokenizer(vocab=ids, model_max_length=16)


TOKENIZERS = {"Roberta": roberta_tokenizer, "DistilBert": distilbert_tokenizer}


@pytest.mark.parametrize("family", TOKENIZERS)
def test_the_tokenizer_of_the_original_serves_the_converted_model(family, tmp_path):
    model = original(f"{family}ForMaskedLM")
    model.save_pretrained(tmp_path / "original")
    TOKENIZERS[family]().save_pretrained(tmp_path / "original")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "original")
    from_residual(tmp_path / "original").save_pretrained(tmp_path / "acn")
    tokenizer.save_pretrained(tmp_path / "acn")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "acn")
    assert type(loaded) is type(tokenizer)
    texts = ["the cat", "on the mat"]
    batch = loaded(texts, padding=True, return_tensors="pt")
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[key], expected[key]) for key in expected)
    assert loaded.padding_side == "right"
    with torch.no_grad():
        kept = batch["attention_mask"].bool()
        ours = from_residual(model, residual_scale=1.0)(**batch).logits
        assert torch.equal(ours[kept], model(**batch).logits[kept])
