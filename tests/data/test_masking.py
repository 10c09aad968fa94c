"""Masks are new in every epoch, and a resumed run finds the ones that it would have found."""

import datasets
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast, Trainer, set_seed

from acn_hf import AcnBertForMaskedLM, AcnViTForMaskedImageModeling
from acn_hf.data.masking import EpochOfMasks, MaskingCollator, PatchMaskingCollator
from tests.support.families import by_name
from tests.support.training import arguments, data, same_weights, weights

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(35))]


def text_collator():
    words = BertWordPieceTokenizer(vocab={token: number for number, token in enumerate(VOCABULARY)})
    return MaskingCollator(BertTokenizerFast(tokenizer_object=words._tokenizer), mlm_probability=0.4)


def text_rows():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 40, (64, 10), generator=generator)
    return [{"input_ids": row.tolist()} for row in ids]


def image_rows():
    return [{"pixel_values": row["pixel_values"]} for row in data()["train"].select(range(64))]


def collators():
    return [
        (text_collator(), text_rows(), "labels"),
        (PatchMaskingCollator(16), image_rows(), "bool_masked_pos"),
    ]


def test_masks_depend_on_batch_and_epoch_alone():
    for collate, rows, masks in collators():
        before = torch.get_rng_state()
        first = collate(rows[:8])[masks]
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert torch.equal(collate(rows[:8])[masks], first)
        assert not torch.equal(collate(rows[:8][::-1])[masks].flip(0), first)
        collate.epoch = 1
        assert not torch.equal(collate(rows[:8])[masks], first)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_something_is_masked_in_every_batch(length):
    """A batch of which nothing is masked would have no loss, and a step with it would leave no number."""
    collate = text_collator()
    collate.mask.mlm_probability = 0.05
    for epoch in range(20):
        collate.epoch = epoch
        assert (collate([{"input_ids": [5] * length}])["labels"] == 5).any()
    assert (collate([{"input_ids": [2, 3]}])["labels"] == -100).all()  # [CLS] and [SEP]


def build(kind):
    set_seed(0)
    if kind == "text":
        config = by_name("bert-ForMaskedLM").config(hidden_dropout_prob=0.1)
        return AcnBertForMaskedLM(config), text_collator(), text_rows()
    fields = {"image_size": 8, "patch_size": 2, "encoder_stride": 2, "num_channels": 3, "hidden_dropout_prob": 0.1}
    config = by_name("vit-ForMaskedImageModeling").config(**fields)
    return AcnViTForMaskedImageModeling(config), PatchMaskingCollator(16), image_rows()


def trained(kind, folder, resume=None):
    model, collate, rows = build(kind)
    seen = []

    def watch(batch):
        made = collate(batch)
        seen.append(collate.epoch)
        return made

    settings = arguments(folder, eval_strategy="no", save_steps=3, max_steps=12, remove_unused_columns=False)
    rows = datasets.Dataset.from_list(rows).with_format("torch" if kind == "images" else None)
    run = Trainer(model, settings, train_dataset=rows, data_collator=watch, callbacks=[EpochOfMasks(collate)])
    run.train(resume_from_checkpoint=resume)
    return weights(run.model), seen


@pytest.mark.parametrize("kind", ["text", "images"])
@pytest.mark.parametrize("step", [3, 6])
def test_a_resumed_run_ends_with_the_same_weights(tmp_path, kind, step):
    whole, epochs = trained(kind, tmp_path / "whole")
    assert set(epochs) == {0, 1, 2}  # four batches an epoch
    resumed, epochs = trained(kind, tmp_path / "more", str(tmp_path / "whole" / f"checkpoint-{step}"))
    assert set(epochs) == ({0, 1, 2} if step == 3 else {1, 2})
    assert same_weights(whole, resumed)
