"""What cannot become a model of transformers: the type of its error, the rule that it breaks and the value."""

import re
from types import SimpleNamespace

import peft
import pytest
from torch import nn

from acn_hf import ConversionError, to_residual
from acn_hf.conversion.convert import convertible_classes
from acn_hf.modeling.depth import prefix_view
from tests.conversion.test_convert import CONVERTED, same_outputs
from tests.conversion.test_layouts import NAMES
from tests.support.adapted import any_peft, quiet  # noqa: F401 (a fixture)
from tests.support.families import HEADS, by_name, each_head

CLASSIFIER, MASKED_LM = by_name("bert-ForSequenceClassification"), by_name("bert-ForMaskedLM")


def refused(error, text, model, **options):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        to_residual(model, **options)


def test_a_head_that_the_family_does_not_have(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.config.original_model_type = "distilbert"
    text = (
        "the original_model_type of AcnBertForSequenceClassification must have a class with this head whose weights "
        "map; got 'distilbert': architecture='BertForSequenceClassification' makes a model of BERT"
    )
    refused(ConversionError, text, acn)
    assert type(to_residual(acn, architecture="BertForSequenceClassification")) is CLASSIFIER.upstream


def test_the_class_must_be_one_that_maps(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    classes = "BertForSequenceClassification, CamembertForSequenceClassification, RobertaForSequenceClassification, "
    for name in ("BertForMaskedLM", "DistilBertForSequenceClassification", "Nonsense"):
        refused(
            ConversionError,
            "architecture must be a class that the weights of AcnBertForSequenceClassification map to "
            f"({classes}XLMRobertaForSequenceClassification); got '{name}'",
            acn,
            architecture=name,
        )


UNEQUAL = {
    "acn": ({"residual_scale": 0.0}, "in layer 1 of this AcnBertForSequenceClassification it is 0"),
    "one layer": ({"residual_scale": [1.0, 1.0, 0.5]}, "in layer 3 of this AcnBertForSequenceClassification it is 0.5"),
}


@pytest.mark.parametrize(("options", "text"), UNEQUAL.values(), ids=UNEQUAL)
def test_other_scales(build, options, text):
    beginning = "the residual scale must be 1 in every layer, as it is in transformers; "
    refused(ConversionError, beginning + text, build(CLASSIFIER, **options))


def test_the_sum_of_all_layers(build):
    text = (
        "readout must be 'auto', since heads of transformers read what the last layer returns, and not a sum over the "
        "layers; got 'sum'"
    )
    refused(ConversionError, text, build(CLASSIFIER, residual_scale=1.0, readout="sum"))


def test_gradients_that_are_not_upstreams(build):
    text = "direct_gradient_only must be False, since gradients pass through all layers in transformers; got True"
    refused(ConversionError, text, build(CLASSIFIER, residual_scale=1.0, direct_gradient_only=True))


@each_head([head for head in HEADS if head.name.endswith("-mean")])
def test_the_mean_of_the_tokens(build, head):
    text = (
        "pooling must be 'cls', since no classifier of transformers has a head that reads the mean of all tokens; got "
        "'mean'"
    )
    refused(ConversionError, text, build(head, residual_scale=1.0))


def test_pooling_where_no_head_reads_it(build):
    acn = build(MASKED_LM, residual_scale=1.0, pooling="mean")
    assert same_outputs(to_residual(acn)(**MASKED_LM.inputs()), acn(**MASKED_LM.inputs()))


@each_head([head for head in HEADS if head.name.startswith("mixer")])
def test_mixers(build, head):
    refused(
        ConversionError, f"transformers has no class that computes what an {head.acn.__name__} computes", build(head)
    )


def test_what_is_no_acn(build, tmp_path):
    acn = build(CLASSIFIER, residual_scale=1.0)
    model = to_residual(acn)
    text = "a model of acn_hf must be given; got "
    refused(TypeError, f"{text}BertForSequenceClassification, which is one of transformers already", model)
    refused(TypeError, f"{text}Linear", nn.Linear(1, 1))
    refused(TypeError, f"{text}NoneType", None)
    text = f"the model of a checkpoint must be given: load '{tmp_path}' with its Auto class first; got a "
    refused(TypeError, text + "str", str(tmp_path))
    refused(TypeError, text + type(tmp_path).__name__, tmp_path)
    view = prefix_view(acn, 1)
    assert type(to_residual(view)) is CLASSIFIER.upstream


@quiet
def test_adapters(build):
    model = peft.get_peft_model(build(CLASSIFIER, residual_scale=1.0), peft.LoraConfig(target_modules=["query"]))
    refused(TypeError, "a model of acn_hf must be given; got PeftModel: merge its adapters, merge_and_unload()", model)
    assert type(to_residual(model.merge_and_unload())) is CLASSIFIER.upstream


@quiet
@pytest.mark.usefixtures("any_peft")
def test_adapters_inside(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.add_adapter(peft.LoraConfig(target_modules=["query"]), adapter_name="mine")
    text = "adapters must be merged before a conversion; AcnBertForSequenceClassification holds mine"
    refused(ConversionError, text, acn)


def test_weights_that_are_not_numbers(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.classifier.bias.data[0] = float("nan")
    refused(ConversionError, "weights must be finite numbers; classifier.bias holds nan or infinity", acn)
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.hf_quantizer = SimpleNamespace()
    text = "weights must be plain numbers; those of this AcnBertForSequenceClassification are quantised"
    refused(ConversionError, text, acn)


def test_learned_scales_without_numbers(build):
    acn = build(CLASSIFIER, residual_scale=1.0, learn_residual_scale=True).to("meta")
    text = "learned scales must be numbers; those of this AcnBertForSequenceClassification are on the meta device"
    refused(ConversionError, text, acn)


def test_parts_that_upstream_does_not_have(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.one = nn.Linear(1, 1)
    text = "the weights of AcnBertForSequenceClassification do not map to BertForSequenceClassification: "
    refused(ConversionError, text + "['one.weight', 'one.bias']", acn)
    text = "the weights of AcnBertModel do not map to ElectraModel: ['pooler.dense.weight', 'pooler.dense.bias']"
    refused(ConversionError, text, build(by_name("bert-Model"), residual_scale=1.0), architecture="ElectraModel")


def test_layers_and_config_that_disagree(build):
    acn = build(CLASSIFIER, residual_scale=1.0)
    acn.config.num_hidden_layers = 2
    refused(ConversionError, "the model holds 3 layers and its config says 2", acn)


FIELDS = {
    "distilbert": (
        {"layer_norm_eps": 1e-5},
        "distilbert",
        "layer_norm_eps must be 1e-12 to be that of DistilBERT; got 1e-05",
    ),
    "roberta act": (
        {"hidden_act": "relu"},
        "roberta",
        "hidden_act must be 'gelu', which the head of RobertaForMaskedLM uses whatever it is; got 'relu'",
    ),
    "roberta pad": (
        {"pad_token_id": None},
        "roberta",
        "pad_token_id must be a number, since the positions of RoBERTa begin after it; got None",
    ),
}


@pytest.mark.parametrize(("fields", "family", "text"), FIELDS.values(), ids=FIELDS)
def test_fields_that_a_family_does_not_have(build, fields, family, text):
    acn = build(MASKED_LM, residual_scale=1.0, original_model_type=family, **fields)
    refused(ConversionError, text, acn)


def test_every_class_that_can_be_converted_comes_back():
    known = {head.upstream.__name__ for head in CONVERTED} | set(NAMES)
    skipped = {name for name in convertible_classes() if name not in known}
    assert all(name.endswith("ForMultipleChoice") for name in skipped)  # the oldest transformers cannot build them
