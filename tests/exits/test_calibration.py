"""The chosen threshold is the best of all thresholds, by brute force; a report says what a plain loop counts."""

import numpy as np
import pytest
import torch

from acn_hf import (
    ConfidenceExit,
    EarlyExitReport,
    EntropyExit,
    ExitCalibration,
    PatienceExit,
    calibrate_exit,
    depth_logits,
    measure_early_exit,
    plot_exit_depths,
    predict_early_exit,
)
from acn_hf.depth.metrics import ProfileError
from acn_hf.exits.calibration import _between, _choose, _Evidence
from tests.support.exits import CLASSIFIERS, OF_TOKENS, PlannedExit, padded
from tests.support.families import NUM_LAYERS, by_name, each_head

SEQUENCES = by_name("bert-ForSequenceClassification")


def batches_of(model, head, number=3, batch_size=12):
    """Return labelled batches; labels are often what full depth says, so that depths differ in accuracy."""
    made = []
    for seed in range(number):
        torch.manual_seed(seed)
        inputs = padded(head.make_features(head.config(), batch_size))
        with torch.no_grad():
            labels = model(**inputs).logits.argmax(-1)
        noise = torch.rand(labels.shape)
        labels = torch.where(noise < 0.3, torch.zeros_like(labels), labels)
        if head in OF_TOKENS:
            labels[noise > 0.6] = -100
        made.append({**inputs, "labels": labels})
    return made


def plain_tables(model, policy, data, tokens):
    """Return the scores, the hits and the number of labels of every example at all depths, by plain loops."""
    scores, hits, num_labels = [], [], []
    for batch in data:
        labels = batch["labels"]
        with torch.no_grad():
            logits = depth_logits(model, **{name: value for name, value in batch.items() if name != "labels"})
        for example in range(len(labels)):
            counts = labels[example] != -100
            seen = logits[:, example][:, counts] if tokens else logits[:, example : example + 1]
            right = (seen.argmax(-1) == labels[example][counts]).sum(1)
            memory, of_depths = None, []
            for depth in range(policy.min_depth, NUM_LAYERS):
                score, memory = policy.score(seen[depth], depth, memory)
                of_depths.append(float(score.min()) if len(score) else float("inf"))
            scores.append(of_depths)
            hits.append(right.tolist())
            num_labels.append(int(counts.sum()))
    return np.array(scores), np.array(hits), sum(num_labels)


def outcome(scores, hits, num_labels, min_depth, bound):
    """Return the accuracy and the mean depth of one bound."""
    reached = np.concatenate([scores >= bound, np.ones((len(scores), 1), dtype=bool)], axis=1)
    depths = min_depth + reached.argmax(axis=1)
    return hits[np.arange(len(hits)), depths].sum() / num_labels, depths.mean()


POLICIES = [ConfidenceExit(0.5), EntropyExit(0.5), PatienceExit(1), ConfidenceExit(0.5, min_depth=1)]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@each_head(CLASSIFIERS)
def test_the_choice_is_the_best_of_all_thresholds(build, head, policy):
    model = build(head)
    data = batches_of(model, head)
    scores, hits, num_labels = plain_tables(model, policy, data, head in OF_TOKENS)
    full = hits[:, -1].sum() / num_labels
    bounds = [bound for bound in np.unique(scores) if bound >= policy.lowest_bound and np.isfinite(bound)]
    outcomes = [outcome(scores, hits, num_labels, policy.min_depth, bound) for bound in bounds]
    for tolerance in (0.0, 0.06, 1.0):
        chosen = calibrate_exit(policy, model, data, tolerance)
        allowed = [(depth, accuracy) for accuracy, depth in outcomes if full - accuracy <= tolerance + 1e-9]
        depth, accuracy = min(allowed, default=(NUM_LAYERS, full))
        assert chosen.full_depth_accuracy == pytest.approx(full)
        assert chosen.mean_depth == pytest.approx(depth)
        assert chosen.accuracy == pytest.approx(accuracy)
        assert chosen.num_examples == 36
        report = measure_early_exit(model, data, chosen.policy)
        assert report.accuracy == pytest.approx(chosen.accuracy)
        assert report.mean_depth == pytest.approx(chosen.mean_depth)


def test_the_search_by_hand():
    """Four examples, two depths before the last; who leaves early at depth 0 is wrong, at depth 1 right but one."""
    scores = np.array([[0.2, 0.9], [0.6, 0.5], [0.1, 0.8], [0.3, 0.4]])
    hits = np.array([[0, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0, 1]])
    evidence = _Evidence((0, 1, 2), scores, hits, 4)
    expected = {
        0.0: (0.7, 1.0, (1 + 2 + 1 + 2) / 4),  # the first and the third leave at depth 1
        0.25: (0.55, 0.75, (1 + 0 + 1 + 2) / 4),  # and the second at depth 0; the next bound costs the fourth
        0.5: (0.25, 0.5, (1 + 0 + 1 + 0) / 4),  # and the fourth at depth 0, where it is no worse than at depth 1
        1.0: (0.1, 0.0, 0.0),
    }
    for tolerance, (threshold, accuracy, mean_depth) in expected.items():
        chosen = _choose(ConfidenceExit(1.0), evidence, tolerance)
        assert chosen.policy.threshold == pytest.approx(threshold)
        assert (chosen.full_depth_accuracy, chosen.accuracy) == (1.0, accuracy)
        assert chosen.mean_depth == pytest.approx(mean_depth)


@pytest.mark.parametrize("policy", [ConfidenceExit(0.5), EntropyExit(0.5), PatienceExit(1)])
def test_if_every_exit_loses_too_much_nobody_leaves_early(policy):
    scores = np.full((3, 2), {ConfidenceExit: 1.0, EntropyExit: 0.0, PatienceExit: 5.0}[type(policy)])
    evidence = _Evidence((0, 1, 2), scores, np.array([[0, 0, 1]] * 3), 3)
    chosen = _choose(policy, evidence, 0.1)
    assert chosen.policy.min_depth == 2
    assert (chosen.accuracy, chosen.mean_depth) == (1.0, 2.0)


def test_patience_of_tokens_and_examples_without_tokens():
    scores = np.array([[0.0, 1.0, 2.0], [np.inf] * 3, [0.0, 0.0, 1.0], [np.inf] * 3])
    evidence = _Evidence((0, 1, 2, 3), scores, np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]]), 2)
    chosen = _choose(PatienceExit(9), evidence, 0.0)
    assert chosen.policy == PatienceExit(1)
    assert chosen.mean_depth == pytest.approx((1 + 0 + 2 + 0) / 4)


def test_a_threshold_lies_between_scores_or_is_one():
    observed = np.float32([0.25, 0.5, np.nextafter(np.float32(0.5), np.float32(1))]).astype(float)
    assert _between(observed, 0.5) == 0.375
    assert _between(observed, observed[2]) == observed[2]  # in float32 there is nothing between
    assert _between(observed, 0.25) == 0.25  # there is nothing below


@each_head(CLASSIFIERS)
def test_a_report_counts_what_the_predictions_say(build, head):
    model = build(head).train()
    data = batches_of(build(head), head)
    policy = PatienceExit(1)
    report = measure_early_exit(model, data, policy, compare=True)
    assert model.training
    outputs = [predict_early_exit(model, batch, policy) for batch in data]
    depths = torch.cat([output.exit_depths for output in outputs])
    assert report.exit_counts == tuple(torch.bincount(depths, minlength=NUM_LAYERS + 1).tolist())
    assert report.num_examples == 36
    assert report.mean_depth == pytest.approx(float(depths.double().mean()))
    labels = torch.cat([batch["labels"] for batch in data])
    counts = labels != -100
    right = torch.cat([output.predictions for output in outputs])[counts] == labels[counts]
    assert report.accuracy == pytest.approx(float(right.double().mean()))
    full = torch.cat([build(head)(**batch).logits.argmax(-1) for batch in data])[counts] == labels[counts]
    assert report.full_depth_accuracy == pytest.approx(float(full.double().mean()))
    assert report.early_exit_ms > 0
    assert report.time_ratio == report.early_exit_ms / report.full_depth_ms
    assert measure_early_exit(model, data, policy).time_ratio is None


def test_records_are_saved_and_shown(build, tmp_path):
    model = build(SEQUENCES)
    data = batches_of(model, SEQUENCES)
    for record in (
        calibrate_exit(EntropyExit(0.5), model, data, 0.1),
        measure_early_exit(model, data, ConfidenceExit(0.6), compare=True),
    ):
        record.save(tmp_path / "record.json")
        assert type(record).load(tmp_path / "record.json") == record
    assert "ConfidenceExit(min_depth=0, depths=None, threshold=0.6): accuracy" in str(record)
    assert len(str(record).splitlines()) > NUM_LAYERS
    with pytest.raises(ValueError, match="holds no ExitCalibration"):
        ExitCalibration.load(tmp_path / "record.json")


def test_the_histogram_shows_the_counts():
    report = EarlyExitReport(ConfidenceExit(0.5), 0.9, (1, 0, 3, 0))
    for exits, heights in ((report, [1, 0, 3, 0]), (torch.tensor([2, 0, 2, 2]), [1, 0, 3])):
        axes = plot_exit_depths(exits)
        assert [bar.get_height() for bar in axes.patches] == heights
        assert axes.get_lines()[0].get_xdata()[0] == 1.5
        assert plot_exit_depths(exits, ax=axes) is axes
        assert axes.get_xlabel() == "exit depth (layers run)"
    with pytest.raises(ValueError, match="exit depths must hold at least one example; got none"):
        plot_exit_depths(torch.tensor([], dtype=torch.long))


def both(model, data, **options):
    """Return the two functions that read labelled data."""
    return (
        lambda: calibrate_exit(ConfidenceExit(0.5), model, data, **options),
        lambda: measure_early_exit(model, data, ConfidenceExit(0.5), **options),
    )


def test_data_without_what_is_needed_are_refused(build):
    model, inputs = build(SEQUENCES), SEQUENCES.inputs(4)
    words = build(OF_TOKENS[0])
    cases = [
        (model, [], "the data must hold at least one example; got none"),
        (model, [inputs], "the data must hold labels; got only input_ids"),
        (model, [{**inputs, "labels": torch.rand(4)}], "labels must be the numbers of classes; got torch.float32"),
        (model, [{**inputs, "labels": torch.zeros(4, 7).long()}], r"labels of shape \(4, 7\) do not fit logits"),
        (model, [{**inputs, "labels": torch.tensor([0, 2, 3, -100])}], "labels must be from 0 to 2, or -100; got 3"),
        (model, [{**inputs, "labels": torch.tensor([0, -1, 1, 0])}], "labels must be from 0 to 2, or -100; got -1"),
        (words, [{**inputs, "labels": torch.full((4, 7), -100)}], "at least one label must count; all are -100"),
    ]
    for owner, data, message in cases:
        for function in both(owner, data):
            with pytest.raises(ProfileError, match=message):
                function()


@pytest.mark.parametrize("tolerance", [-0.1, 1.5, float("nan"), True])
def test_tolerances_lie_between_0_and_1(build, tolerance):
    with pytest.raises(ProfileError, match=r"tolerance must lie in \[0, 1\]; got"):
        calibrate_exit(ConfidenceExit(0.5), build(SEQUENCES), [], tolerance)


def test_logits_that_are_no_numbers_are_refused(build):
    model = build(SEQUENCES)
    model.classifier.bias.data[0] = float("nan")
    with pytest.raises(ProfileError, match="the logits must be finite numbers; got nan or infinity at depth 0"):
        calibrate_exit(ConfidenceExit(0.5), model, [SEQUENCES.inputs(4, labels=True)])


def test_a_policy_without_a_threshold_is_refused_before_the_data_are_read(build):
    def never():
        raise AssertionError
        yield

    with pytest.raises(TypeError, match="PlannedExit has no bound that can be calibrated"):
        calibrate_exit(PlannedExit((1,)), build(SEQUENCES), never())


def test_other_tokens_can_count(build):
    head = OF_TOKENS[0]
    model = build(head)
    data = batches_of(model, head)
    options = {"counted": lambda inputs: inputs["attention_mask"]}
    chosen = calibrate_exit(ConfidenceExit(0.5), model, data, 1.0, **options)
    report = measure_early_exit(model, data, chosen.policy, **options)
    assert report.mean_depth == pytest.approx(chosen.mean_depth)
    assert measure_early_exit(model, data, chosen.policy).mean_depth <= report.mean_depth
