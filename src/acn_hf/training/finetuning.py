"""Fine-tune a model that was cut, with a Trainer that is made for it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from ..depth.every_depth import truncate
from ..depth.layers import layers_of
from ..support.wrappers import unwrap, unwrap_parallel
from .attention import quick_attention
from .checkpoints import read_by_their_names

Finetune = Callable[[Any], Trainer]
"""Makes the Trainer of a cut model."""


class FinetuningError(ValueError):
    """A fine-tuning whose Trainer trains something else than the cut model, or that ended in no model."""


def check_maker(name: str, maker: Any) -> None:
    """Refuse what is no function from a model to its Trainer, before anything is done.

    Args:
        name (`str`): What the argument is called.
        maker: What was given.

    Raises:
        TypeError: It cannot be called.
    """
    if not callable(maker):
        raise TypeError(
            f"{name} must be a function from a model to the Trainer that is to train it, as lambda copy: Trainer(copy, "
            f"arguments, train_dataset=rows); got {type(maker).__name__}"
        )


def fine_tune(
    model: Any, finetune: Finetune, during: Callable[[Trainer], AbstractContextManager[Any]] = nullcontext
) -> Any:
    """Train `model` with the Trainer that `finetune` makes for it, and return a copy of what was trained.

    The copy has nothing of the Trainer: no hook, no `forward` bound to it with autocast, no gradient. It is where
    `model` was, whatever device the Trainer chose, and has as many layers as are left, if some left while it trained.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Is trained itself, so it must be a copy that nobody else holds.
        finetune (`Callable`): From the model to a Trainer that is ready to train it. If its
            `args.resume_from_checkpoint` names a checkpoint, the run goes on from there.
        during (`Callable`, *optional*): From the Trainer to a context in which it trains.

    Raises:
        FinetuningError: The Trainer trains another model, it shards the weights, or they end as no finite numbers.
        TypeError: `finetune` returned no Trainer, or the `train_dataset` of it is not made of rows.
    """
    home = model.device
    trainer = finetune(model)
    if not isinstance(trainer, Trainer):
        raise TypeError(
            "a stage must return the Trainer of the model that it is given, not yet trained; "
            f"got {type(trainer).__name__}{': let it end with return trainer' if trainer is None else ''}"
        )
    _check_rows(trainer)
    check_whole(trainer, "trained in a stage")
    _check_same(trainer, model)
    with read_by_their_names(trainer), quick_attention(trainer), during(trainer):
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    _check_same(trainer, model)  # a model_init makes another one when training begins
    check_finite(model)
    model.to(home)
    return truncate(model, len(layers_of(unwrap(model))))


def finetuning_arguments(
    folder: str,
    device: torch.device,
    *,
    num_epochs: float = 3.0,
    learning_rate: float = 5e-5,
    batch_size: int = 32,
    seed: int = 0,
    bf16: bool = False,
) -> TrainingArguments:
    """Return usual settings to fine-tune a cut model with, without checkpoints.

    Args:
        folder (`str`): Where the Trainer may write.
        device (`torch.device`): Where the model is; on a CPU it stays there.
        num_epochs (`float`, *optional*, defaults to 3.0): How often each example is seen, above 0.
        learning_rate (`float`, *optional*, defaults to 5e-5): At the beginning, above 0; it falls to 0 along a line.
        batch_size (`int`, *optional*, defaults to 32): Examples in a step.
        seed (`int`, *optional*, defaults to 0): Of the order of the examples, and of dropout.
        bf16 (`bool`, *optional*, defaults to `False`): Whether passes are computed in bfloat16.

    Raises:
        ValueError: An argument is out of its range.
    """
    if not num_epochs > 0 or not learning_rate > 0:
        raise ValueError(f"num_epochs and learning_rate must be > 0; got {num_epochs} and {learning_rate}")
    return quiet_arguments(
        folder,
        device,
        num_train_epochs=num_epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=batch_size,
        seed=seed,
        bf16=bf16,
        save_strategy="no",
        logging_steps=10,
    )


def quiet_arguments(
    folder: str, device: torch.device, *, kind: type[TrainingArguments] = TrainingArguments, **how: Any
) -> TrainingArguments:
    """Return arguments of a Trainer that stays on a device, takes every column, and reports to nobody.

    Args:
        folder (`str`): Where the Trainer may write.
        device (`torch.device`): Where the model is; on a CPU it stays there.
        kind (`type`, *optional*, defaults to `TrainingArguments`): A subclass.
        how: Further arguments of [`~transformers.TrainingArguments`].
    """
    return kind(
        folder,
        use_cpu=device.type == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        report_to="none",
        disable_tqdm=True,
        **how,
    )


def quiet_trainer(
    model: Any,
    arguments: TrainingArguments,
    rows: Any,
    collate: Callable,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    kind: type[Trainer] = Trainer,
) -> Trainer:
    """Return a Trainer that prints nothing, but for what its callbacks show.

    Args:
        model (`PreTrainedModel` or `PeftModel`): What it trains.
        arguments (`TrainingArguments`): How.
        rows (`datasets.Dataset`): On what.
        collate (`Callable`): Makes a batch of rows.
        callbacks (`Sequence[TrainerCallback]`, *optional*): What it has besides.
        kind (`type`, *optional*, defaults to `Trainer`): A subclass.
    """
    trainer = kind(model, arguments, train_dataset=rows, data_collator=collate, callbacks=list(callbacks))
    silence(trainer)
    return trainer


def silence(trainer: Trainer) -> None:
    """Let a Trainer print nothing, but for what its other callbacks show."""
    for prints in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(prints)


def check_whole(trainer: Trainer, what: str) -> None:
    """Refuse a Trainer that shards the weights over processes.

    Args:
        trainer (`Trainer`): Ready to train.
        what (`str`): What happens to the model.

    Raises:
        FinetuningError: It does.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise FinetuningError(
            f"the weights of a model that is {what} must be whole; the Trainer shards them over processes "
            f"({trainer.accelerator.distributed_type.value})"
        )


def _check_rows(trainer: Trainer) -> None:
    """Refuse training data of which a Trainer makes no batches, or none that anybody means."""
    rows: Any = trainer.train_dataset
    reads_it = type(trainer).get_train_dataloader is Trainer.get_train_dataloader
    if not reads_it or not (rows is None or isinstance(rows, (DataLoader, str, PathLike, Mapping))):
        return
    hints = {
        DataLoader: ": give its dataset, and its collate_fn as data_collator",
        Mapping: ": give one of its splits",
    }
    hint = next((hint for kind, hint in hints.items() if isinstance(rows, kind)), "")
    raise TypeError(
        "the train_dataset of the Trainer of a stage must be a data set of rows, of which the Trainer makes batches "
        f"itself; got {type(rows).__name__}{hint}"
    )


def _check_same(trainer: Trainer, model: Any) -> None:
    trained = unwrap_parallel(trainer.model)
    if trained is not model:
        raise FinetuningError(
            "the Trainer that a stage returns must train the model that the stage is given, itself; it trains "
            f"another {type(trained).__name__}"
        )


def check_finite(model: Any) -> None:
    """Refuse weights that are no numbers: the accuracy of such a model would be one, by accident.

    Args:
        model (`nn.Module`): Was trained.

    Raises:
        FinetuningError: It has such weights.
    """
    wrong = [name for name, weight in model.state_dict().items() if not torch.isfinite(weight).all()]
    if wrong:
        raise FinetuningError(
            f"the trained weights must be finite numbers; {len(wrong)} tensors hold others ({wrong[0]}, ...): train "
            "with a lower learning rate"
        )
