"""The mean of the tokens counts those that are not padding, once each."""

import pytest
import torch
from transformers import BertConfig, BertModel

from acn_hf import from_residual
from acn_hf.modeling.modeling_acn_bert import mean_of_tokens
from tests.support.families import BERT_FIELDS, by_name
from tests.support.reference import MeanPooledBert

MEAN = by_name("bert-ForSequenceClassification-mean")


def test_the_mean_is_that_of_a_loop():
    torch.manual_seed(0)
    states = torch.randn(4, 6, 3)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    for row, state, tokens in zip(mean_of_tokens(states, mask), states, mask, strict=True):
        kept = state[tokens.bool()]
        torch.testing.assert_close(row, kept.mean(dim=0) if len(kept) else torch.zeros(3))
    torch.testing.assert_close(mean_of_tokens(states, None), mean_of_tokens(states, torch.ones(4, 6)))


def test_large_states_do_not_overflow_in_half_precision():
    states = torch.full((1, 600, 2), 200.0, dtype=torch.float16)
    assert mean_of_tokens(states, torch.ones(1, 600)).tolist() == [[pytest.approx(200, rel=2e-3)] * 2]


def test_there_is_no_pooler_that_nobody_reads(build):
    assert build(MEAN).bert.pooler is None
    assert build(by_name("bert-ForSequenceClassification")).bert.pooler is not None


def test_a_new_head_on_a_checkpoint_may_read_the_mean(tmp_path):
    config = BertConfig(**BERT_FIELDS)
    BertModel(config).save_pretrained(tmp_path)
    options = {"residual_scale": 1.0, "architecture": "BertForSequenceClassification", "num_labels": 3}
    model = from_residual(tmp_path, pooling="mean", **options).eval()
    reference = MeanPooledBert(config).eval()
    reference.load_state_dict(model.state_dict())
    inputs = MEAN.inputs()
    assert torch.equal(model(**inputs).logits, reference(**inputs).logits)
    assert model.bert.pooler is None
    assert from_residual(tmp_path, **options).config.pooling == "cls"
