"""A `Trainer` trains adapters of an ACN: what gets gradients, checkpoints, resuming, and the cut afterwards."""

import peft
import pytest
import torch
from transformers import Trainer, TrainingArguments

from acn_hf import DepthError, compress, depth_logits, lora_config, truncate
from acn_hf.support.wrappers import unwrap
from tests.support.adapted import any_peft, output, quiet
from tests.support.families import TRAINED, by_name, each_head

__all__ = ["any_peft"]
old_names = [
    pytest.mark.filterwarnings(f"ignore:`gradient_checkpointing{name}` is deprecated:FutureWarning")
    for name in ("", "_enable")
]
pytestmark = [quiet, *old_names, pytest.mark.usefixtures("any_peft")]
BERT, VIT = by_name("bert-ForSequenceClassification"), by_name("vit-ForImageClassification")
STEPS = 4


def by_peft(model):
    torch.manual_seed(4)
    return peft.get_peft_model(model, lora_config(model, r=2))


def by_transformers(model):
    torch.manual_seed(4)
    model.add_adapter(lora_config(model, r=2))
    return model


each_way = pytest.mark.parametrize("adapt", [by_peft, by_transformers], ids=["get_peft_model", "add_adapter"])


def trainer(model, head, folder, steps=STEPS, **options) -> Trainer:
    """Return a Trainer of eight examples in batches of eight, which every step sees whole."""
    inputs = head.inputs(batch_size=8, labels=True)
    examples = [{name: value[index] for name, value in inputs.items()} for index in range(8)]
    fields = {
        "per_device_train_batch_size": 8,
        "max_steps": steps,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "save_steps": 2,
        "logging_steps": 1,
        "remove_unused_columns": False,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(model, TrainingArguments(output_dir=str(folder), **fields | options), train_dataset=examples)


def losses(run: Trainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


@each_way
@each_head(TRAINED)
def test_the_adapter_learns_and_the_rest_stays(build, head, adapt, tmp_path):
    model = adapt(build(head))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run = trainer(model, head, tmp_path, save_strategy="no")
    run.train()
    assert losses(run)[-1] < losses(run)[0]
    for name, parameter in model.named_parameters():
        learned = ".lora_" in name or ".modules_to_save." in name
        assert parameter.requires_grad == learned
        if not learned:
            assert torch.equal(parameter, before[name]), name
        elif ".lora_B." in name or ".modules_to_save." in name:
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("head", [BERT, VIT], ids=["bert", "vit"])
def test_resuming_gives_the_same_adapter(build, head, tmp_path):
    whole, half = by_peft(build(head)), by_peft(build(head))
    trainer(whole, head, tmp_path / "whole").train()
    trainer(half, head, tmp_path / "half", steps=2).train()
    assert not torch.equal(output(half.eval(), head), output(whole.eval(), head))
    resumed = by_peft(build(head))
    trainer(resumed, head, tmp_path / "half").train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-2"))
    assert torch.equal(output(resumed.eval(), head), output(whole, head))
    trainer(resumed, head, tmp_path / "saved").save_model()
    again = peft.PeftModel.from_pretrained(build(head), tmp_path / "saved")
    assert torch.equal(output(again, head), output(whole, head))


@pytest.mark.parametrize("head", [BERT, VIT], ids=["bert", "vit"])
def test_resuming_at_another_depth_is_refused(build, head, tmp_path):
    trainer(by_peft(build(head)), head, tmp_path, steps=2).train()
    short = by_peft(truncate(build(head), 2))
    with pytest.raises(DepthError, match="those of 3 layers and this model has 2"):
        trainer(short, head, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@each_way
@pytest.mark.parametrize("head", [BERT, VIT], ids=["bert", "vit"])
def test_gradient_checkpointing_changes_nothing(build, head, adapt, tmp_path):
    gradients = []
    for checkpointing in (False, True):
        model = adapt(build(head)).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
        model(**head.inputs(labels=True)).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        assert unwrap(model).is_gradient_checkpointing == checkpointing
    for name, gradient in gradients[0].items():
        if ".lora_" in name or ".modules_to_save." in name:
            assert gradient.any(), name
            torch.testing.assert_close(gradients[1][name], gradient)
        else:
            assert gradient is gradients[1][name] is None, name


@each_way
@pytest.mark.parametrize("head", [BERT, VIT], ids=["bert", "vit"])
def test_a_model_that_trained_with_checkpointing_is_cut(build, head, adapt, tmp_path):
    model = adapt(build(head))
    run = trainer(model, head, tmp_path, gradient_checkpointing=True)
    run.train()
    assert losses(run)[-1] < losses(run)[0]
    expected = depth_logits(model.eval(), **head.inputs())
    for depth, logits in enumerate(expected):
        assert torch.equal(output(truncate(model, depth), head), logits)
    result = compress(model, [head.inputs(batch_size=4, labels=True)], depths=[1], metric="loss", tolerance=1e9)
    result.model.save_pretrained(tmp_path / "short")
    again = head.acn.from_pretrained(tmp_path / "short")
    torch.testing.assert_close(output(again, head), expected[1].detach(), rtol=1e-4, atol=1e-4)
