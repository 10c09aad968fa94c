"""What a model is refused for that has no depths, and the parts of a view of its first layers."""

import re

import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from acn_hf import DepthError
from acn_hf.modeling.depth import depth_outputs, output_logits, replace_submodule, truncate
from tests.support.families import NUM_LAYERS, by_name

CLASSIFIER = by_name("bert-ForSequenceClassification")


def test_at_least_one_depth_is_named(build):
    text = f"depths must name at least one depth in [0, {NUM_LAYERS}]; got none"
    with pytest.raises(DepthError, match=f"^{re.escape(text)}$"):
        next(depth_outputs(build(CLASSIFIER), CLASSIFIER.inputs(), []))


def test_a_view_with_another_base_model_is_only_called(build):
    view = replace_submodule(build(CLASSIFIER), "bert", nn.Identity())
    text = "this AcnBertForSequenceClassification is a view that is only called; give the model it was made from"
    with pytest.raises(TypeError, match=f"^{text}$"):
        truncate(view, 1)


def test_outputs_without_logits_are_refused():
    output = ModelOutput(last_hidden_state=torch.ones(1), pooler_output=torch.ones(1))
    text = "the output of a model with a head must hold logits; got last_hidden_state, pooler_output"
    with pytest.raises(TypeError, match=f"^{text}$"):
        output_logits(output)
