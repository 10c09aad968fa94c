"""Fine-tune a model that was cut, with a Trainer that is made for it."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import Trainer

from .adapters import truncate
from .modeling.depth import encoder_layers
from .unwrapping import unwrap, unwrap_parallel

Finetune = Callable[[Any], Trainer]
"""Makes the Trainer of a cut model."""


class FinetuningError(ValueError):
    """A fine-tuning whose Trainer trains something else than the cut model, or that ended in no model."""


def fine_tune(model: Any, finetune: Finetune) -> Any:
    """Train `model` with the Trainer that `finetune` makes for it, and return a copy of what was trained.

    The copy has nothing of the Trainer: no hook, no `forward` bound to it with autocast, no gradient. It is where
    `model` was, whatever device the Trainer chose, and has as many layers as are left, if some left while it trained.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Is trained itself, so it must be a copy that nobody else holds.
        finetune (`Callable`): From the model to a Trainer that is ready to train it. If its
            `args.resume_from_checkpoint` names a checkpoint, the run goes on from there.

    Raises:
        FinetuningError: The Trainer trains another model, it shards the weights, or they end as no finite numbers.
        TypeError: `finetune` returned no Trainer.
    """
    home = model.device
    trainer = finetune(model)
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"finetune must return the Trainer of the cut model, not yet trained; got {type(trainer).__name__}"
        )
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise FinetuningError(
            "the weights of a model that is fine-tuned by compress must be whole; the Trainer shards them over "
            f"processes ({trainer.accelerator.distributed_type.value})"
        )
    _check_same(trainer, model)
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    _check_same(trainer, model)  # a model_init makes another one when training begins
    _check_finite(model)
    model.to(home)
    return truncate(model, len(encoder_layers(unwrap(model))))


def _check_same(trainer: Trainer, model: Any) -> None:
    trained = unwrap_parallel(trainer.model)
    if trained is not model:
        raise FinetuningError(
            "the Trainer that finetune returns must train the model that it is given, the cut one, itself; it trains "
            f"another {type(trained).__name__}"
        )


def _check_finite(model: Any) -> None:
    """Refuse weights that are no numbers: the accuracy of such a model would be one, by accident."""
    wrong = [name for name, weight in model.state_dict().items() if not torch.isfinite(weight).all()]
    if wrong:
        raise FinetuningError(
            f"the fine-tuned weights must be finite numbers; {len(wrong)} tensors hold others ({wrong[0]}, ...): train "
            "with a lower learning rate"
        )
