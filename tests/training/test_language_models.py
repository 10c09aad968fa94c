"""Causal language models are taught at every depth: the sums over tokens are those of the models that are cut."""

import datasets
import pytest
import torch
from torch.nn import functional
from transformers import Trainer, TrainingArguments

from acn_hf import (
    DepthProfileCallback,
    DistillationLoss,
    IntermediateSupervisionCallback,
    intermediate_supervision,
    truncate,
)
from acn_hf.training.supervision import depth_weights
from tests.support.any_models import NUM_LAYERS, any_model, texts

CALM = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
"""Fields of GPT-2's config by which a pass in train mode is the same each time."""
LLAMA = any_model("LlamaForCausalLM")
CAUSAL = [any_model(name) for name in ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM")]
each_model = pytest.mark.parametrize("entry", CAUSAL, ids=lambda entry: entry.name)


def build(entry, **changed):
    return entry.build(**{**(CALM if entry.name.startswith("GPT2") else {}), **changed}).train()


def labelled():
    """Return texts with padding on both sides, which does not count, nor does the beginning of one."""
    inputs = texts()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels[0, :3] = -100
    return {**inputs, "labels": labels}


def tokens_of(labels):
    """Return how many tokens are predicted."""
    return int((labels[:, 1:] != -100).sum())


def sum_of_losses(model, inputs):
    """Return the loss of every predicted token, added up."""
    unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**unlabelled).logits[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), inputs["labels"][:, 1:], ignore_index=-100, reduction="sum")


def weighted_gradients(model, batches, items, weights=depth_weights("linear", NUM_LAYERS)):  # noqa: B008
    """Return the loss and its gradients that models give which are cut at each depth, one after the other."""
    total, gradients = 0.0, {}
    for depth, weight in enumerate(weights):
        if weight == 0:
            continue
        short = truncate(model, depth)
        for batch in batches:
            loss = weight * sum_of_losses(short, batch) / items
            loss.backward()
            total += loss.item()
        for name, parameter in short.named_parameters():
            gradients[name] = gradients.get(name, 0) + parameter.grad
    return total, gradients


@each_model
def test_the_loss_of_a_share_of_a_step_is_that_of_the_weighted_sum(entry):
    model, inputs = build(entry), labelled()
    items = 2 * tokens_of(inputs["labels"])
    expected, gradients = weighted_gradients(model, [inputs], items)
    with intermediate_supervision(model, "linear"):
        loss = model(**inputs, num_items_in_batch=torch.tensor(items)).loss
        loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


def trained_once(model, rows, folder, callback, **changed):
    """Return the gradient of one step of a Trainer: what plain descent at rate 1 takes from each weight."""
    arguments = TrainingArguments(
        str(folder),
        max_steps=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=len(rows),
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **changed,
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    descent = torch.optim.SGD(model.parameters(), lr=1.0)
    Trainer(model, arguments, train_dataset=rows, callbacks=[callback], optimizers=(descent, None)).train()
    return {name: before[name] - parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("entry", CAUSAL[1:], ids=lambda entry: entry.name)
def test_gradient_accumulation_is_the_sum_over_all_tokens_of_a_step(entry, tmp_path):
    inputs = labelled()  # texts of 5, 5 and 6 predicted tokens
    batches = [{name: value[row : row + 1] for name, value in inputs.items()} for row in range(3)]
    batches[2]["labels"][0, 4:] = -100  # and of 1
    model = build(entry)
    items = sum(tokens_of(batch["labels"]) for batch in batches)
    _, expected = weighted_gradients(model, batches, items)
    rows = datasets.Dataset.from_dict({name: torch.cat([batch[name] for batch in batches]) for name in inputs})
    learned = trained_once(model, rows.with_format("torch"), tmp_path, IntermediateSupervisionCallback("linear"))
    for name, gradient in learned.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)


def test_depths_that_take_turns_cost_one_head_more():
    model, inputs, heads = build(LLAMA), labelled(), []
    model.lm_head.register_forward_hook(lambda *_: heads.append(1))
    counts = []
    for num_depths in (None, 1):
        heads.clear()
        with intermediate_supervision(model, "uniform", num_depths=num_depths):
            model(**inputs)
        counts.append(len(heads))
    assert counts == [NUM_LAYERS, 2]


@each_model
def test_a_teacher_speaks_where_the_next_token_counts(entry):
    student, teacher, inputs = build(entry), entry.build(initializer_range=0.1), labelled()
    lesson = DistillationLoss(teacher, soft_labels=1.0, temperature=1.0)
    with intermediate_supervision(student, "full", distillation=lesson):
        loss = student(**inputs).loss
        half = student(**inputs, num_items_in_batch=torch.tensor(2 * tokens_of(inputs["labels"]))).loss
    unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
    with torch.no_grad():
        told = teacher(**unlabelled).logits[:, :-1].log_softmax(dim=-1)
        said = student(**unlabelled).logits[:, :-1].log_softmax(dim=-1)
    divergence = (told.exp() * (told - said)).sum(dim=-1)[inputs["labels"][:, 1:] != -100].mean()
    assert loss.item() == pytest.approx(divergence.item(), rel=1e-4)
    assert half.item() == pytest.approx(divergence.item() / 2, rel=1e-4)


def test_perplexity_is_measured_while_a_trainer_trains(tmp_path):
    inputs = labelled()
    rows = datasets.Dataset.from_dict(inputs).with_format("torch")
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    model = build(LLAMA)
    callback = DepthProfileCallback(metric="perplexity")
    Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[callback]).train()
    tokens = tokens_of(inputs["labels"])
    for depth, value in zip(callback.profile.depths, callback.profile.values, strict=True):
        with torch.no_grad():
            loss = sum_of_losses(truncate(model.eval(), depth), inputs) / tokens
        assert value == pytest.approx(loss.exp().item(), rel=1e-4)
