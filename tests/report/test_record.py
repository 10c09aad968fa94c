"""The record of a page: what it holds for each task, and what it refuses."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from acn_hf import (
    AcnBertConfig,
    AcnBertForSequenceClassification,
    ConfidenceExit,
    EarlyExitReport,
    ExitCalibration,
    measure_depth_profile,
    truncate,
)
from acn_hf.report import ReportRecord
from acn_hf.report.answers import Measurements
from acn_hf.report.record import RECORD_NAME
from tests.support.reported import CHOICES, CLASSES, LABELS, LANGUAGE, NUMBERS, QUESTIONS, TAGS, answers, result, rows

CALIBRATION = ExitCalibration(ConfidenceExit(0.9), 0.01, 0.9, 0.895, 1.5, 60)


@pytest.mark.parametrize(
    ("task", "there", "absent"),
    [
        (CLASSES, {"classes", "examples"}, set()),
        (LABELS, {"classes", "examples"}, set()),
        (NUMBERS, {"residuals", "examples"}, set()),
        (TAGS, {"classes", "examples"}, set()),
        (CHOICES, {"examples"}, {"classes"}),
        (QUESTIONS, {"examples"}, {"classes"}),
        (LANGUAGE, set(), {"classes", "examples"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_it_holds_what_there_is_and_says_what_there_is_not(task, there, absent, tmp_path):
    made = result(task)
    record = ReportRecord.of(made, rows=rows(made.measurements.answers().num_examples))
    parts = {name for name in ("classes", "residuals", "examples") if getattr(record, name) is not None}
    assert parts == there
    assert set(record.absent) == absent
    assert set(record.losses) == {0, 1, 2, 3, 4}
    record.save(tmp_path / "report.json")
    assert ReportRecord.load(tmp_path / "report.json") == record


def test_what_a_depth_loses_is_what_the_result_says_itself():
    made = result(number=400)
    record = ReportRecord.of(made)
    assert record.losses[4] == (0.0, 0.0)
    for depth, (low, high) in record.losses.items():
        assert low <= made.profile.values[-1] - made.profile.value_at(depth) <= high


def test_what_the_result_says_of_the_chosen_depth_holds():
    assert ReportRecord.of(replace(result(), interval=(-0.1, 0.25))).losses[2] == (-0.1, 0.25)


def test_of_too_few_examples_there_is_no_band():
    record = ReportRecord.of(result(number=1))
    assert record.losses == {}
    assert "too few" in record.absent["losses"]


def test_rows_are_looked_at_only_where_they_are_shown():
    assert ReportRecord.of(result(LANGUAGE), rows=rows(3)).examples is None
    with pytest.raises(ValueError, match="rows must be those that were measured"):
        ReportRecord.of(result(), rows=rows(3))


def test_without_rows_examples_have_numbers():
    record = ReportRecord.of(result())
    assert all(example.text is None for example in record.examples.examples)
    assert "rows=" in record.absent["texts"]


@pytest.mark.parametrize("examples", [-1, 2.5, True])
def test_another_number_of_examples_is_refused(examples):
    with pytest.raises(ValueError, match=f"examples must be a whole number >= 0; got {examples}"):
        ReportRecord.of(result(), examples=examples)


def test_a_result_of_old_holds_no_answers(tmp_path):
    made = result()
    old = json.loads(json.dumps(made.to_dict()))
    for name in ("choice", "tradeoffs", "training", "sources", "seconds", "circumstances", "doubts", "healed"):
        old.pop(name)
    (tmp_path / "result.json").write_text(json.dumps(old))
    record = ReportRecord.of_folder(tmp_path)
    assert record.figures.profile == made.profile
    assert set(record.absent) == {"classes", "examples", "losses"}


def test_the_first_version_called_it_by_another_name(tmp_path):
    fields = result().to_dict()
    first = {name: fields[name] for name in ("depth", "profile", "cost_before", "cost_after", "finetuned")}
    (tmp_path / "compression.json").write_text(json.dumps(first))
    assert ReportRecord.of_folder(tmp_path).figures.depth == 2


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report.json, of result.json, or of .* holds none of them"):
        ReportRecord.of_folder(tmp_path)


def fields_without(*names):
    def change(fields):
        for name in names:
            fields.pop(name)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fields_without("figures"), "no 'figures'"),
        (fields_without("examples"), "no 'examples'"),
        (lambda fields: fields.update(more=1), "unexpected keyword argument 'more'"),
        (lambda fields: fields["figures"].update(depth=9), "depth must be one of those measured"),
        (lambda fields: fields["figures"]["profile"].update(values=["x"] * 5), "DepthProfile"),
        (lambda fields: fields["figures"]["profile"].update(values=[math.nan] * 5), "finite"),
        (lambda fields: fields["losses"].update({"7": [0, 0]}), r"losses must be of the depths \[0, 1, 2, 3, 4\]"),
        (lambda fields: fields["losses"].update({"1": [0]}), "not enough values"),
        (lambda fields: fields["figures"].update(seconds=[1]), "seconds must be a dictionary"),
        (lambda fields: fields["figures"].update(doubts=[{"a": 1}]), "doubts must be texts"),
        (lambda fields: fields["figures"].update(healed={"1": "high"}), "figures must be numbers"),
        (lambda fields: fields.update(absent=None), "say what is absent"),
        (lambda fields: fields["classes"].update(support=[1]), "figures of classes"),
    ],
)
def test_a_damaged_record_is_refused_by_name(tmp_path, change, message):
    fields = json.loads(json.dumps(ReportRecord.of(result()).to_dict()))
    change(fields)
    path = tmp_path / RECORD_NAME
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"report.json holds no ReportRecord: .*{message}"):
        ReportRecord.of_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"a"', "{}"])
@pytest.mark.parametrize(("name", "kind"), [("report.json", "ReportRecord"), ("result.json", "Figures")])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, name, kind, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} holds no {kind}"):
        ReportRecord.of_folder(tmp_path)


@pytest.mark.parametrize("exits", [CALIBRATION, EarlyExitReport(ConfidenceExit(0.9), 0.895, (10, 30, 20))])
def test_what_a_policy_does(exits):
    record = ReportRecord.of(result(), exits=exits)
    assert "threshold=0.9" in record.exits["policy"]
    assert record.exits["accuracy"] == 0.895
    assert record.exits["num_examples"] == 60


def test_profiles_that_were_loaded_hold_no_answers():
    profile = result().profile
    assert Measurements(profile, profile, {}, "", answers().config).answers() is None


def measured(model, number, *, depths=None):
    data = [{"input_ids": torch.tensor([[row % 7, 2]]), "labels": torch.tensor([row % 2])} for row in range(number)]
    return measure_depth_profile(model, data, depths=depths)


def test_what_was_measured_of_a_trained_model_takes_the_place_of_what_was_cut():
    config = AcnBertConfig(num_hidden_layers=2, hidden_size=24, num_attention_heads=2, vocab_size=9)
    torch.manual_seed(0)
    long, other = AcnBertForSequenceClassification(config), AcnBertForSequenceClassification(config)
    profile, trained = measured(long, 6), measured(truncate(other, 1), 6, depths=[])
    head = "AutoModelForSequenceClassification"
    found = Measurements(profile, profile, {1: trained}, head, config).answers()
    assert np.array_equal(found.at[1].answers, trained.evidence.arrays(1)[0])
    assert np.array_equal(found.at[2].answers, found.full.answers)
    assert found.num_examples == 6
    for depth, model in ((0, truncate(long, 0)), (1, truncate(other, 1)), (2, long)):
        logits = [model.eval()(torch.tensor([[row % 7, 2]])).logits.softmax(-1).max().item() for row in range(6)]
        assert found.at[depth].certainty == pytest.approx(np.array(logits), abs=1e-6)
    shorter = measured(truncate(other, 1), 4, depths=[])
    assert Measurements(profile, profile, {1: shorter}, head, config).answers() is None
