"""Distillation: the loss is what the formula says, at every depth that takes part, and the teacher stays as it is."""

import copy

import pytest
import torch
from torch.nn import functional
from transformers import TrainerCallback

from acn_hf import (
    DistillationLoss,
    IntermediateSupervisionCallback,
    ResidualAnnealingCallback,
    from_residual,
    intermediate_supervision,
)
from acn_hf.modeling.depth import depth_outputs, output_logits
from acn_hf.training.supervision import depth_weights
from tests.support.families import NUM_LAYERS, TRAINED, by_name, each_head
from tests.support.training import build_model, doubled, same_weights, train_one_step, trainer, weights

CLASSIFIER = by_name("bert-ForSequenceClassification")
TOKENS = by_name("bert-ForTokenClassification")
IMAGES = by_name("vit-ForImageClassification")
WITH_SOFT_LABELS = [head for head in TRAINED if "MaskedImage" not in head.name]


def teacher_of(model):
    """Return another network with the head of `model`."""
    teacher = copy.deepcopy(model)
    torch.manual_seed(5)
    for parameter in teacher.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return teacher.eval()


def soft_loss(output, teacher_output, inputs, temperature):
    """Return the cross entropy of the student to the teacher minus the teacher's entropy, written out."""
    if "start_logits" in output:
        pairs = [(output[f"{end}_logits"], teacher_output[f"{end}_logits"]) for end in ("start", "end")]
    else:
        pairs = [(output_logits(output), output_logits(teacher_output))]
    rows = []
    for student, teacher in pairs:
        student, teacher = student.flatten(0, -2), teacher.flatten(0, -2)
        if output_logits(output).ndim == 3 and "start_logits" not in output:
            counted = inputs["labels"].flatten() != -100
            student, teacher = student[counted], teacher[counted]
        target = torch.softmax(teacher / temperature, dim=-1)
        rows.append((target * (target.log() - torch.log_softmax(student / temperature, dim=-1))).sum(dim=-1))
    return temperature**2 * torch.cat(rows).mean()


@each_head(WITH_SOFT_LABELS)
@pytest.mark.parametrize("kind", ["full", "linear"])
def test_soft_labels_are_those_of_the_formula(build, head, kind):
    model, inputs = build(head).train(), head.inputs(labels=True)
    teacher = teacher_of(model)
    with torch.no_grad():
        lesson = teacher(**inputs)
    shares = depth_weights(kind, NUM_LAYERS)
    expected = sum(
        share * (0.7 * output.loss + 0.3 * soft_loss(output, lesson, inputs, 3.0))
        for share, (_, output) in zip(shares, depth_outputs(model, inputs), strict=True)
    )
    distillation = DistillationLoss(teacher, soft_labels=0.3, temperature=3.0)
    with intermediate_supervision(model, kind, distillation=distillation):
        torch.testing.assert_close(model(**inputs).loss, expected)


@pytest.mark.parametrize("counts", [{}, {"num_items_in_batch": 0}, {"num_items_in_batch": torch.tensor(0)}], ids=str)
@pytest.mark.parametrize("name", ["bert-ForTokenClassification", "bert-ForMaskedLM"])
def test_a_batch_without_labels_teaches_nothing(build, name, counts):
    """As of words of which the tokenizer makes no token: the step leaves every weight a number."""
    head = by_name(name)
    model, inputs = build(head).train(), head.inputs(labels=True)
    inputs["labels"] = torch.full_like(inputs["labels"], -100)
    with intermediate_supervision(model, "uniform", distillation=DistillationLoss(teacher_of(model))):
        loss = model(**inputs, **counts).loss
    loss.backward()
    assert loss == 0
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


@each_head(TRAINED)
def test_states_are_compared_as_the_head_reads_them(build, head):
    model, inputs = build(head).train(), head.inputs(labels=True)
    teacher = teacher_of(model)
    unlabelled = {name: value for name, value in inputs.items() if name in head.inputs()}
    with torch.no_grad():
        flat = {
            name: value.flatten(0, 1) if "MultipleChoice" in head.name else value for name, value in unlabelled.items()
        }
        target = teacher.base_model(**flat).last_hidden_state
        states = model.base_model(**flat, output_hidden_states=True).hidden_states
    expected = 0.0
    for share, (depth, output) in zip(depth_weights("linear", NUM_LAYERS), depth_outputs(model, inputs), strict=True):
        state = model.base_model.readout(states[depth]).last_hidden_state
        distance = (((state - target) ** 2).sum(-1) / (target**2).sum(-1)).mean()
        expected += share * (output.loss + 2.0 * distance)
    distillation = DistillationLoss(teacher, soft_labels=0.0, depth_states=2.0)
    with intermediate_supervision(model, distillation=distillation):
        torch.testing.assert_close(model(**inputs).loss, expected)


def test_padding_has_no_part_in_the_states(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    teacher = teacher_of(model)
    padded = {**inputs, "attention_mask": torch.ones(2, 10, dtype=torch.long)}
    for name in ("input_ids", "token_type_ids"):
        padded[name] = functional.pad(inputs[name], (0, 3))
    padded["attention_mask"][:, 7:] = 0
    distillation = DistillationLoss(teacher, depth_states=1.0)
    with intermediate_supervision(model, distillation=distillation):
        torch.testing.assert_close(model(**padded).loss, model(**inputs).loss)


def test_several_labels_at_once_and_numbers(build):
    for options, expected in (
        (
            {"problem_type": "multi_label_classification"},
            lambda s, t: functional.binary_cross_entropy_with_logits(s, torch.sigmoid(t)),
        ),
        ({"num_labels": 1}, functional.mse_loss),
    ):
        model = build(CLASSIFIER, **options).train()
        inputs = CLASSIFIER.inputs()
        inputs["labels"] = torch.rand(2, model.config.num_labels).squeeze(-1)
        teacher = teacher_of(model)
        teacher.config.problem_type = None  # the student's counts
        plain = model(**inputs)
        wanted = expected(plain.logits, teacher(**inputs).logits)
        with intermediate_supervision(model, "full", distillation=DistillationLoss(teacher, soft_labels=1.0)):
            torch.testing.assert_close(model(**inputs).loss, wanted)


@each_head([CLASSIFIER, TOKENS, IMAGES])
def test_accumulation_makes_the_step_of_the_whole_batch(build, head, tmp_path):
    """Some models divide by the labels of the whole step, and the Trainer then does not divide by the batches."""
    inputs, moved = doubled(head.inputs(batch_size=16, labels=True)), []
    for batch_size, accumulation in ((16, 1), (4, 4)):
        model = build(head).double()
        lesson = DistillationLoss(teacher_of(model), soft_labels=0.7, depth_states=0.5)
        with intermediate_supervision(model, distillation=lesson):
            moved.append(train_one_step(model, inputs, tmp_path, batch_size, accumulation))
    for name, step in moved[0].items():
        torch.testing.assert_close(moved[1][name], step, rtol=1e-6, atol=1e-9, msg=name)


@each_head([CLASSIFIER, IMAGES])
def test_a_residual_teacher_of_upstream(build, head):
    """A converted model at scale 1 agrees with its original: nothing is to be learnt from it."""
    teacher = head.build_upstream(build(head, residual_scale=1.0))
    model = from_residual(teacher, residual_scale=1.0).train()
    inputs = head.inputs(labels=True)
    with intermediate_supervision(model, "full", distillation=DistillationLoss(teacher, soft_labels=1.0)):
        assert model(**inputs).loss.abs() < 1e-6
    states = DistillationLoss(teacher, soft_labels=0.0, depth_states=1.0)
    with intermediate_supervision(model, "full", distillation=states):
        assert torch.equal(model(**inputs).loss, model.eval()(**inputs).loss)


def test_the_teacher_learns_nothing_and_hears_no_labels(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    teacher = teacher_of(model).train()
    before, heard = weights(teacher), []
    teacher.register_forward_pre_hook(
        lambda module, args, kwargs: heard.append((module.training, set(kwargs))), with_kwargs=True
    )
    with intermediate_supervision(model, distillation=DistillationLoss(teacher)):
        model(**inputs).loss.backward()
        model(**inputs).loss.backward()
    assert teacher.training, "it is as it was"
    assert same_weights(weights(teacher), before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert len(heard) == 2, "the teacher runs once a pass"
    assert all("labels" not in names and not training for training, names in heard)
    assert not teacher.base_model._forward_hooks


def test_only_training_is_taught(build):
    model, inputs = build(CLASSIFIER), CLASSIFIER.inputs(labels=True)
    plain = model(**inputs).loss
    with intermediate_supervision(model, distillation=DistillationLoss(teacher_of(model))):
        assert torch.equal(model(**inputs).loss, plain)


def test_a_trainer_saves_the_student_alone(tmp_path):
    run = trainer(tmp_path)
    lesson = DistillationLoss(teacher_of(run.model), soft_labels=0.5, depth_states=0.5)
    run.add_callback(IntermediateSupervisionCallback("uniform", distillation=lesson))
    names = set(run.model.state_dict())
    run.train()
    assert set(type(run.model).from_pretrained(tmp_path / "checkpoint-6").state_dict()) == names


def test_an_interrupted_training_is_undone(tmp_path):
    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    model = build_model()
    for callback in (
        IntermediateSupervisionCallback(distillation=DistillationLoss(teacher_of(model))),
        ResidualAnnealingCallback(distillation=DistillationLoss(teacher_of(model))),
    ):
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path, model, callbacks=[callback, Interrupt()]).train()
        with pytest.raises(ValueError, match=r"training was interrupted: callback\.remove\(\)"):
            intermediate_supervision(model).__enter__()
        callback.remove()
        assert not model._forward_hooks


def test_bfloat16_autocast(build):
    model, inputs = build(CLASSIFIER).train(), CLASSIFIER.inputs(labels=True)
    with intermediate_supervision(model, distillation=DistillationLoss(teacher_of(model), depth_states=1.0)):
        exact = model(**inputs).loss
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = model(**inputs).loss
    torch.testing.assert_close(low, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"soft_labels": 1.5}, "soft_labels must lie in \\[0, 1\\]; got 1.5"),
        ({"soft_labels": float("nan")}, "soft_labels must lie in \\[0, 1\\]; got nan"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0; got 0.0"),
        ({"depth_states": -1.0}, "depth_states must be a finite number >= 0; got -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(build, options, text):
    with pytest.raises(ValueError, match=text):
        DistillationLoss(build(CLASSIFIER), **options)


def test_teachers_that_do_not_fit_are_refused(build):
    with pytest.raises(TypeError, match=r"a model of transformers with a head; got AcnBertModel"):
        DistillationLoss(build(CLASSIFIER).bert)
    with pytest.raises(TypeError, match="with a head; got str"):
        DistillationLoss("bert-base-uncased")
    inputs = CLASSIFIER.inputs(labels=True)
    other_classes = DistillationLoss(build(CLASSIFIER, num_labels=5))
    model = build(CLASSIFIER).train()
    with (
        pytest.raises(ValueError, match=r"logits of shape \(2, 3\); got \(2, 5\)"),
        intermediate_supervision(model, distillation=other_classes),
    ):
        model(**inputs)
    narrower = DistillationLoss(build(CLASSIFIER, hidden_size=8), depth_states=1.0)
    with (
        pytest.raises(ValueError, match=r"shape of the student's, \(2, 7, 16\); got \(2, 7, 8\)"),
        intermediate_supervision(model, distillation=narrower),
    ):
        model(**inputs)
    with (
        pytest.raises(TypeError, match="return_dict must be True; got False"),
        intermediate_supervision(model, distillation=DistillationLoss(teacher_of(model))),
    ):
        model(**inputs, return_dict=False)
    masked = by_name("vit-ForMaskedImageModeling")
    painter = build(masked).train()
    with (
        pytest.raises(ValueError, match=r"masked images have no soft labels: soft_labels must be 0; got 1\.0"),
        intermediate_supervision(painter, distillation=DistillationLoss(teacher_of(painter))),
    ):
        painter(**masked.inputs(labels=True))
