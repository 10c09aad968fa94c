"""What cannot be converted: the type of its error, the rule that it breaks and the value that broke it."""

import json
import re
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from torch import nn

import acn_hf
from acn_hf import ConversionError, from_residual
from acn_hf.conversion.convert import acn_class_of
from tests.support.adapted import any_peft, quiet  # noqa: F401 (a fixture)
from tests.support.families import BERT_FIELDS, by_name

CLASSIFIER, MASKED_LM, BASE = (
    by_name(f"bert-{name}") for name in ("ForSequenceClassification", "ForMaskedLM", "Model")
)


def residual(head, **options):
    return head.upstream(head.upstream.config_class(**head.fields, **options)).eval()


@pytest.fixture
def checkpoint(tmp_path):
    """Return a function that saves a residual model, with another config or other weights, and returns the folder."""

    def save(model, edit_config=None, edit_weights=None):
        model.save_pretrained(tmp_path / "checkpoint")
        if edit_config is not None:
            path = tmp_path / "checkpoint" / "config.json"
            config = json.loads(path.read_text())
            edit_config(config)
            path.write_text(json.dumps(config))
        if edit_weights is not None:
            path = tmp_path / "checkpoint" / "model.safetensors"
            save_file(edit_weights(load_file(path)), path, metadata={"format": "pt"})
        return tmp_path / "checkpoint"

    return save


def refused(error, text, *args, **options):
    """Check that a conversion raises an error with this text, which may be left open by `...` at either end."""
    begin, end = "" if text.startswith("...") else "^", "" if text.endswith("...") else "$"
    with pytest.raises(error, match=begin + re.escape(text.removeprefix("...").removesuffix("...")) + end):
        from_residual(*args, **options)


def test_a_conversion_error_is_a_value_error():
    assert issubclass(ConversionError, ValueError)


OTHERS = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=1, n_embd=8, n_head=1, vocab_size=10, bos_token_id=None, eos_token_id=None, pad_token_id=None
        )
    ),
    "bert-decoder": lambda: transformers.BertLMHeadModel(transformers.BertConfig(**BERT_FIELDS, is_decoder=True)),
    "roberta-prelayernorm": lambda: transformers.RobertaPreLayerNormModel(
        transformers.RobertaPreLayerNormConfig(**BERT_FIELDS)
    ),
    "beit": lambda: transformers.BeitModel(
        transformers.BeitConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ),
}


@pytest.mark.parametrize("source", ["model", "checkpoint"])
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_architectures(checkpoint, make, source):
    model = make()
    given = model if source == "model" else checkpoint(model)
    text = r"^only models whose weights are those of an ACN can be converted \(.*\); got "
    with pytest.raises(ConversionError, match=f"{text}{type(model).__name__}$") as error:
        from_residual(given)
    accepted = re.search(r"\((.*)\)", str(error.value))[1].split(", ")
    assert accepted == sorted(accepted)
    assert {"BertForMaskedLM", "ViTModel"} <= set(accepted)
    assert all(issubclass(acn_class_of(name), transformers.PreTrainedModel) for name in accepted)
    assert all(hasattr(transformers, name) for name in accepted)


@pytest.mark.parametrize("name", ["GPT2Model", "Nonsense"])
def test_the_architecture_must_be_one_that_maps(checkpoint, name):
    refused(ConversionError, f"...; got {name}", checkpoint(residual(BASE)), architecture=name)


def test_a_class_of_someone_else():
    class OwnModel(transformers.BertModel):
        pass

    refused(ConversionError, "...; got OwnModel", OwnModel(transformers.BertConfig(**BERT_FIELDS)))


def test_an_acn_is_one_already(build, tmp_path):
    model = build(CLASSIFIER)
    text = (
        "a residual model is converted, and AcnBertForSequenceClassification is an ACN already; its "
        "config.residual_scale may be set as it is"
    )
    refused(TypeError, text, model)
    model.save_pretrained(tmp_path)
    text = (
        f"a residual checkpoint is converted, and {tmp_path} holds an ACN already, an "
        "AcnBertForSequenceClassification; its from_pretrained takes residual_scale"
    )
    refused(TypeError, text, tmp_path)
    for name in ("AcnBertForSequenceClassification", "BertForSequenceClassification", "BertModel"):
        refused(TypeError, text, tmp_path, architecture=name)


@pytest.mark.parametrize(
    "thing",
    [nn.Linear(1, 1), None, 3, transformers.BertConfig(), transformers.BertModel],
    ids=["module", "nothing", "number", "config", "class"],
)
def test_no_model_at_all(thing):
    refused(TypeError, f"a model of transformers or a path must be given; got {type(thing).__name__}", thing)


@quiet
def test_a_peft_model():
    model = peft.get_peft_model(residual(CLASSIFIER), peft.LoraConfig(target_modules=["query"]))
    refused(TypeError, "...; got PeftModel: merge its adapters, merge_and_unload()", model)
    assert isinstance(from_residual(model.merge_and_unload()), CLASSIFIER.acn)


@quiet
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.usefixtures("any_peft")
def test_adapters_inside():
    model = residual(CLASSIFIER)
    for name in ("mine", "yours"):
        model.add_adapter(peft.LoraConfig(target_modules=["query"]), adapter_name=name)
    text = "adapters must be merged before a conversion; BertForSequenceClassification holds mine, yours"
    refused(ConversionError, text, model)


def test_quantised_weights():
    model = residual(CLASSIFIER)
    model.hf_quantizer = SimpleNamespace()
    text = "weights must be plain numbers; those of this BertForSequenceClassification are quantised"
    refused(ConversionError, text, model)


def test_parameters_that_someone_added():
    model = residual(CLASSIFIER)
    model.one, model.other = nn.Linear(1, 1), nn.Linear(1, 1)
    text = (
        "the weights of BertForSequenceClassification do not map to AcnBertForSequenceClassification: "
        "['one.weight', 'one.bias', 'other.weight']"
    )
    refused(ConversionError, text, model)


@pytest.mark.parametrize("wanted", [2, 4])
def test_layers_and_config_that_disagree(wanted):
    model = residual(CLASSIFIER)
    model.config.num_hidden_layers = wanted
    refused(ConversionError, f"the model holds 3 layers and its config says {wanted}", model)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"num_labels": 3}, "num_labels"),
        ({"architecture": "BertModel"}, "architecture"),
        ({"architecture": "BertModel", "dtype": torch.float16}, "architecture, dtype"),
    ],
)
def test_options_beside_a_model(given, named):
    refused(TypeError, f"a model is taken as it is, so only a path takes {named}", residual(CLASSIFIER), **given)


FIELDS = {
    "above": ({"residual_scale": 1.5}, "...residual_scale must lie in [0, 1]; got 1.5"),
    "below": ({"residual_scale": [1.0, -0.5, 0.0]}, "...residual_scale must lie in [0, 1]; got -0.5"),
    "short": (
        {"residual_scale": [1.0, 0.0]},
        "...residual_scale must hold one number for each of the 3 layers; got 2: [1.0, 0.0]",
    ),
    "text": ({"residual_scale": "half"}, "...'half'..."),
    "readout": ({"readout": "mean"}, "...expected one of ('auto', 'sum'), got mean"),
}


@pytest.mark.parametrize(("options", "text"), FIELDS.values(), ids=FIELDS)
def test_fields_out_of_range(checkpoint, options, text):
    model = residual(CLASSIFIER)
    refused(StrictDataclassError, text, model, **options)
    refused(StrictDataclassError, text, checkpoint(model), **options)


def test_pooling_where_there_is_no_choice():
    text = "pooling is for classes that have the choice; got 'mean' for AcnDeiTForImageClassification"
    refused(ConversionError, text, residual(by_name("deit-ForImageClassification")), pooling="mean")


def test_decoders(checkpoint):
    text = "...is_decoder and add_cross_attention must be False; got is_decoder=True..."
    refused(StrictDataclassError, text, checkpoint(residual(BASE, is_decoder=True)))
    refused(StrictDataclassError, text, residual(BASE, is_decoder=True))


LACKING = "{} must hold every weight of {}; it lacks {}, which would stay random: "


def test_a_checkpoint_without_some_of_its_layers(checkpoint):
    model = residual(MASKED_LM)
    folder = checkpoint(model, edit_weights=lambda w: {k: v for k, v in w.items() if ".layer.2." not in k})
    refused(ConversionError, LACKING.format(folder, "BertForMaskedLM", 16) + "bert.encoder.layer.2....", folder)
    new_head = "BertForTokenClassification"
    text = LACKING.format(folder, new_head, 16) + "bert.encoder.layer.2...."
    refused(ConversionError, text, folder, architecture=new_head)
    assert from_residual(folder, num_hidden_layers=2).config.num_hidden_layers == 2


@pytest.mark.parametrize("head", [CLASSIFIER, BASE], ids=["head", "base model"])
@pytest.mark.parametrize(("count", "listed"), [(1, "{}"), (3, "{}, {}, {}"), (4, "{}, {}, {}, ...")])
def test_three_of_the_weights_that_a_checkpoint_lacks_are_listed(checkpoint, head, count, listed):
    model = residual(head)
    lacking = sorted(model.state_dict())[:count]
    folder = checkpoint(model, None, lambda w: {k: v for k, v in w.items() if k not in lacking})
    with pytest.raises(ConversionError) as error:
        from_residual(folder)
    assert str(error.value) == LACKING.format(folder, type(model).__name__, count) + listed.format(*lacking)


def test_a_checkpoint_whose_config_asks_for_more_layers(checkpoint):
    folder = checkpoint(residual(by_name("vit-Model")), lambda config: config.update(num_hidden_layers=5))
    refused(ConversionError, LACKING.format(folder, "ViTModel", 32) + "layers.3....", folder)


def test_a_checkpoint_without_its_head(checkpoint):
    folder = checkpoint(residual(CLASSIFIER), None, lambda w: {k: v for k, v in w.items() if "classifier" not in k})
    text = LACKING.format(folder, "BertForSequenceClassification", 2) + "classifier.bias, classifier.weight"
    refused(ConversionError, text, folder)
    acn = from_residual(folder, architecture="BertForSequenceClassification")
    assert acn.classifier.weight.isfinite().all()


def test_a_checkpoint_without_its_embeddings_gets_no_new_head(checkpoint):
    folder = checkpoint(residual(CLASSIFIER), None, lambda w: {k: v for k, v in w.items() if "embeddings" not in k})
    for name in ("BertForMaskedLM", "BertModel"):
        refused(ConversionError, LACKING.format(folder, name, 5) + "...", folder, architecture=name)


def test_a_checkpoint_without_a_pooler(checkpoint):
    folder = checkpoint(transformers.BertModel(transformers.BertConfig(**BERT_FIELDS), add_pooling_layer=False))
    text = "...would stay random: pooler.dense.bias, pooler.dense.weight; add_pooling_layer=False leaves them out"
    refused(ConversionError, text, folder)


def test_a_checkpoint_of_another_shape(checkpoint):
    folder = checkpoint(residual(CLASSIFIER))
    text = (
        f"{folder} must have the shapes that are listed above; ignore_mismatched_sizes=True starts those weights "
        "anew, for a head with other classes"
    )
    refused(ConversionError, text, folder, num_labels=5)


def test_a_checkpoint_that_does_not_say_what_it_is(checkpoint):
    folder = checkpoint(residual(CLASSIFIER), lambda config: config.pop("model_type"))
    text = f"{folder} must say what it is, or architecture must, for example 'BertForMaskedLM': ..."
    refused(ConversionError, text, folder)
    assert type(from_residual(folder, architecture="BertForSequenceClassification")) is CLASSIFIER.acn


def test_a_checkpoint_that_does_not_say_its_class(checkpoint):
    folder = checkpoint(residual(CLASSIFIER), lambda config: config.pop("architectures"))
    text = f"{folder} must say the class that it was saved as, or architecture must, for example 'BertForMaskedLM'; "
    refused(ConversionError, text + "its config is a BertConfig without architectures", folder)
    assert type(from_residual(folder, architecture="BertForSequenceClassification")) is CLASSIFIER.acn


@pytest.mark.parametrize("kept", [0.9, 0.01])
def test_a_checkpoint_that_was_cut_off(checkpoint, kept):
    folder = checkpoint(residual(CLASSIFIER))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refused(ConversionError, f"the weights in {folder} must be whole: ...", folder)


def test_no_such_checkpoint(checkpoint, tmp_path):
    for architecture in (None, "BertModel"):
        refused(OSError, f"...{tmp_path / 'absent'}...", tmp_path / "absent", architecture=architecture)
    folder = checkpoint(residual(CLASSIFIER))
    (folder / "model.safetensors").unlink()
    refused(OSError, f"...{folder}...", folder)


def test_every_acn_class_has_its_residual_class():
    for name, acn in acn_hf.auto.model_classes().items():
        if acn.config_class is acn_hf.AcnMixerConfig:  # transformers has no Mixer
            continue
        assert acn_class_of(name.removeprefix("Acn")) is acn
