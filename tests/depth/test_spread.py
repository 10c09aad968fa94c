"""Layers from all over a model, as what a training of a short one begins with."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from acn_hf import DepthError, truncate
from acn_hf.depth import spread_layers
from tests.support.sentence_models import sentence_model

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 30}


@pytest.mark.parametrize(("depth", "taken"), [(1, [5]), (2, [2, 5]), (3, [1, 3, 5]), (4, [1, 2, 3, 5]), (6, range(6))])
def test_layers_are_at_equal_distances(depth, taken):
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=6, **SIZES))
    short = spread_layers(model, depth)
    assert short.config.num_hidden_layers == len(short.bert.encoder.layer) == depth
    for layer, number in zip(short.bert.encoder.layer, taken, strict=True):
        wanted = model.bert.encoder.layer[number].state_dict()
        for name, value in layer.state_dict().items():
            assert torch.equal(value, wanted[name])
            assert value.data_ptr() != wanted[name].data_ptr()
    assert torch.equal(short.classifier.weight, model.classifier.weight)
    assert len(model.bert.encoder.layer) == 6


def test_all_or_none_of_the_layers_are_what_is_cut(tmp_path):
    model = sentence_model(tmp_path, layers=4)
    for depth in (0, 4):
        assert np.array_equal(spread_layers(model, depth).encode(["a film"]), truncate(model, depth).encode(["a film"]))
    with pytest.raises(DepthError, match=r"\[0, 4\]"):
        spread_layers(model, 5)


def test_layers_of_other_shapes_are_refused():
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=2, **SIZES))
    model.bert.encoder.layer[1] = BertForSequenceClassification(
        BertConfig(num_hidden_layers=1, **SIZES | {"intermediate_size": 8})
    ).bert.encoder.layer[0]
    with pytest.raises(DepthError, match=r"intermediate.dense.bias of theirs differ in shape"):
        spread_layers(model, 1)
