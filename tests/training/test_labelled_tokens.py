"""The head on the tokens with a label gives the loss and the gradients of the whole head, and nothing else changes."""

import copy
from contextlib import nullcontext

import pytest
import torch
import transformers
from torch import nn
from transformers.testing_utils import CaptureLogger

from acn_hf import DistillationLoss, LabelledTokensCallback, intermediate_supervision
from acn_hf.training import labelled_tokens_callback
from acn_hf.training.labelled_tokens import LabelledTokens, labelled_tokens, logger
from tests.support import distributed_worker
from tests.support.any_models import TEXT, TOKENS, AnyModel, any_model, without_chance
from tests.support.families import by_name
from tests.support.training import build_model, train_one_step, trainer

OF_TOKENS = [
    any_model("XLMRobertaForMaskedLM"),
    any_model("ModernBertForMaskedLM"),
    any_model("BertForTokenClassification"),
    AnyModel("BertForPreTraining", TEXT),
    AnyModel("DistilBertForMaskedLM", {**TOKENS, "dim": 32, "n_heads": 2, "hidden_dim": 48, "n_layers": 4}),
    AnyModel("ElectraForMaskedLM", {**TEXT, "embedding_size": 16}),
]
ACNS = ["bert-ForMaskedLM", "bert-ForPreTraining", "bert-ForTokenClassification"]
NAMES = [entry.name for entry in OF_TOKENS] + ACNS


def build(name):
    """Return a model in train mode that draws nothing, in float64, and a batch of which few tokens have labels."""
    if name in ACNS:
        model = by_name(name).build(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).double().train()
    else:
        model = without_chance(next(entry for entry in OF_TOKENS if entry.name == name)).double()
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 40, (4, 7), generator=draw)
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    labels = torch.where(torch.rand(4, 7, generator=draw) < 0.3, ids % model.config.num_labels, -100)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if "PreTraining" in name:
        inputs["next_sentence_label"] = torch.tensor([0, 1, 1, 0])
    return model, inputs


def loss_and_gradients(model, inputs, around):
    model.zero_grad()
    with around():
        loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def supervised(model, how):
    """Return what a pass of a model is surrounded by."""
    if how == "alone":
        return nullcontext
    if how == "supervised":
        return lambda: intermediate_supervision(model, "uniform")
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.1)
    lesson = DistillationLoss(teacher, soft_labels=0.5, depth_states=0.5)
    return lambda: intermediate_supervision(model, "uniform", distillation=lesson)


@pytest.mark.parametrize("how", ["alone", "supervised", "taught"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_the_whole_head(name, how):
    model, inputs = build(name)
    around = supervised(model, how)
    loss, gradients = loss_and_gradients(model, inputs, around)
    labelled = LabelledTokens(model)
    few, of_few = loss_and_gradients(model, inputs, around)
    number = int((inputs["labels"] != -100).sum())
    assert (labelled.is_exact, labelled.num_read, labelled.num_tokens) == (True, number, 28)
    single = how == "taught"  # soft labels are compared in float32
    torch.testing.assert_close(few, loss, rtol=1e-6 if single else 1e-10, atol=1e-12)
    torch.testing.assert_close(of_few, gradients, rtol=1e-4 if single else 1e-8, atol=1e-7 if single else 1e-10)


@pytest.mark.parametrize("name", ["ModernBertForMaskedLM", "bert-ForMaskedLM"])
def test_the_head_sees_no_other_token(name):
    model, inputs = build(name)
    LabelledTokens(model)
    assert model(**inputs).logits.shape[:2] == (1, int((inputs["labels"] != -100).sum()))
    as_tuple = model(**inputs, return_dict=False)
    assert torch.equal(as_tuple[0], model(**inputs).loss)


@pytest.mark.parametrize("name", ["XLMRobertaForMaskedLM", "bert-ForMaskedLM"])
def test_other_passes_are_left_alone(name):
    model, inputs = build(name)
    unlabelled = {key: value for key, value in inputs.items() if key != "labels"}
    expected = model(**unlabelled).logits
    labelled = LabelledTokens(model)
    assert torch.equal(model(**unlabelled).logits, expected)
    with torch.no_grad():
        assert model(**inputs).logits.shape == expected.shape
    assert model.eval()(**inputs).logits.shape == expected.shape
    none = {**inputs, "labels": torch.full_like(inputs["labels"], -100)}
    assert model.train()(**none).logits.shape == expected.shape
    model(**inputs)
    labelled.remove()
    assert model(**inputs).logits.shape == expected.shape
    assert labelled_tokens(model) is None
    assert not model.base_model._forward_hooks


def test_an_error_in_a_pass_leaves_nothing_behind():
    model, inputs = build("XLMRobertaForMaskedLM")
    LabelledTokens(model)
    model(**inputs)
    with pytest.raises(RuntimeError):
        model(**{**inputs, "inputs_embeds": torch.zeros(1, 1, 3, dtype=torch.float64), "input_ids": None})
    unlabelled = {key: value for key, value in inputs.items() if key != "labels"}
    assert model(**unlabelled).logits.shape[:2] == (4, 7)
    assert not model.base_model._forward_hooks


class MixesTokens(nn.Module):
    def forward(self, states):
        return states + states.mean(dim=1, keepdim=True)


class NeedsAllTokens(nn.Module):
    def forward(self, states):
        return states + torch.zeros(4, 7, 1, dtype=states.dtype)


@pytest.mark.parametrize("mixes", [MixesTokens, NeedsAllTokens])
def test_a_head_that_reads_more_than_its_token_is_left_alone_and_said(mixes):
    model, inputs = build("BertForTokenClassification")
    model.classifier = nn.Sequential(mixes(), model.classifier)
    expected = model(**inputs)
    labelled = LabelledTokens(model)
    with CaptureLogger(logger) as said:
        got = model(**inputs)
        model(**inputs)
    assert torch.equal(got.loss, expected.loss)
    assert got.logits.shape == expected.logits.shape
    assert labelled.is_exact is False
    assert said.out.count("reads more than the token whose label it predicts") == 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("BertModel", TypeError, "labels need a model with a head, and BertModel has none"),
        ("GPT2LMHeadModel", ValueError, "those of GPT2LMHeadModel predict the one that comes next"),
    ],
)
def test_models_without_labels_of_their_tokens_are_refused(name, error, message):
    model_class = getattr(transformers, name)
    fields = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 1, "num_hidden_layers": 1}
    model = model_class(model_class.config_class(**fields, hidden_size=12, num_attention_heads=2))
    with pytest.raises(error, match=message):
        LabelledTokens(model)


def test_a_model_is_hooked_once():
    model, _ = build("XLMRobertaForMaskedLM")
    LabelledTokens(model)
    with pytest.raises(ValueError, match="the head of XLMRobertaForMaskedLM runs on tokens with a label already"):
        LabelledTokens(model)


@pytest.mark.parametrize("name", distributed_worker.LABELLED)
def test_accumulated_steps_are_those_of_the_whole_head(tmp_path, name):
    """ModernBERT divides by the labels of the whole step, BERT by those of each batch."""
    model, inputs = distributed_worker.labelled_run(name)
    moved = [
        train_one_step(copy.deepcopy(model), inputs, tmp_path / str(number), 2, 4, callbacks=callbacks)
        for number, callbacks in enumerate(([], [LabelledTokensCallback()]))
    ]
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-6, atol=1e-10)


def test_a_loss_that_the_model_does_not_compute_is_left_alone_and_said(tmp_path):
    run = trainer(tmp_path, build_model(), label_smoothing_factor=0.1)
    with CaptureLogger(labelled_tokens_callback.logger) as said:
        callback = LabelledTokensCallback().attach(run)
    assert "the loss is not the one that the model computes" in said.out
    assert callback not in run.callback_handler.callbacks


def test_the_model_is_as_it_was_after_training(tmp_path):
    run = trainer(tmp_path, build_model(), max_steps=1, eval_strategy="no", save_strategy="no")
    hooks = len(run.model._forward_pre_hooks)
    callback = LabelledTokensCallback().attach(run)
    run.train()
    assert callback.labelled is None
    assert len(run.model._forward_pre_hooks) == hooks
