"""A class that needs a layer is neither cut nor saved without one; labels that are no class are named."""

import pytest
import torch

from acn_hf import DepthError, compress, measure_depth_cost, measure_depth_profile, save_truncated, truncate
from acn_hf.depth import ProfileError
from tests.support.any_models import any_model

NEEDS_ONE = r"depth must lie in \[1, 4\] for ModernBertForSequenceClassification, which needs a layer; got 0"
MODEL = any_model("ModernBertForSequenceClassification")


@pytest.mark.parametrize(
    "use",
    [
        lambda model, folder: truncate(model, 0),
        lambda model, folder: save_truncated(model, folder / "short", 0),
        lambda model, folder: compress(model, [{**MODEL.inputs(), "labels": torch.tensor([0, 1, 1])}], depth=0),
        lambda model, folder: measure_depth_cost(model, depths=[0]),
    ],
    ids=["truncate", "save_truncated", "compress", "measure_depth_cost"],
)
def test_nothing_is_made_that_could_not_be_read(use, tmp_path):
    with pytest.raises(DepthError, match=NEEDS_ONE):
        use(MODEL.build(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_costs_begin_at_the_lowest_depth():
    assert measure_depth_cost(MODEL.build(), repeats=2, warmup=0).depths == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (torch.tensor([0, 7, 0]), "labels must be from 0 to 1, or -100; got 7"),
        (torch.tensor([0, -1, 0]), "labels must be from 0 to 1, or -100; got -1"),
        (torch.tensor([0.0, 1.0, 0.5]), "labels must be numbers of 2 classes; got torch.float32"),
    ],
    ids=["too large", "negative", "numbers"],
)
@pytest.mark.parametrize("width", [32, 40])  # another config, that is checked for the first time
def test_labels_that_are_no_class_are_named(labels, text, width):
    entry = any_model("BertForSequenceClassification")
    model = entry.build(hidden_size=width)
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(model, [{**entry.inputs(), "labels": labels}])
