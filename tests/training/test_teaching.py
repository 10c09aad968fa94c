"""Teaching: a copy learns from its teacher at every depth, and the teacher answers once for each example."""

import copy
import errno
import os

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, default_data_collator

from acn_hf import (
    DepthProfileCallback,
    DistillationLoss,
    IntermediateSupervisionCallback,
    measure_depth_profile,
    teach,
)
from acn_hf.training.answers import ROW, AnswerBook, numbered
from tests.support import training
from tests.support.any_models import ALL

BY_NAME = {one.name: one for one in ALL}
ROWS = 24


def rows_of(kind, number=ROWS):
    """Return rows of the inputs of a model of transformers, with labels."""
    torch.manual_seed(1)
    batch = kind.inputs()
    picks = torch.randint(len(next(iter(batch.values()))), (number,))
    noise = {name: torch.randn(number, *value.shape[1:]) for name, value in batch.items() if value.is_floating_point()}
    return [
        {
            **{name: noise[name][row] if name in noise else value[pick] for name, value in batch.items()},
            "labels": row % 2,
        }
        for row, pick in enumerate(picks.tolist())
    ]


def make(folder, rows, *, kind=Trainer, **options):
    settings = {"max_steps": 9, "per_device_train_batch_size": 8, "eval_strategy": "no", "save_strategy": "no"}
    arguments = training.arguments(folder, **{**settings, **options})
    return lambda student: kind(student, arguments, train_dataset=rows)


def by_hand(model, folder, rows, **options):
    """Return what the parts make of a copy: a teacher that is asked in every step, and supervision."""
    student = copy.deepcopy(model)
    trainer = make(folder, rows, **options)(student)
    IntermediateSupervisionCallback("uniform", distillation=DistillationLoss(model, soft_labels=0.5)).attach(trainer)
    trainer.train()
    return student


@pytest.mark.parametrize("remember", [True, False, None])
@pytest.mark.parametrize("name", ["BertForSequenceClassification", "ViTForImageClassification"])
def test_a_copy_is_taught_as_by_the_parts(name, remember, tmp_path):
    """To the bit where batches are those of the teacher's; answers of other batches differ by rounding."""
    model, rows = BY_NAME[name].build(), rows_of(BY_NAME[name])
    before = training.weights(model)
    taught = teach(model, make(tmp_path / "one", rows), remember=remember)
    expected = by_hand(model, tmp_path / "two", rows)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(taught.state_dict()[name], weight, rtol=1e-4, atol=1e-5)
    assert training.same_weights(before, training.weights(model))
    assert not training.same_weights(before, training.weights(taught))
    assert not any(module.training for module in taught.modules())


class Counting(torch.nn.Module):
    """Counts how many examples go through a layer."""

    def __init__(self, model):
        super().__init__()
        self.seen = 0
        model.base_model.register_forward_hook(self._count)

    def _count(self, module, args, output):
        self.seen += len(output[0])


@pytest.mark.parametrize(
    ("remember", "epochs", "seen"), [(None, 3, ROWS), (False, 3, 3 * ROWS), (None, 1, ROWS), (True, 1, ROWS)]
)
def test_the_teacher_answers_once_for_each_example(tmp_path, remember, epochs, seen):
    kind = BY_NAME["BertForSequenceClassification"]
    teacher = kind.build()
    counting = Counting(teacher)
    options = {"max_steps": -1, "num_train_epochs": epochs}
    teach(kind.build(), make(tmp_path, rows_of(kind), **options), teacher=teacher, remember=remember, calm=False)
    assert counting.seen == seen


def test_another_model_teaches(tmp_path):
    """A larger one: what the copy says comes closer to it."""
    kind = BY_NAME["BertForSequenceClassification"]
    student, rows = kind.build(), rows_of(kind)
    teacher = kind.build(num_hidden_layers=6, hidden_size=48)
    batch = default_data_collator(rows)
    batch.pop("labels")
    taught = teach(student, make(tmp_path, rows, max_steps=30), teacher=teacher)
    with torch.no_grad():
        wanted, before, after = (model(**batch).logits.softmax(-1) for model in (teacher, student, taught))
    assert (after - wanted).abs().mean() < (before - wanted).abs().mean()


class Noisy(torch.utils.data.Dataset):
    """Images that are another one whenever they are read, one time in ten."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        row = dict(self.rows[place])
        if torch.rand(()) < 0.1:
            row["pixel_values"] = row["pixel_values"].flip(-1)
        return row


def _noisy_collator(rows):
    batch = default_data_collator(rows)
    return {**batch, "pixel_values": batch["pixel_values"] + 0.1 * torch.randn_like(batch["pixel_values"])}


@pytest.mark.parametrize("where", ["rows", "collator", "stream", "states", "tokens"])
def test_where_answers_change_the_teacher_is_asked_in_every_step(tmp_path, where):
    kind = BY_NAME["ViTForImageClassification" if where != "tokens" else "BertForTokenClassification"]
    rows = rows_of(kind, 80)
    if where == "tokens":
        rows = [{**row, "labels": row["input_ids"] % 2} for row in rows]
    options, collate = {}, default_data_collator
    if where == "rows":
        rows = Noisy(rows)
    elif where == "collator":
        collate = _noisy_collator
    elif where == "stream":
        rows = Dataset.from_list([{**row, "pixel_values": row["pixel_values"].tolist()} for row in rows])
        rows = rows.to_iterable_dataset()
    elif where == "states":
        options = {"depth_states": 0.1}
    arguments = training.arguments(
        tmp_path, max_steps=12, per_device_train_batch_size=20, eval_strategy="no", save_strategy="no"
    )

    def make_trainer(student):
        return Trainer(student, arguments, train_dataset=rows, data_collator=collate)

    teacher = kind.build()
    counting = Counting(teacher)
    teach(kind.build(), make_trainer, teacher=teacher, **options)
    assert counting.seen >= 12 * 20 - 20  # a stream may end with a smaller batch
    with pytest.raises(ValueError, match="remember=True needs a teacher that says one vector about each row"):
        teach(kind.build(), make_trainer, teacher=teacher, remember=True, **options)


def test_answers_are_those_of_the_teacher_row_by_row(tmp_path):
    """Padded to any length, in any order; the rows may have columns that the model does not take."""
    kind = BY_NAME["BertForSequenceClassification"]
    model = kind.build()
    torch.manual_seed(2)
    texts = [torch.randint(5, 50, (length,)).tolist() for length in torch.randint(2, 30, (70,)).tolist()]
    data = Dataset.from_dict({"input_ids": texts, "labels": [0, 1] * 35, "text": ["x"] * 70})
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    collate = DataCollatorWithPadding(tokenizer)
    arguments = training.arguments(tmp_path, eval_strategy="no")
    trainer = Trainer(model, arguments, train_dataset=data, data_collator=collate)
    answers = AnswerBook(tmp_path / "book").answers(trainer, DistillationLoss(model))
    rows = torch.tensor([69, 0, 33])
    with torch.no_grad():
        wanted = torch.cat([model(input_ids=torch.tensor([texts[row]])).logits for row in rows])
    torch.testing.assert_close(answers.lesson(rows).logits, wanted, rtol=1e-4, atol=1e-5)
    again = AnswerBook(tmp_path / "book", _fails).answers(trainer, DistillationLoss(model))  # read from the file
    assert torch.equal(again.logits, answers.logits)
    with torch.no_grad():
        model.classifier.bias += 1  # another teacher
    other = AnswerBook(tmp_path / "book").answers(trainer, DistillationLoss(model))
    torch.testing.assert_close(other.logits, answers.logits + 1, rtol=1e-4, atol=1e-5)
    with numbered(trainer):
        batch = next(iter(trainer.get_train_dataloader()))
        assert ROW in batch
        assert "text" not in batch
    assert ROW not in next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize("metric", ["loss", "eval_accuracy_at_depth_1"])
def test_the_best_checkpoint_of_a_teaching_stage_is_that_of_full_depth_unless_a_depth_is_named(tmp_path, metric):
    """As docs/compression.md says it: what is evaluated is the model's own loss at full depth."""
    trainers, rows = [], training.data()["validation"]
    options = {"load_best_model_at_end": True, "metric_for_best_model": metric, "learning_rate": 0.3, "max_steps": 8}

    def make_trainer(student):
        trainer = training.trainer(tmp_path, student, **options, greater_is_better=metric != "loss")
        DepthProfileCallback(metric="accuracy").attach(trainer)
        trainers.append(trainer)
        return trainer

    taught = teach(training.build_model(), make_trainer)
    name = metric.removeprefix("eval_")
    logged = [entry[f"eval_{name}"] for entry in trainers[0].state.log_history if f"eval_{name}" in entry]
    best = min(logged) if metric == "loss" else max(logged)
    assert len(set(logged)) > 1
    depth = 1 if "depth" in metric else training.NUM_LAYERS
    found = measure_depth_profile(taught, rows, metric="loss" if metric == "loss" else "accuracy")
    assert found.value_at(depth) == pytest.approx(best, rel=1e-4)


def _fails(batches):
    raise AssertionError("the teacher is asked again")


def test_a_disk_without_room_for_the_answers_is_an_error_before_they_are_written(tmp_path, monkeypatch):
    """A mapped file needs no room when it is made: who writes to it on a full disk is killed."""

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    trainer = training.trainer(tmp_path, eval_strategy="no")
    with pytest.raises(OSError, match="No space left on device"):
        AnswerBook(tmp_path / "book").answers(trainer, DistillationLoss(training.build_model()))
    assert list((tmp_path / "book").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"weights": "squared"}, ValueError, "weights must be 'linear', 'uniform', 'full'"),
        ({"temperature": 0.0}, ValueError, "temperature must be a finite number > 0; got 0.0"),
        ({"teacher": "self"}, TypeError, "a teacher must be a model of transformers with a head; got str"),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path, options, error, text):
    kind = BY_NAME["BertForSequenceClassification"]
    with pytest.raises(error, match=text):
        teach(kind.build(), make(tmp_path, rows_of(kind)), **options)


def test_a_teacher_of_other_classes_is_refused_before_a_weight_changes(tmp_path):
    kind = BY_NAME["BertForSequenceClassification"]
    with pytest.raises(ValueError, match="the teacher must predict what the student predicts"):
        teach(kind.build(), make(tmp_path, rows_of(kind)), teacher=kind.build(num_labels=3))


def test_a_trainer_is_needed(tmp_path):
    kind = BY_NAME["BertForSequenceClassification"]
    with pytest.raises(TypeError, match="must return the Trainer"):
        teach(kind.build(), lambda student: student)


def test_a_taught_model_loads_as_its_class(tmp_path):
    kind = BY_NAME["BertForSequenceClassification"]
    taught = teach(kind.build(), make(tmp_path / "run", rows_of(kind)))
    taught.save_pretrained(tmp_path / "taught")
    read = AutoModelForSequenceClassification.from_pretrained(tmp_path / "taught")
    assert training.same_weights(training.weights(read), training.weights(taught))
