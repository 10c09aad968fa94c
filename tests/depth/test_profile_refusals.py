"""What no profile can be made of is refused by name, rule and value."""

import re

import datasets
import pytest
import torch

from acn_hf import DepthError, DepthProfile, measure_depth_profile
from acn_hf.depth.metrics import ProfileError
from tests.depth.test_effective_depth import profile
from tests.depth.test_profile import CLASSIFIER, rows
from tests.support.families import NUM_LAYERS, by_name


@pytest.mark.parametrize("depth", [-1, NUM_LAYERS + 1, 1.5, True])
def test_a_depth_that_does_not_exist_is_refused(build, depth):
    with pytest.raises(DepthError, match=rf"\[0, {NUM_LAYERS}\].*got {depth}"):
        measure_depth_profile(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], depths=[depth])


@pytest.mark.parametrize("data", [[], rows(CLASSIFIER).select([])], ids=["list", "Dataset"])
def test_empty_data_are_refused(build, data):
    with pytest.raises(ProfileError, match=r"^the data must hold at least one example; got none$"):
        measure_depth_profile(build(CLASSIFIER), data)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_data_without_labels_are_refused(build, metric):
    with pytest.raises(ProfileError, match=r"must hold labels; got only .*input_ids"):
        measure_depth_profile(build(CLASSIFIER), [CLASSIFIER.inputs()], metric=metric)


def test_data_of_another_kind_are_refused(build):
    for batch, names in (({"pixels": torch.ones(2, 3), "class": 3}, "pixels, class"), ({}, "nothing")):
        text = f"^the data must hold inputs of AcnBertForSequenceClassification; got only {names}$"
        with pytest.raises(ProfileError, match=text):
            measure_depth_profile(build(CLASSIFIER), [batch])
    with pytest.raises(ProfileError, match="a batch must be a dictionary of tensors; got Tensor"):
        measure_depth_profile(build(CLASSIFIER), [torch.ones(2, 3)])


def test_labels_of_another_shape_are_refused(build):
    batch = {**CLASSIFIER.inputs(batch_size=2), "labels": torch.zeros(2, 5)}
    with pytest.raises((ProfileError, ValueError), match=r"\(2, 5\)|\[2, 5\]|size"):
        measure_depth_profile(build(CLASSIFIER), [batch])


def test_rows_of_different_lengths_want_a_collator(build):
    data = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3]], "labels": [0, 1]})
    text = "^rows of different lengths need collate_fn, for example DataCollatorWithPadding\\(tokenizer\\); .*length 2"
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(build(CLASSIFIER), data)


def test_a_metric_that_is_not_a_number_is_refused(build):
    with pytest.raises(ProfileError, match="'nothing' must be a finite number; got nan at depth 0"):
        measure_depth_profile(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], metric=nothing)


def nothing(predictions, references):
    return float("nan")


@pytest.mark.parametrize("metric", ["acuracy", 3], ids=str)
def test_a_metric_that_does_not_exist_is_refused(build, metric):
    with pytest.raises(ProfileError, match=f"metric must be .*got {metric!r}"):
        measure_depth_profile(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], metric=metric)


@pytest.mark.parametrize("counts", [(2, 1, 2), (2, 2, 1), (1, 2, 2), (0, 0, 0)], ids=str)
def test_a_profile_of_different_lengths_is_refused(counts):
    depths, values, parameters = (tuple(range(count)) for count in counts)
    text = (
        "a profile must hold one value and one number of parameters for each of its depths; got "
        "{} depths, {} values, {} numbers"
    )
    with pytest.raises(ProfileError, match=f"^{text.format(*counts)}$"):
        DepthProfile(depths, values, "accuracy", True, 10, parameters)


@pytest.mark.parametrize("depths", [(1, 0), (1, 1)], ids=str)
def test_depths_that_do_not_ascend_are_refused(depths):
    with pytest.raises(ProfileError, match=f"^the depths of a profile must ascend; got {re.escape(str(depths))}$"):
        DepthProfile(depths, (0.5, 0.6), "accuracy", True, 10, (1, 2))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"depths": [0]}', "3"])
def test_a_file_that_holds_no_profile_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ValueError, match=r"p\.json holds no DepthProfile"):
        DepthProfile.load(tmp_path / "p.json")


@pytest.mark.parametrize("data", [{"input_ids": torch.ones(1, 2)}, datasets.DatasetDict({"train": rows(CLASSIFIER)})])
def test_one_batch_or_all_splits_are_no_data(build, data):
    text = f"^data must be a data set or an iterable of rows or batches; got {type(data).__name__}$"
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(build(CLASSIFIER), data)


@pytest.mark.parametrize(("labels", "metric", "fitting"), [("numbers", "accuracy", "mse"), ("classes", "mse", "f1")])
def test_a_metric_for_the_other_kind_of_labels_is_refused(build, labels, metric, fitting):
    model = build(CLASSIFIER, num_labels=1 if labels == "numbers" else 3)
    batch = CLASSIFIER.inputs(batch_size=4, labels=True)
    if labels == "numbers":
        batch["labels"] = torch.rand(4)
    with pytest.raises(
        ProfileError, match=f"metric must be one of .*{fitting}.* where labels are {labels}; got '{metric}'"
    ):
        measure_depth_profile(model, [batch], metric=metric)


@pytest.mark.parametrize("metric", ["accuracy", "loss", "perplexity", "f1_macro"])
def test_data_of_which_no_label_counts_are_refused(build, metric):
    head = by_name("bert-ForMaskedLM")
    batch = head.inputs(labels=True)
    batch["labels"][:] = -100
    with pytest.raises(ProfileError, match="at least one label must count; all are -100"):
        measure_depth_profile(build(head), [batch], metric=metric)


def test_binary_f1_of_three_classes_names_the_mend(build):
    batch = CLASSIFIER.inputs(batch_size=8)
    batch["labels"] = torch.arange(8) % 3
    with pytest.raises(ProfileError, match=r"metric 'f1' does not fit the data .f1_macro is for more than two classes"):
        measure_depth_profile(build(CLASSIFIER), [batch], metric="f1")


def test_a_metric_that_returns_a_dictionary_is_refused(build):
    with pytest.raises(ProfileError, match="'compute_metrics' does not fit the data"):
        measure_depth_profile(build(CLASSIFIER), [CLASSIFIER.inputs(labels=True)], metric=compute_metrics)


def compute_metrics(predictions, references):
    return {"accuracy": 1.0}


def test_a_direction_of_a_known_metric_is_refused(build):
    with pytest.raises(ProfileError, match="greater_is_better is for a metric of your own; 'loss' is known"):
        measure_depth_profile(build(CLASSIFIER), [], metric="loss", greater_is_better=True)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "loss"])
def test_a_broken_model_is_refused(build, metric):
    model = build(CLASSIFIER)
    torch.nn.init.constant_(model.classifier.weight, float("nan"))
    with pytest.raises(ProfileError, match="finite number"):
        measure_depth_profile(model, [CLASSIFIER.inputs(labels=True)], metric=metric)


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(ProfileError, match="must be finite numbers"):
        profile([0.1, float("nan")])
