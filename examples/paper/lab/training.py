"""Training a network on a task with the Trainer of transformers, and what is remembered of it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from acn_hf import IntermediateSupervisionCallback

from .tasks import Task

EPOCH_EXAMPLES = 2000
"""Test examples that are read after every epoch; a trained network is measured on all."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, warm-up over a tenth of the steps, then a cosine.

    Args:
        num_epochs (`int`): Passes over the training data.
        learning_rate (`float`, *optional*, defaults to 1e-3): The peak.
        batch_size (`int`, *optional*, defaults to 64): Examples a step.
        supervision (`str`, *optional*): Weights of the losses at all depths: `"linear"` or `"uniform"`, see
            `acn_hf.intermediate_supervision`, or `"layerskip"`.
    """

    num_epochs: int
    learning_rate: float = 1e-3
    batch_size: int = 64
    supervision: str | None = None


def train(
    model: PreTrainedModel,
    task: Task,
    recipe: Recipe,
    seed: int,
    callbacks: Sequence[TrainerCallback] = (),
    trainer_class: type[Trainer] = Trainer,
) -> list[dict[str, float]]:
    """Train a model in place, and return what was measured after every epoch.

    That is the mean train loss of the epoch, and loss and accuracy on the first `EPOCH_EXAMPLES` test examples.

    Args:
        model (`PreTrainedModel`): The network.
        task (`Task`): Its data.
        recipe (`Recipe`): How.
        seed (`int`): Of the order of the examples and of dropout.
        callbacks (sequence of `TrainerCallback`, *optional*): What else happens on the way.
        trainer_class (`type`, *optional*): A subclass of `Trainer`, for another loss.
    """
    supervision = []
    if recipe.supervision is not None:
        num_layers = model.config.num_hidden_layers
        weights = layerskip_weights(num_layers) if recipe.supervision == "layerskip" else recipe.supervision
        supervision = [IntermediateSupervisionCallback(weights)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=recipe.num_epochs,
            per_device_train_batch_size=recipe.batch_size,
            per_device_eval_batch_size=250,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.01,
            seed=seed,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = trainer_class(
            model=model,
            args=arguments,
            train_dataset=task.train,
            eval_dataset=task.test.select(range(min(EPOCH_EXAMPLES, len(task.test)))),
            data_collator=task.collate,
            compute_metrics=_accuracy,
            callbacks=[*supervision, *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return _epochs(trainer.state.log_history)


def layerskip_weights(num_layers: int, scale: float = 0.2) -> list[float]:
    """Return LayerSkip's weight of the loss at every depth `0..L`; they add up to 1.

    Depth `k < L` has `scale * (1 + ... + k)`, full depth `L - 1` and its part of the same series.

    Source: LayerSkip, arXiv 2404.16710, section 4.2 (all depths in every step).
    """
    series = [scale * depth * (depth + 1) / 2 for depth in range(num_layers)]
    weights = [*series, num_layers - 1 + (series[-1] if series else 0.0)]
    return [weight / sum(weights) for weight in weights]


def _accuracy(predictions: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(predictions.predictions, axis=-1) == predictions.label_ids).mean())}


def _epochs(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Return one dictionary for each epoch, from what the Trainer logged."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in history:
        known = epochs.setdefault(round(entry["epoch"]), {"epoch": round(entry["epoch"])})
        for logged, name in (("loss", "train_loss"), ("eval_loss", "test_loss"), ("eval_accuracy", "test_accuracy")):
            if logged in entry:
                known[name] = float(entry[logged])
    return list(epochs.values())
