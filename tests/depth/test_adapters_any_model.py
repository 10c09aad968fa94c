"""Adapters in any model of transformers: what is adapted, what is trained, and who reads them."""

import inspect

import peft
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from acn_hf import DepthError, depth_logits, lora_config, truncate
from acn_hf.depth.layers import is_acn, layers_of
from acn_hf.support.wrappers import unwrap
from tests.support.adapted import any_peft, quiet, randomized, with_peft
from tests.support.any_models import ALL, NUM_LAYERS, TEXT, AnyModel, any_model, first_of
from tests.support.families import HEADS

__all__ = ["any_peft"]
pytestmark = [quiet, pytest.mark.usefixtures("any_peft")]
LLAMA = any_model("LlamaForCausalLM").fields
MORE = [
    AnyModel("BertModel", TEXT, auto="AutoModel"),
    AnyModel("BertForQuestionAnswering", TEXT, auto="AutoModelForQuestionAnswering"),
    AnyModel("BertForMaskedLM", TEXT, auto="AutoModelForMaskedLM"),
    AnyModel("ModernBertForTokenClassification", any_model("ModernBertForMaskedLM").fields, lowest=1),
    AnyModel("ModernBertModel", any_model("ModernBertForMaskedLM").fields, auto="AutoModel", lowest=1),
    AnyModel("LlamaForSequenceClassification", LLAMA),
    AnyModel("LlamaForTokenClassification", LLAMA),
    AnyModel("LlamaForQuestionAnswering", LLAMA),
    AnyModel("LlamaModel", LLAMA, auto="AutoModel"),
]
PLAIN = [*ALL, *MORE]
each_plain = pytest.mark.parametrize("entry", PLAIN, ids=lambda entry: entry.name)
READERS = {
    "SEQ_CLS": peft.AutoPeftModelForSequenceClassification,
    "TOKEN_CLS": peft.AutoPeftModelForTokenClassification,
    "QUESTION_ANS": peft.AutoPeftModelForQuestionAnswering,
    "CAUSAL_LM": peft.AutoPeftModelForCausalLM,
    "FEATURE_EXTRACTION": peft.AutoPeftModelForFeatureExtraction,
}
ENDINGS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "Model": "FEATURE_EXTRACTION",
}
READ = [entry for entry in PLAIN if entry.name.endswith(tuple(ENDINGS)) and "input_ids" in entry.inputs()] + [
    head for head in HEADS if head.acn.__name__.startswith("AcnBert") and head.acn.__name__.endswith(tuple(ENDINGS))
]
READ_FIRST = {
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "BertModel",
    "ModernBertForTokenClassification",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "bert-ForSequenceClassification",
    "bert-ForQuestionAnswering",
}
"""Each reader, and each kind of attention; the others are `full`."""
DROPS_SEGMENTS = "token_type_ids=token_type_ids" not in inspect.getsource(peft.PeftModelForQuestionAnswering.forward)
"""Whether the installed peft drops what tells a question from its context."""


def build(entry):
    """Return a model of an entry of either table, the same every time."""
    torch.manual_seed(0)
    return entry.build().eval()


def name_of(entry):
    return getattr(entry, "acn", None).__name__ if hasattr(entry, "acn") else entry.name


def inputs_of(entry, kind=torch.float32):
    """Return inputs that every class of peft hands on."""
    inputs = {name: value.to(kind) if value.is_floating_point() else value for name, value in entry.inputs().items()}
    if DROPS_SEGMENTS and name_of(entry).endswith("ForQuestionAnswering"):
        inputs.pop("token_type_ids", None)
    return inputs


def output(model, entry):
    """Return what `depth_logits` reads, and of a base model what it returns first."""
    inputs = inputs_of(entry, next(model.parameters()).dtype)
    with torch.no_grad():
        read = model(**inputs)
    return torch.stack((read.start_logits, read.end_logits), -1) if "start_logits" in read else read.to_tuple()[0]


@each_plain
def test_layers_are_adapted_and_heads_are_not(entry):
    model = build(entry)
    names = {id(module): name for name, module in model.named_modules()}
    inside = {name for layer in layers_of(model) for module in layer.modules() if (name := names[id(module)])}
    config = lora_config(model, r=2)
    adapted = with_peft(model)
    found = {name for name, module in unwrap(adapted).named_modules() if hasattr(module, "base_layer")}
    assert len(found & inside) >= 2 * NUM_LAYERS or entry.name == "GPT2LMHeadModel"
    assert len({name.split(".lora")[0] for name in found & inside}) % NUM_LAYERS == 0
    heads = set(config.modules_to_save or ())
    assert not any(name.split(".")[0] in {"lm_head", "decoder", "cls", *heads} for name in found)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and ".lora_" not in name:
            assert any(f".{head}.modules_to_save." in name for head in heads), name


@each_plain
def test_a_new_head_is_trained_and_one_of_pretraining_is_not(entry):
    model = build(entry)
    saved = lora_config(model).modules_to_save
    if entry.name.endswith(("Model", "ForMaskedLM", "ForCausalLM")):
        assert saved is None
    else:
        assert any(name in ("classifier", "score", "qa_outputs") for name in saved)


@each_plain
def test_transposed_matrices_are_said_to_be_so(entry):
    model = build(entry)
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    assert lora_config(model).fan_in_fan_out == transposed
    assert lora_config(model, fan_in_fan_out=True).fan_in_fan_out


@pytest.mark.parametrize("entry", first_of(READ, READ_FIRST))
def test_the_auto_class_of_peft_reads_the_adapter(entry, tmp_path):
    build(entry).save_pretrained(tmp_path / "base")
    base = type(build(entry)).from_pretrained(tmp_path / "base")
    adapted = randomized(peft.get_peft_model(base, lora_config(base, r=2)))
    task = next(task for ending, task in ENDINGS.items() if type(base).__name__.endswith(ending))
    assert adapted.peft_config["default"].task_type == task
    adapted.save_pretrained(tmp_path / "adapter")
    again = READERS[task].from_pretrained(tmp_path / "adapter").eval()
    expected = output(adapted, entry)
    assert torch.equal(output(again, entry), expected)
    assert not torch.equal(expected, output(build(entry), entry))
    others = [reader for name, reader in READERS.items() if name != task]
    with pytest.raises(ValueError, match="Expected target PEFT class"):
        others[0].from_pretrained(tmp_path / "adapter")

    short = truncate(adapted, 2)
    assert type(short) is type(adapted)
    short.save_pretrained(tmp_path / "short")
    read = peft.PeftModel.from_pretrained(truncate(build(entry), 2), tmp_path / "short").eval()
    assert type(read) is type(adapted)
    assert torch.equal(output(read, entry), output(short, entry))
    if task != "FEATURE_EXTRACTION":
        at_two = depth_logits(adapted, **inputs_of(entry))[2 - getattr(entry, "lowest", 0)]
        assert torch.equal(output(short, entry), at_two)
    precise = with_peft(build(entry).double())
    expected = output(precise, entry)
    precise.merge_adapter()
    # Rotations and norms are computed in float32 whatever the model is.
    torch.testing.assert_close(output(precise, entry), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert-ForQuestionAnswering", "BertForQuestionAnswering"])
def test_an_adapted_model_sees_where_the_question_ends(name, caplog):
    entry = next(entry for entry in READ if entry.name == name)
    if DROPS_SEGMENTS:
        assert lora_config(build(entry)).task_type == "QUESTION_ANS"
        assert "PeftModelForQuestionAnswering does not hand token_type_ids on to the model" in caplog.text
    adapted, inputs = with_peft(build(entry), task_type=None), entry.inputs()
    ids = inputs["input_ids"]
    with torch.no_grad():
        outputs = [
            adapted(**{**inputs, "token_type_ids": torch.full_like(ids, number)}).start_logits for number in range(2)
        ]
    assert not torch.equal(*outputs)


def test_what_the_user_says_wins():
    model = build(any_model("BertForSequenceClassification"))
    assert lora_config(model, task_type=None).task_type is None
    assert lora_config(model, task_type="TOKEN_CLS").task_type == "TOKEN_CLS"
    said = lora_config(model, target_modules=["key"], modules_to_save=["dense"], exclude_modules=["layer.0.key"])
    assert (said.target_modules, said.modules_to_save, said.exclude_modules) == ({"key"}, ["dense"], {"layer.0.key"})


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "LlamaForCausalLM", "ModernBertForMaskedLM"])
def test_layers_that_are_not_there_are_refused(name):
    model = build(any_model(name))
    with pytest.raises(DepthError, match=r"layers_to_transform must name layers of this model, whose 4 layers.*got 4"):
        lora_config(model, layers_to_transform=[0, 4])
    assert lora_config(model, layers_to_transform=[0, 3]).layers_to_transform == [0, 3]


def test_only_models_of_transformers_are_adapted():
    with pytest.raises(TypeError, match="only models of transformers have depth; got Linear"):
        lora_config(nn.Linear(2, 2))


@pytest.mark.parametrize("entry", first_of(PLAIN))
def test_a_cut_adapted_model_is_the_long_one_at_that_depth(entry, tmp_path):
    adapted = with_peft(build(entry))
    short = truncate(adapted, 2)
    precise = with_peft(build(entry).double())
    merged = truncate(precise, 2, merge_adapter=True)
    assert type(merged) is type(build(entry))
    # Rotations and norms are computed in float32 whatever the model is.
    torch.testing.assert_close(output(merged, entry), output(truncate(precise, 2), entry), rtol=1e-5, atol=1e-5)
    short.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(truncate(build(entry), 2), tmp_path).eval()
    assert torch.equal(output(again, entry), output(short, entry))
    if entry.auto not in ("", "AutoModel"):
        assert torch.equal(output(short, entry), depth_logits(adapted, **entry.inputs())[2 - entry.lowest])


def test_the_tables_hold_both_kinds():
    assert {is_acn(build(entry)) for entry in READ} == {False, True}
    assert randomized(build(READ[0])) is not None
