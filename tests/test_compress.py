"""Compress is profile, choose, truncate: nothing else, and nothing is lost."""

import json

import pytest
import torch
from transformers import AlbertConfig, AlbertForSequenceClassification

from acn_hf import DepthError, compress, depth_logits, measure_depth_profile
from acn_hf.depth.metrics import ProfileError
from tests.support.families import NUM_LAYERS, TRAINED, by_name, each_head

CLASSIFIER = by_name("bert-ForSequenceClassification")


@each_head(TRAINED)
def test_the_short_model_is_the_long_one_at_the_chosen_depth(head, build):
    model = build(head)
    inputs = head.inputs(batch_size=4)
    batch = head.inputs(batch_size=4, labels=True)
    result = compress(model, [batch], metric="loss", tolerance=0.3)
    with torch.no_grad():
        short = depth_logits(result.model, **inputs)[-1]
        assert torch.equal(short, depth_logits(model, **inputs)[result.depth])
    assert result.model.config.num_hidden_layers == result.depth
    assert model.config.num_hidden_layers == NUM_LAYERS
    assert result.depth == result.profile.effective_depth(0.3)


def test_costs_are_before_and_after(build):
    model = build(CLASSIFIER)
    result = compress(model, [CLASSIFIER.inputs(labels=True)], tolerance=1.0)
    assert result.depth == 0
    assert result.cost_before.num_parameters == model.num_parameters()
    assert result.cost_after.num_parameters == result.model.num_parameters() < model.num_parameters()
    assert result.cost_after.flops < result.cost_before.flops


def test_the_cost_of_every_depth_is_measured_if_it_is_asked_for(build):
    batch = CLASSIFIER.inputs(labels=True)
    assert compress(build(CLASSIFIER), [batch], depth=1).tradeoffs is None
    result = compress(build(CLASSIFIER), [batch], depth=1, costs=True)
    assert result.tradeoffs.depths == result.profile.depths
    assert result.tradeoffs.costs[1].num_parameters == result.cost_after.num_parameters


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ({}, {"tolerance": 0.005}),
        ({"tolerance": 0.1, "relative": True}, {"tolerance": 0.1, "relative": True}),
        ({"depth": 2}, {"depth": 2}),
        ({"max_mb": 100.0}, {"limits": {"max_mb": 100.0}}),
    ],
)
def test_a_result_says_by_what_its_depth_was_chosen(build, asked, choice):
    result = compress(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], **asked)
    nothing = {"depth": None, "limits": {}, "tolerance": None, "relative": False, "confidence": None}
    assert result.choice == result.to_dict()["choice"] == {**nothing, **choice}


def test_options_reach_the_profile_and_the_choice(build):
    model, batch = build(CLASSIFIER), CLASSIFIER.inputs(batch_size=8, labels=True)
    result = compress(model, [batch], metric="loss", depths=[1, 3], tolerance=1e9)
    assert (result.profile.metric, result.profile.depths, result.depth) == ("loss", (1, 3), 1)
    relative = compress(model, [batch], metric="loss", tolerance=1e9, relative=True)
    assert relative.depth == 0
    with pytest.raises(ProfileError, match="confidence"):
        compress(model, [batch], confidence=2.0)


def test_a_result_reads_as_a_table_and_as_json(build):
    result = compress(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], tolerance=1.0)
    text = str(result)
    for word in ("depth", "parameters", "MB", "GFLOPs", "latency in ms", "accuracy", "before", "after"):
        assert word in text
    fields = json.loads(json.dumps(result.to_dict()))
    assert fields["depth"] == 0
    assert fields["profile"]["depths"] == list(range(NUM_LAYERS + 1))
    assert fields["cost_after"]["num_parameters"] == result.model.num_parameters()


@pytest.mark.parametrize("function", [compress, measure_depth_profile])
def test_a_model_whose_layers_share_weights_is_refused(function):
    config = AlbertConfig(hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=9, embedding_size=8)
    with pytest.raises(DepthError, match=r"one list of as many layers .* AlbertForSequenceClassification has none"):
        function(AlbertForSequenceClassification(config), [{"input_ids": torch.ones(1, 3, dtype=torch.long)}])


def test_a_model_without_head_is_refused(build):
    head = by_name("vit-Model")
    with pytest.raises(TypeError, match="need a model with a head, and AcnViTModel has none"):
        compress(build(head), [head.inputs()])
