"""The metric that a Trainer computes of a task is that of a profile at full depth, and what does not fit is refused."""

import sys

import numpy as np
import pytest
import torch
from transformers import EvalPrediction

from acn_hf import measure_depth_profile
from acn_hf.depth import Metric, ProfileError
from acn_hf.depth.metrics import resolve_metric
from acn_hf.scripts.task_metric import check_metric, metric_functions
from acn_hf.scripts.training_run import run_script
from tests.support.families import by_name

TAGS = {"id2label": {0: "O", 1: "B-LOC", 2: "I-LOC"}, "label2id": {"O": 0, "B-LOC": 1, "I-LOC": 2}}
SEVERAL = {"problem_type": "multi_label_classification"}


def computed(model, batch, name):
    """Return what a Trainer would compute of one batch."""
    with torch.no_grad():
        output = model(**batch)
    given = [batch[key] for key in ("labels", "start_positions", "end_positions") if key in batch]
    labels = tuple(given) if len(given) > 1 else given[0]
    logits = (output.start_logits, output.end_logits) if isinstance(labels, tuple) else (output.logits,)
    functions = metric_functions(name, model.config)
    found = functions["preprocess_logits_for_metrics"](logits, labels)
    right = tuple(one.numpy() for one in labels) if isinstance(labels, tuple) else labels.numpy()
    return functions["compute_metrics"](EvalPrediction(found.numpy(), right))


@pytest.mark.parametrize(
    ("head", "options", "metric"),
    [
        ("bert-ForSequenceClassification", {}, "accuracy"),
        ("bert-ForSequenceClassification", {"num_labels": 1}, "mse"),
        ("bert-ForSequenceClassification", SEVERAL, "accuracy"),
        ("bert-ForSequenceClassification", SEVERAL, "f1_micro"),
        ("bert-ForTokenClassification", TAGS, "accuracy"),
        ("bert-ForTokenClassification", TAGS, "entity_recall"),
        ("bert-ForQuestionAnswering", {}, "accuracy"),
        ("bert-ForMultipleChoice", {}, "accuracy"),
        ("bert-ForMaskedLM", {}, "accuracy"),
        ("vit-ForImageClassification", {}, "f1_macro"),
    ],
)
def test_it_is_that_of_the_profile_at_full_depth(build, head, options, metric):
    head = by_name(head)
    model, batch = build(head, **options), head.inputs(batch_size=40, labels=True)
    if options == SEVERAL:
        batch["labels"] = torch.randint(0, 2, (40, 3)).float()
    if "num_labels" in options:
        batch["labels"] = torch.rand(40)
    if "start_positions" in batch:
        with torch.no_grad():
            output = model(**batch)
        for name in ("start", "end"):  # some are right
            batch[f"{name}_positions"][:9] = output[f"{name}_logits"].argmax(-1)[:9]
    expected = measure_depth_profile(model, [batch], metric=metric).values[-1]
    assert computed(model, batch, metric) == {metric: pytest.approx(expected)}
    assert 0 < expected < 1 or metric == "mse"


def test_a_loss_is_not_computed_twice():
    assert metric_functions("loss") == {}
    assert metric_functions("perplexity") == {}


@pytest.mark.parametrize(
    ("head", "options", "fitting", "other"),
    [
        ("bert-ForTokenClassification", TAGS, ("accuracy", "entity_f1", "f1_macro"), ("answer_f1", "mse", "f1")),
        ("bert-ForQuestionAnswering", {}, ("answer_f1", "exact_match", "accuracy", "loss"), ("f1", "mse", "entity_f1")),
        ("bert-ForMultipleChoice", {"num_labels": 1}, ("accuracy", "loss"), ("f1", "mse", "answer_f1")),
        ("bert-ForSequenceClassification", {**SEVERAL, "num_labels": 2}, ("f1_micro", "accuracy"), ("f1", "precision")),
    ],
)
def test_a_metric_fits_or_is_refused(build, head, options, fitting, other):
    model = build(by_name(head), **options)
    for name in fitting:
        check_metric(model, resolve_metric(name))
    check_metric(model, Metric("mine", True, max, needs="predictions"))
    for name in other:
        with pytest.raises(ValueError, match=rf"^--depth_metric must be one of .* for this Acn\w+; got {name}$"):
            check_metric(model, resolve_metric(name))


def test_tags_and_packages_are_looked_at_before_training(build, monkeypatch):
    with pytest.raises(ProfileError, match=r"^metrics of entities need tags .*; got 'LABEL_0'$"):
        check_metric(build(by_name("bert-ForTokenClassification")), resolve_metric("entity_f1"))
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.text", None)
    with pytest.raises(ImportError, match=r"^metrics of answers need torchmetrics"):
        check_metric(build(by_name("bert-ForQuestionAnswering")), resolve_metric("answer_f1"))


def test_logits_that_are_no_numbers_are_refused(build):
    model = build(by_name("bert-ForQuestionAnswering"))
    metric = metric_functions("answer_f1", model.config)["compute_metrics"]
    metric.rows = [{"label": None}]
    with pytest.raises(ProfileError, match=r"^the logits must be finite numbers; got nan or infinity$"):
        metric(EvalPrediction(np.full((1, 4, 2), np.nan), None))


def test_a_missing_package_is_one_line(capsys):
    def fail():
        raise ImportError("metrics of answers need torchmetrics")

    with pytest.raises(SystemExit):
        run_script(fail)
    assert capsys.readouterr().err == "error: metrics of answers need torchmetrics\n"
