"""A Trainer on a small AC-ViT and scikit-learn's digits, which many tests share."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from acn_hf import AcnViTConfig, AcnViTForImageClassification
from acn_hf.demo import digits

NUM_LAYERS = 4
CHECKPOINTING = {
    next(
        name for name in ("activation_checkpointing", "gradient_checkpointing") if hasattr(TrainingArguments, name)
    ): True
}
"""Gradient checkpointing, under the name that this release of transformers has for it."""
ACCUMULATION, BFLOAT16 = {"gradient_accumulation_steps": 2}, {"bf16": True}


def some_of(fast: Sequence[tuple], *axes: Sequence) -> list:
    """Return the product of some axes as parameters of a test; all but the fast ones are for `make test-all`."""
    every = list(product(*axes))
    assert all(values in every for values in fast)
    return [pytest.param(*values, marks=() if values in fast else pytest.mark.full) for values in every]


@cache
def data() -> dict[str, Any]:
    """Return 80 training and 80 validation digits."""
    return {name: rows.select(range(80)) for name, rows in digits().items()}


def build_model(seed: int = 0, **options: Any) -> AcnViTForImageClassification:
    set_seed(seed)
    fields = {
        "image_size": 8,
        "patch_size": 4,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": NUM_LAYERS,
        "num_labels": 10,
    }
    return AcnViTForImageClassification(AcnViTConfig(**{**fields, **options}))


def arguments(folder: Any, **options: Any) -> TrainingArguments:
    """Return arguments of a run of six steps, which evaluates and saves every second step."""
    defaults = {
        "max_steps": 6,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "learning_rate": 1e-2,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
    return TrainingArguments(str(folder), **{**defaults, **options})


def trainer(folder: Any, model: torch.nn.Module | None = None, **options: Any) -> Trainer:
    callbacks = options.pop("callbacks", None)
    return Trainer(
        model=build_model() if model is None else model,
        args=arguments(folder, **options),
        train_dataset=data()["train"],
        eval_dataset=data()["validation"],
        callbacks=callbacks,
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def doubled(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the inputs with floating-point tensors in float64."""
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


def train_one_step(
    model: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    folder: Any,
    batch_size: int,
    accumulation: int,
    callbacks: Sequence[TrainerCallback] = (),
    **options: Any,
) -> dict[str, torch.Tensor]:
    """Return how far one step of SGD moves every parameter, over examples in batches, in every process."""
    examples = [{name: value[index] for name, value in inputs.items()} for index in range(16)]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    settings = arguments(
        folder,
        max_steps=1,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        remove_unused_columns=False,
        eval_strategy="no",
        save_strategy="no",
        **options,
    )
    Trainer(model, settings, train_dataset=examples, callbacks=list(callbacks)).train()
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}
