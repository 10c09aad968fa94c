"""Massive activations: found where they silence depths, taken out of the copy, and nothing else is touched."""

import pytest
import torch
from transformers import Trainer

from acn_hf import teach
from acn_hf.depth.layers import layers_of
from acn_hf.training.calming import Calmed, calm, calm_student, massive_units
from tests.support import training
from tests.support.adapted import quiet
from tests.support.any_models import ALL

BERT = next(one for one in ALL if one.name == "BertForSequenceClassification")
UNIT = 5


def examples(number=3):
    torch.manual_seed(0)
    return [{"input_ids": torch.randint(5, 50, (8, 9)), "labels": torch.randint(2, (8,))} for _ in range(number)]


def rows_of(batches):
    return [
        {"input_ids": ids, "labels": label} for batch in batches for ids, label in zip(*batch.values(), strict=True)
    ]


def massive(depths=(0, 1, 2)):
    """A BERT in which a few weights of some layers make one unit of the states as large as all others together."""
    model = BERT.build()
    with torch.no_grad():
        model.classifier.weight *= 50
        for index in depths:
            layer = layers_of(model)[index]
            layer.output.dense.weight[UNIT, 3] = 600.0
            layer.intermediate.dense.bias[3] = 1.0  # so that it is written for every token
            layer.output.LayerNorm.weight[UNIT] *= 4
    return model


def spread(model, depth):
    from acn_hf import depth_logits

    logits = depth_logits(model, input_ids=examples(1)[0]["input_ids"])
    return logits[depth].std(0).mean().item()


def test_the_unit_is_found():
    assert massive_units(massive(), examples()) == [UNIT]
    assert massive_units(BERT.build(), examples()) == []


def test_padding_has_no_massive_units():
    model, batch = BERT.build(), examples(1)[0]
    mask = torch.ones_like(batch["input_ids"])
    mask[:, 5:] = 0
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[0] = 0
        model.bert.embeddings.word_embeddings.weight[0, UNIT] = 1e4
    batch["input_ids"][:, 5:] = 0
    assert massive_units(model, [batch]) != massive_units(model, [{**batch, "attention_mask": mask}]) == []


def test_silent_depths_tell_examples_apart_afterwards():
    model, teacher = massive(), BERT.build()
    with torch.no_grad():
        teacher.classifier.weight *= 50
    before = [spread(model, depth) for depth in (1, 2, 3)]
    calmed = calm(model, examples(), teacher, range(1, 5))
    assert isinstance(calmed, Calmed)
    assert calmed.units == (UNIT,)
    assert set(calmed.silent) <= {1, 2, 3, 4}
    assert calmed.num_clipped >= 3
    after = [spread(model, depth) for depth in (1, 2, 3)]
    assert all(new > 3 * old for new, old in zip(after, before, strict=True)), (before, after)
    assert "massive activations (unit 5) kept depth" in str(calmed)
    assert Calmed.from_dict(calmed.to_dict()) == calmed


@pytest.mark.parametrize("kind", ALL[:12], ids=lambda kind: kind.name)
def test_other_models_are_left_as_they_are(kind):
    """Also random ones, whose depths all say about as much."""
    model = kind.build()
    before = training.weights(model)
    assert calm(model, [kind.inputs()], kind.build(), range(1, 5)) is None
    assert training.same_weights(before, training.weights(model))


def test_a_head_that_reads_every_token_is_left_alone():
    """And nothing of the size of all its logits is kept."""
    kind = next(one for one in ALL if one.name == "BertForTokenClassification")
    model = kind.build()
    model.bert.load_state_dict(massive().bert.state_dict(), strict=False)
    assert massive_units(model, examples()) == [UNIT]
    assert calm(model, examples(), kind.build(), range(1, 5)) is None


@quiet  # peft asks by an old name
def test_what_is_below_adapters_is_left_alone(tmp_path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(massive(), LoraConfig(target_modules=["query"]))
    trainer = Trainer(adapted, training.arguments(tmp_path, eval_strategy="no"), train_dataset=rows_of(examples()))
    assert calm_student(trainer, BERT.build(), "uniform") is None


def test_what_does_not_help_is_undone():
    """A depth that is silent for another reason: its states are the same for all texts."""
    model = massive()
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[:] = model.bert.embeddings.word_embeddings.weight[7].clone()
    before, teacher = training.weights(model), BERT.build()
    assert calm(model, examples(), teacher, range(1, 5)) is None
    assert training.same_weights(before, training.weights(model))


def test_random_numbers_of_the_training_are_those_without_it(tmp_path):
    rows = [
        {"input_ids": ids, "labels": label} for batch in examples() for ids, label in zip(*batch.values(), strict=True)
    ]
    trainer = Trainer(massive(), training.arguments(tmp_path, eval_strategy="no"), train_dataset=rows)
    teacher = BERT.build()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    calm_student(trainer, teacher, "uniform")
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("calmed", [True, False])
def test_a_copy_is_calmed_before_it_is_taught_and_the_model_is_not(tmp_path, calmed):
    rows = [
        {"input_ids": ids, "labels": label} for batch in examples() for ids, label in zip(*batch.values(), strict=True)
    ]
    arguments = training.arguments(tmp_path, max_steps=1, learning_rate=1e-9, eval_strategy="no", save_strategy="no")
    model, teacher = massive(), BERT.build()
    before = training.weights(model)
    taught = teach(model, lambda student: Trainer(student, arguments, train_dataset=rows), teacher=teacher, calm=calmed)
    assert training.same_weights(before, training.weights(model))
    largest = layers_of(taught)[0].output.dense.weight.abs().max().item()
    assert (largest < 300) is calmed
