"""Adapters of PEFT live in the layers: what is adapted by default, what is trained, and what a cut model computes."""

import copy

import peft
import pytest
import torch
from peft.utils import constants

from acn_hf import DepthError, compress, depth_logits, lora_config, measure_depth_profile, truncate
from acn_hf.auto import MIXER_NAMES, VIT_NAMES
from acn_hf.support.wrappers import unwrap
from tests.support.adapted import WAYS, any_peft, each_way, output, quiet, randomized, with_adapter, with_peft
from tests.support.families import HEADED, NUM_LAYERS, TRAINED, by_name, each_head, heads_in_turn

__all__ = ["any_peft"]
pytestmark = [quiet, pytest.mark.usefixtures("any_peft")]
BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
DEPTHS = range(NUM_LAYERS + 1)
QUERIES = {"acn_bert": ("query", "value"), "acn_vit": ("q_proj", "v_proj"), "acn_deit": ("q_proj", "v_proj")}
QUERIES["acn_mixer"] = ("fc1", "fc2") * 2  # of both MLPs, since it has no attention

NEW_MODULES = {
    "bert-Model": None,
    "bert-ForPreTraining": None,
    "bert-ForMaskedLM": None,
    "bert-ForNextSentencePrediction": ["cls", "pooler"],
    "bert-ForSequenceClassification": ["classifier", "pooler"],
    "bert-ForSequenceClassification-mean": ["classifier"],
    "bert-ForTokenClassification": ["classifier"],
    "bert-ForQuestionAnswering": ["qa_outputs"],
    "bert-ForMultipleChoice": ["classifier", "pooler"],
    "vit-Model": None,
    "vit-ForImageClassification": ["classifier"],
    "vit-ForImageClassification-mean": ["classifier"],
    "vit-ForMaskedImageModeling": ["decoder"],
    "deit-Model": None,
    "deit-ForImageClassification": ["classifier"],
    "deit-ForImageClassificationWithTeacher": ["cls_classifier", "distillation_classifier"],
    "deit-ForMaskedImageModeling": ["decoder"],
    "mixer-Model": None,
    "mixer-Model-paper": None,
    "mixer-ForImageClassification": ["classifier"],
    "mixer-ForImageClassification-paper": ["classifier"],
}

TUNERS = {
    "AdaLora": lambda: peft.AdaLoraConfig(total_step=10, init_r=2, target_r=1),
    "FourierFT": lambda: peft.FourierFTConfig(n_frequency=10),
    "IA3": peft.IA3Config,
    "LoHa": lambda: peft.LoHaConfig(r=2),
    "LoKr": lambda: peft.LoKrConfig(r=2),
    "LoRA": lambda: peft.LoraConfig(r=2),
    "VeRA": lambda: peft.VeraConfig(r=2),
}


def adapted_modules(model) -> set[str]:
    """Return the names of the modules that hold an adapter, seen from the ACN."""
    return {name for name, module in unwrap(model).named_modules() if hasattr(module, "base_layer")}


@pytest.mark.parametrize("add", ["get_peft_model", "add_adapter"])
@each_head()
def test_the_default_targets_are_the_queries_and_values_of_every_layer(build, head, add):
    model = build(head)
    if add == "add_adapter":
        model.add_adapter(peft.LoraConfig())
    else:
        peft.get_peft_model(model, peft.LoraConfig())
    found = sorted(name.rsplit(".")[-1] for name in adapted_modules(model))
    assert found == sorted(QUERIES[model.config.model_type] * NUM_LAYERS)


@pytest.mark.parametrize("tuner", TUNERS.values(), ids=TUNERS)
@pytest.mark.parametrize("head", [BERT, VIT], ids=["bert", "vit"])
def test_every_tuner_adapts_by_default_and_is_cut(build, head, tuner):
    model = peft.get_peft_model(build(head), tuner()).eval()
    assert all(any(f".{index}." in name for name in adapted_modules(model)) for index in range(NUM_LAYERS))
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    expected = depth_logits(model, **head.inputs())
    assert not torch.equal(expected, depth_logits(build(head), **head.inputs()))
    for depth in DEPTHS:
        assert torch.equal(output(truncate(model, depth), head), expected[depth])


def test_every_default_of_peft_for_bert_is_known_for_our_families():
    known = {name: defaults for name, defaults in vars(constants).items() if name.endswith("MODULES_MAPPING")}
    for_bert = {name: defaults for name, defaults in known.items() if "bert" in defaults}
    assert len(for_bert) > 10
    for defaults in for_bert.values():
        assert defaults["acn_bert"] == defaults["bert"]
        assert defaults["acn_deit"] == defaults["acn_vit"] == [VIT_NAMES[name] for name in defaults["bert"]]
        assert set(defaults["acn_mixer"]) == {MIXER_NAMES[name] for name in defaults["bert"]}


@each_head()
def test_the_new_head_and_nothing_else_is_trained_beside_the_adapter(build, head):
    model = build(head)
    config = lora_config(model, r=2)
    assert config.modules_to_save == NEW_MODULES[head.name]
    wrapped = peft.get_peft_model(model, config)
    trained = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    of_heads = {name for name in trained if ".modules_to_save.default." in name}
    assert trained - of_heads == {name for name, _ in wrapped.named_parameters() if ".lora_" in name}
    assert {name.split(".modules_to_save.")[0].split(".")[-1] for name in of_heads} == set(NEW_MODULES[head.name] or ())


def test_what_is_said_of_the_adapter_is_kept(build):
    said = {"r": 3, "target_modules": ["key"], "modules_to_save": ["dense"], "task_type": "SEQ_CLS"}
    config = lora_config(build(BERT), **said)
    assert {name: getattr(config, name) for name in said} == {**said, "target_modules": {"key"}}
    assert lora_config(build(VIT), layers_to_transform=[0, 2]).layers_to_transform == [0, 2]
    with pytest.raises(TypeError, match="unexpected keyword argument 'rank'"):
        lora_config(build(BERT), rank=3)


def test_the_task_type_of_peft_saves_the_classifier_too(build, tmp_path):
    model = randomized(peft.get_peft_model(build(BERT), peft.LoraConfig(task_type="SEQ_CLS", r=2)))
    assert isinstance(model, peft.PeftModelForSequenceClassification)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(build(BERT), tmp_path)
    assert torch.equal(output(again, BERT), output(model, BERT))
    assert not torch.equal(again.base_model.model.classifier.weight, build(BERT).classifier.weight)
    short = truncate(model, 1)
    assert isinstance(short, peft.PeftModelForSequenceClassification)
    assert torch.equal(output(short, BERT), depth_logits(model, **BERT.inputs())[1])


@heads_in_turn(adapt=WAYS)
def test_a_cut_adapted_model_is_the_long_one_at_that_depth(build, head, adapt):
    model = adapt(build(head))
    states = unwrap(model)
    for depth in DEPTHS:
        short = truncate(model, depth)
        assert type(short) is type(model)
        assert {parameter.data_ptr() for parameter in short.parameters()}.isdisjoint(
            parameter.data_ptr() for parameter in model.parameters()
        )
        if head.has_head:
            assert torch.equal(depth_logits(short, **head.inputs())[-1], depth_logits(model, **head.inputs())[depth])
        else:
            inside = states(**head.inputs(), output_hidden_states=True).hidden_states
            assert torch.equal(short(**head.inputs(), output_hidden_states=True).hidden_states[-1], inside[depth])


@heads_in_turn(HEADED, adapt=WAYS)
def test_a_merged_model_is_an_ordinary_one_that_computes_the_same(build, head, adapt):
    """In float64, so that a tolerance of 1e-10 is far above the rounding of a merge and far below any mistake."""
    model = adapt(build(head).double())
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in head.inputs().items()}
    expected = depth_logits(model, **inputs)
    for depth in DEPTHS:
        short = truncate(model, depth, merge_adapter=True)
        assert type(short) is head.acn
        assert short.state_dict().keys() == truncate(build(head), depth).state_dict().keys()
        assert all(parameter.requires_grad for parameter in short.parameters())
        torch.testing.assert_close(depth_logits(short, **inputs)[-1], expected[depth], rtol=1e-10, atol=1e-10)
        assert not hasattr(short, "peft_config")
    assert torch.equal(depth_logits(model, **inputs), expected)


@each_head(HEADED)
def test_a_model_without_adapters_has_nothing_to_merge(build, head):
    model = build(head)
    assert torch.equal(output(truncate(model, 2, merge_adapter=True), head), output(truncate(model, 2), head))


@each_way
def test_what_a_switched_off_adapter_learned_is_not_merged(build, adapt):
    model = adapt(build(BERT))
    adapted = output(model, BERT)
    (model.base_model.disable_adapter_layers if adapt is with_peft else model.disable_adapters)()
    assert not torch.equal(output(model, BERT), adapted)
    merged = truncate(model, NUM_LAYERS, merge_adapter=True)
    assert torch.equal(output(merged, BERT), output(build(BERT), BERT))


def test_the_active_one_of_several_adapters_counts(build):
    model = with_peft(build(BERT).double())
    model.add_adapter("other", lora_config(build(BERT), r=4, modules_to_save=["classifier"]))
    randomized(model)
    first = output(model, BERT)
    model.set_adapter("other")
    assert not torch.equal(output(model, BERT), first)
    for merge in (False, True):
        short = truncate(model, NUM_LAYERS, merge_adapter=merge)
        torch.testing.assert_close(output(short, BERT), output(model, BERT), rtol=1e-10, atol=1e-10)
    short = truncate(model, 2)
    assert short.peft_config.keys() == {"default", "other"}
    short.set_adapter("default")
    model.set_adapter("default")
    inputs = BERT.inputs()
    assert torch.equal(output(short, BERT), depth_logits(model, **inputs)[2])


def test_an_adapter_that_was_merged_in_place_is_merged_once(build):
    model = with_peft(build(VIT).double())
    expected = output(model, VIT)
    model.merge_adapter()
    torch.testing.assert_close(
        output(truncate(model, NUM_LAYERS, merge_adapter=True), VIT), expected, rtol=1e-10, atol=1e-10
    )


@each_way
def test_the_config_of_a_cut_adapter_is_a_copy_and_true_of_it(build, adapt):
    model = build(BERT)
    model.name_or_path = "some/base"
    options = {"layers_to_transform": [0, 2], "layers_pattern": "layer"}
    options |= {"rank_pattern": {"layer.2.attention.self.query": 3, "self.query": 1}}
    options |= {"alpha_pattern": {r"layer.[12]\.\S+query": 5}}
    options["exclude_modules"] = ["layer.0.attention.self.value", "layer.2.attention.self.value"]
    model = adapt(model, **options)
    before = copy.deepcopy(model.peft_config["default"])
    config = truncate(model, 2).peft_config["default"]
    assert (config.layers_to_transform, config.rank_pattern, config.alpha_pattern) == ([0], {"self.query": 1}, {})
    assert set(config.exclude_modules) == {"layer.0.attention.self.value"}
    assert config.base_model_name_or_path == "some/base"
    assert model.peft_config["default"] == before
    assert truncate(model, NUM_LAYERS).peft_config["default"] == before


def test_targets_that_are_gone_are_not_named(build):
    names = [f"encoder.layer.{index}.attention.self.query" for index in range(NUM_LAYERS)]
    model = with_peft(build(BERT), target_modules=names)
    assert truncate(model, 1).peft_config["default"].target_modules == {names[0]}
    assert truncate(model, 1).targeted_module_names == [f"bert.{names[0]}"]
    model = with_adapter(build(VIT), layers_to_transform=1)
    assert truncate(model, 2).peft_config["default"].layers_to_transform == [1]


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data parallel": torch.nn.DataParallel,
    "both": lambda model: torch.nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("adapt", [lambda model: model, with_peft, with_adapter], ids=["plain", "peft", "add_adapter"])
def test_what_stands_around_a_model_is_looked_through(build, wrap, adapt):
    model = adapt(build(BERT))
    expected, wrapped = depth_logits(model, **BERT.inputs()), wrap(model)
    assert torch.equal(depth_logits(wrapped, **BERT.inputs()), expected)
    assert type(truncate(wrapped, 2)) is type(model)
    assert torch.equal(output(truncate(wrapped, 2), BERT), expected[2])
    batch = BERT.inputs(batch_size=4, labels=True)
    profile = measure_depth_profile(wrapped, [batch], metric="loss")
    assert profile == measure_depth_profile(model, [batch], metric="loss")
    result = compress(wrapped, [batch], metric="loss", depths=[1], tolerance=1e9)
    assert result.depth == 1
    assert type(result.model) is BERT.acn


@heads_in_turn(TRAINED, adapt=WAYS)
def test_compress_gives_an_ordinary_model_unless_asked_otherwise(build, head, adapt):
    model = adapt(build(head).double())
    batch = head.inputs(batch_size=4, labels=True)
    batch = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
    options = {"metric": "loss", "depths": [2], "tolerance": 1e9}
    merged, kept = (compress(model, [batch], merge_adapter=merge, **options).model for merge in (True, False))
    assert type(compress(model, [batch], **options).model) is type(merged) is head.acn
    assert type(kept) is type(model)
    torch.testing.assert_close(output(merged, head), output(kept, head), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("config", [peft.PromptTuningConfig, peft.PromptEncoderConfig], ids=["prompt", "p-tuning"])
def test_prompts_are_not_in_the_layers(build, config):
    model = peft.get_peft_model(build(BERT), config(task_type="SEQ_CLS", num_virtual_tokens=2))
    batch = BERT.inputs(labels=True)
    for function in (
        lambda: truncate(model, 1),
        lambda: depth_logits(model, **BERT.inputs()),
        lambda: measure_depth_profile(model, [batch]),
        lambda: compress(model, [batch]),
    ):
        with pytest.raises(TypeError, match=r"must be in the layers of the model.*'default' is one of prompts \(P"):
            function()


@each_way
@pytest.mark.parametrize("depth", [-1, NUM_LAYERS + 1, 1.5, True])
def test_depths_that_do_not_exist_are_refused(build, adapt, depth):
    for merge in (False, True):
        with pytest.raises(DepthError, match=rf"\[0, {NUM_LAYERS}\].*got {depth}"):
            truncate(adapt(build(BERT)), depth, merge_adapter=merge)
