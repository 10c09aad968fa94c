"""What masked language models and masked image models train on: blocks of tokens, and what is hidden of each input."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import datasets
import numpy as np
import torch
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)

from ..depth.metrics import IGNORED_LABEL

MOST_DRAWS = 200
"""How often masks are drawn for a batch until something is masked, which nothing is where all tokens are special."""


def pack(tokenizer: Any, data: Any, column: str, length: int) -> Any:
    """Join texts and cut them into blocks of `length` tokens, the special ones at both ends included.

    Nothing is thrown away: of every thousand texts the last block may be shorter.

    Args:
        tokenizer: The tokenizer of a BERT.
        data (`datasets.Dataset` or `datasets.IterableDataset`): Rows of texts.
        column (`str`): Their column.
        length (`int`): Longest block.
    """
    width = length - tokenizer.num_special_tokens_to_add()

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(batch[column], add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids = list(chain.from_iterable(encoded["input_ids"]))
        blocks = [ids[start : start + width] for start in range(0, len(ids), width)]
        return {"input_ids": [[tokenizer.cls_token_id, *block, tokenizer.sep_token_id] for block in blocks]}

    return data.select_columns([column]).map(encode, batched=True, batch_size=1000, remove_columns=[column])


class EpochOfMasks(TrainerCallback):
    """Tells a collator the epoch, so that the same batch is masked otherwise in each.

    Args:
        collate (`MaskingCollator` or `PatchMaskingCollator`): That of the Trainer.
    """

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.collate.epoch = int((state.epoch or 0.0) + 1e-6)  # the end of an epoch may be a rounding error short


@contextmanager
def _random_numbers_of(content: bytes, epoch: int) -> Iterator[None]:
    """Draw random numbers that depend on a batch and the epoch alone, and leave those of the training as they were.

    A batch is made before the step that uses it, and before the checkpoint that may lie between: with the random
    numbers of the training, a resumed run would mask its first batches otherwise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(content, epoch))
        yield


class MaskingCollator:
    """Makes a batch of blocks of tokens: masks those that come without labels, and only pads those that have them.

    Something is masked in every batch, be it one short block: the mean loss over no token is not a number.
    What is masked depends on the batch and on `epoch`, which [`EpochOfMasks`] sets, and on nothing else.

    Args:
        tokenizer: Pads and knows the mask.
        mlm_probability (`float`, *optional*, defaults to 0.15): Share of the tokens that are to be guessed.
    """

    def __init__(self, tokenizer: Any, mlm_probability: float = 0.15) -> None:
        self.mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mlm_probability)
        self.pad = DataCollatorForTokenClassification(tokenizer)
        self.epoch = 0

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        if "labels" in rows[0]:
            return self.pad(rows)
        content = np.concatenate([np.asarray(row["input_ids"], dtype=np.int64) for row in rows]).tobytes()
        with _random_numbers_of(content, self.epoch):
            for _ in range(MOST_DRAWS):
                batch = self.mask(rows)
                if (batch["labels"] != IGNORED_LABEL).any():
                    break
            return batch


def mask_once(rows: datasets.Dataset, collate: MaskingCollator) -> datasets.Dataset:
    """Mask every block once and for all, whatever stands around it; it is masked alike in every data set."""

    def mask(row: dict[str, Any]) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(bytes(str(row["input_ids"]), "ascii")))
            return {name: value[0].tolist() for name, value in collate.mask([row]).items()}

    return rows.map(mask)


class PatchMaskingCollator:
    """Makes a batch of images: draws the patches to hide for those that come without, and keeps those that have them.

    What is hidden depends on the batch and on `epoch`, which [`EpochOfMasks`] sets, and on nothing else.

    Args:
        num_patches (`int`): Of an image.
        mask_ratio (`float`, *optional*, defaults to 0.5): Share of the patches that are hidden.

    Raises:
        ValueError: `mask_ratio` hides no patch, or all.
    """

    def __init__(self, num_patches: int, mask_ratio: float = 0.5) -> None:
        self.num_patches = num_patches
        self.epoch = 0
        self.num_masked = round(num_patches * mask_ratio)
        if not 0 < self.num_masked < num_patches:
            raise ValueError(f"mask_ratio must hide some of the {num_patches} patches and not all; got {mask_ratio}")

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = default_data_collator(rows)
        if "bool_masked_pos" not in batch:
            with _random_numbers_of(batch["pixel_values"].numpy().tobytes(), self.epoch):
                batch["bool_masked_pos"] = self.draw(len(rows))
        batch["bool_masked_pos"] = batch["bool_masked_pos"].bool()
        return batch

    def draw(self, number: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return which patches of `number` images are hidden, of shape `(number, num_patches)`."""
        order = torch.rand(number, self.num_patches, generator=generator).argsort(dim=1)
        return order < self.num_masked


def mask_images_once(rows: datasets.Dataset, collate: PatchMaskingCollator) -> datasets.Dataset:
    """Draw the patches to hide of every image once and for all."""
    drawn = collate.draw(len(rows), torch.Generator().manual_seed(0))
    return rows.add_column("bool_masked_pos", drawn.numpy().astype(np.uint8).tolist())
