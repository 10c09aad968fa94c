"""With one flag a fine-tuned checkpoint teaches every depth of its own copy, or another one teaches."""

import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    Trainer,
    TrainingArguments,
    ViTForMaskedImageModeling,
    ViTModel,
)

from acn_hf.scripts.arguments import DepthArguments, ModelArguments, parse_arguments
from acn_hf.scripts.models import build_model, label_fields
from acn_hf.scripts.teachers import ANSWERS
from acn_hf.scripts.training_run import metric_functions, run
from acn_hf.training.distillation import DistillationLoss
from tests.support.training import arguments, data, same_weights, weights

VIT = "image_size=8,patch_size=4,hidden_size=16,intermediate_size=32,num_attention_heads=2,num_hidden_layers=2"
DIGITS = label_fields([f"digit {number}" for number in range(10)])
KINDS = (ModelArguments, DepthArguments, TrainingArguments)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """A saved ViT of ten digits."""
    folder = tmp_path_factory.mktemp("tuned")
    load(ModelArguments(model_type="vit", config_overrides=VIT)).save_pretrained(folder)
    return str(folder)


def load(asked, checkpoint=None, from_data=DIGITS):
    return build_model(
        AutoModelForImageClassification, asked, default_type="acn_vit", from_data=from_data, checkpoint=checkpoint
    )


def trainer_of(folder, model, **options):
    options = {"do_train": True, "eval_strategy": "no", "num_train_epochs": 2, "max_steps": -1, **options}
    return Trainer(model, arguments(folder, **options), train_dataset=data()["train"], **metric_functions("accuracy"))


def taught(folder, depth, tuned, checkpoint=None, **options):
    """Return the weights of a run that begins with a checkpoint."""
    torch.manual_seed(0)
    trainer = trainer_of(folder, load(ModelArguments(tuned), checkpoint), **options)
    run(trainer, depth, metric="accuracy", checkpoint=checkpoint)
    return weights(trainer.model)


def with_self(tuned, **options):
    depth = DepthArguments(teach="self", **options)
    depth.origin = ModelArguments(tuned)
    return depth


def test_one_flag_is_short_for_two(tuned, tmp_path):
    """And for the long form the teacher is the checkpoint, not the model that is trained."""
    long = DepthArguments(supervision="uniform", distill_from=tuned, distill_soft_labels=0.5)
    alike = [
        taught(tmp_path / name, depth, tuned)
        for name, depth in {"self": with_self(tuned), "named": DepthArguments(teach=tuned), "long": long}.items()
    ]
    assert same_weights(alike[0], alike[1])
    assert same_weights(alike[0], alike[2])
    alone = taught(tmp_path / "alone", DepthArguments(supervision="uniform"), tuned)
    assert not same_weights(alike[0], alone)


def test_other_weights_of_the_depths_may_be_asked_for(tuned):
    assert with_self(tuned).weights == "uniform"
    assert with_self(tuned, supervision="linear").weights == "linear"
    assert DepthArguments(distill_from=tuned).weights == "full"
    assert with_self(tuned, supervision_depths=1).supervision_depths == 1


@pytest.fixture
def asked(monkeypatch):
    """The sizes of the batches that a teacher is asked about in a step."""
    sizes, ask = [], DistillationLoss.ask

    def counted(self, inputs, device):
        sizes.append(len(inputs["pixel_values"]))
        return ask(self, inputs, device)

    monkeypatch.setattr(DistillationLoss, "ask", counted)
    return sizes


def test_the_answers_are_remembered_and_left_nowhere(tuned, tmp_path, asked):
    taught(tmp_path / "two", with_self(tuned), tuned)
    assert asked == []
    assert not (tmp_path / "two" / ANSWERS).exists()
    taught(tmp_path / "one", with_self(tuned), tuned, num_train_epochs=1)
    assert sum(asked) == len(data()["train"])  # there is nothing to remember in one epoch


def test_a_run_that_is_stopped_goes_on_with_the_same_teacher(tuned, tmp_path):
    whole = taught(tmp_path / "whole", with_self(tuned), tuned)
    checkpoint = str(tmp_path / "whole" / "checkpoint-6")
    resumed = taught(tmp_path / "resumed", with_self(tuned), tuned, checkpoint)
    assert same_weights(whole, resumed)


def parse(*argv):
    return parse_arguments(KINDS, "What it does.", [str(argument) for argument in (*argv, "--output_dir", "out")])


def test_the_checkpoint_that_is_trained_teaches_itself(tuned):
    _, depth, _ = parse("--teach", "self", "--model_name_or_path", tuned, "--revision", "v1")
    assert depth.teacher == tuned
    assert depth.origin.revision == "v1"
    assert parse("--teach", "other", "--model_name_or_path", tuned)[1].teacher == "other"
    assert parse("--model_name_or_path", tuned)[1].teacher is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--teach", "self"), "--teach self needs the fine-tuned checkpoint that teaches its copy: --model_name_or"),
        (
            ("--teach", "a", "--distill_from", "b"),
            "--teach and --distill_from both name a teacher: give one of a and b",
        ),
        (("--teach", "a", "--supervision", "none"), "--teach trains every depth, and --supervision none full depth"),
        (("--teach", "a", "--distill_soft_labels", 0), "--distill_soft_labels must be above 0; got 0"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_flags_that_contradict_each_other_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        parse(*flags)


def refused(depth, model, tmp_path, message):
    metric = "loss" if isinstance(model, ViTForMaskedImageModeling) else "accuracy"
    with pytest.raises(ValueError, match=message):
        run(trainer_of(tmp_path / "out", model), depth, metric=metric)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_checkpoint_without_the_head_cannot_teach_itself(tuned, tmp_path):
    ViTModel.from_pretrained(tuned).save_pretrained(tmp_path / "bare")
    depth = with_self(str(tmp_path / "bare"))
    text = "must have the head of a ViTForImageClassification; .*bare was saved as ViTModel; fine-tune it first"
    refused(depth, load(ModelArguments(tuned)), tmp_path, text)
    depth = DepthArguments(teach=str(tmp_path / "bare"))
    refused(depth, load(ModelArguments(tuned)), tmp_path, "bare was saved as ViTModel$")


def test_masked_images_are_not_taught_by_soft_labels(tuned, tmp_path):
    model = ViTForMaskedImageModeling.from_pretrained(tuned, encoder_stride=4)
    refused(DepthArguments(teach=tuned), model, tmp_path, "masked images have no soft labels: give --distill_from, ")


@pytest.mark.parametrize("names", [["cat", "dog"], list("abcdefghij")], ids=["fewer", "others"])
def test_a_teacher_of_other_classes_is_refused(tuned, tmp_path, names):
    model = load(ModelArguments(tuned, ignore_mismatched_sizes=True), from_data=label_fields(names))
    text = rf"must have the classes of the student, in the order {', '.join(names)}; .* has digit 0, digit 1, "
    refused(DepthArguments(teach=tuned), model, tmp_path, text)


def test_a_teacher_without_names_of_classes_may_teach(tuned, tmp_path):
    asked = ModelArguments(model_type="vit", config_overrides=f"{VIT},num_labels=10")
    load(asked, from_data={}).save_pretrained(tmp_path / "unnamed")
    taught(tmp_path / "out", DepthArguments(teach=str(tmp_path / "unnamed")), tuned, num_train_epochs=1)
