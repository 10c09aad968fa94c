"""Any model of transformers is taught at every depth: the loss and the gradients are those of the models cut there."""

import datasets
import pytest
import torch
from transformers import Trainer, TrainingArguments

from acn_hf import (
    DepthProfileCallback,
    DistillationLoss,
    IntermediateSupervisionCallback,
    depth_logits,
    intermediate_supervision,
    truncate,
)
from acn_hf.training.supervision import depth_weights
from tests.support.any_models import ALL, NUM_LAYERS, any_model, first_of, with_labels, without_chance

HEADED = [entry for entry in ALL if entry.auto not in ("", "AutoModel")]
BERT = any_model("BertForSequenceClassification")


def labelled(entry):
    return with_labels(entry, entry.inputs())


@pytest.mark.parametrize("entry", first_of(HEADED))
def test_loss_and_gradients_are_those_of_the_weighted_sum(entry):
    model, inputs = without_chance(entry), labelled(entry)
    weights = depth_weights("linear", NUM_LAYERS)
    with intermediate_supervision(model, "linear"):
        loss = model(**inputs).loss
        loss.backward()
    learned = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    expected, sums = 0.0, {}
    for depth in range(1, NUM_LAYERS + 1):
        short = truncate(model, depth)
        part = weights[depth] * short(**inputs).loss
        part.backward()
        expected += part.item()
        for name, weight in short.named_parameters():
            if weight.grad is not None:
                sums[name] = sums.get(name, 0) + weight.grad
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert learned.keys() == sums.keys()
    for name, gradient in learned.items():  # sums of the same numbers in another order
        torch.testing.assert_close(gradient, sums[name], rtol=1e-4, atol=1e-6)


def test_the_model_is_left_as_it_was():
    model, inputs = BERT.build(), labelled(BERT)
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    before = model(**inputs).loss
    with intermediate_supervision(model):
        assert torch.equal(model(**inputs).loss, before)  # in eval mode nothing is added
    assert {name: len(module._forward_hooks) for name, module in model.named_modules()} == hooks
    assert torch.equal(model.train().eval()(**inputs).loss, before)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        model = without_chance(BERT)
        if checkpointing:
            model.gradient_checkpointing_enable()
        with intermediate_supervision(model, "uniform"):
            model(**labelled(BERT)).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_layers_that_are_skipped_at_random_are_refused_before_a_step():
    model = any_model("Wav2Vec2ForSequenceClassification").build(layerdrop=0.1)
    text = r"every layer must run in every step to be supervised: config.layerdrop must be 0; got 0.1"
    with pytest.raises(ValueError, match=text):
        intermediate_supervision(model).__enter__()
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_is_not_its_own_teacher():
    model = BERT.build()
    with (
        pytest.raises(ValueError, match="the teacher must be another model than the student; give it a copy"),
        intermediate_supervision(model, distillation=DistillationLoss(model)),
    ):
        pass


def rows(number=24):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (number, 8), generator=generator)
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": (ids[:, 0] > 27).long()}).with_format("torch")


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "ModernBertForSequenceClassification"])
def test_a_trainer_teaches_every_depth_of_a_plain_model(name, tmp_path):
    entry = any_model(name)
    student, teacher, data = entry.build(), entry.build(), rows()
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=8,
        eval_strategy="steps",
        eval_steps=4,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    teaching = DistillationLoss(teacher, soft_labels=0.5, depth_states=1.0)
    trainer = Trainer(student, arguments, train_dataset=data, eval_dataset=data)
    IntermediateSupervisionCallback("uniform", distillation=teaching).attach(trainer)
    DepthProfileCallback(metric="accuracy").attach(trainer)
    before = depth_logits(entry.build(), **entry.inputs())
    trainer.train()
    after = depth_logits(student.eval(), **entry.inputs())
    lowest = 1 - entry.lowest
    assert not any(torch.equal(one, other) for one, other in zip(before[lowest:], after[lowest:], strict=True))
    (logged,) = (entry for entry in trainer.state.log_history if any("accuracy" in name for name in entry))
    assert sum("accuracy" in name for name in logged) >= NUM_LAYERS
    assert not any(module._forward_hooks for module in student.modules())
