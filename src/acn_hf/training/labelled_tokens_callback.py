"""A callback for `Trainer`: the head runs on the tokens that have a label, and on no others."""

from typing import Any, Self

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from .labelled_tokens import LabelledTokens
from .trainer_loss import ending_with, is_usual

logger = logging.get_logger(__name__)


class LabelledTokensCallback(TrainerCallback):
    """Trains with a head that runs on the tokens with a label alone, as masked language models need it.

    With 15% of the tokens masked, and a vocabulary that makes the head as dear as the layers, a step takes a third less
    time. The loss is the same. Where a Trainer computes another loss than the model's own, nothing changes, since it
    may read the logits of all tokens; a callback that is attached, `callback.attach(trainer)`, says so.

    Raises:
        TypeError: When training begins, the model has no head.
        ValueError: When training begins, it predicts the token that comes next.

    Example:

    ```python
    >>> from acn_hf import LabelledTokensCallback

    >>> callbacks = [LabelledTokensCallback()]

    ```
    """

    def __init__(self) -> None:
        self.labelled: LabelledTokens | None = None

    def attach(self, trainer: Trainer) -> Self:
        """Add this callback to a Trainer; the model is left as it was also if an error ends its training."""
        if not is_usual(trainer, trainer.compute_loss):
            logger.warning("the loss is not the one that the model computes, so the head runs on all tokens")
            return self
        ending_with(trainer, self.remove)
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def remove(self) -> None:
        """Leave the model as it was; the end of training does this."""
        if self.labelled is not None:
            self.labelled.remove()
            self.labelled = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.remove()
        if args.n_gpu > 1:
            logger.warning("one process spreads the model over several GPUs, so the head runs on all tokens")
            return
        self.labelled = LabelledTokens(kwargs["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.remove()
