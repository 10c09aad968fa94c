"""Entities that tags mark, at every depth: what seqeval says of the sentences that a tagger reads."""

import sys

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from acn_hf import DepthProfile, depth_logits, measure_depth_profile
from acn_hf.depth import entities
from acn_hf.depth.distributed_profile import measure_together
from acn_hf.depth.evidence import Evidence
from acn_hf.depth.metrics import METRICS, Metric, ProfileError
from acn_hf.depth.spans import as_objects
from tests.depth.test_effective_depth import tolerance_that_passes
from tests.support.families import by_name

TOKENS = by_name("bert-ForTokenClassification")
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
CLASSES = {"id2label": dict(enumerate(TAGS)), "label2id": {name: number for number, name in enumerate(TAGS)}}
NAMES = {"num_labels": 5, **CLASSES}
OF_SEQEVAL = {"entity_f1": f1_score, "entity_precision": precision_score, "entity_recall": recall_score}


def test_entities_are_counted_by_hand():
    right = as_objects([["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]])
    found = as_objects([["B-PER", "I-PER", "O", "B-PER"], ["O", "O"]])
    # Three are to be found, two are found, and one of these is right.
    assert METRICS["entity_precision"].score(found, right) == 1 / 2
    assert METRICS["entity_recall"].score(found, right) == 1 / 3
    assert METRICS["entity_f1"].score(found, right) == pytest.approx(2 / 5)
    assert entities.counts(found, right).tolist() == [[1, 2, 2], [0, 0, 1]]


def sentences(seed, count=40):
    rng = np.random.default_rng(seed)
    return as_objects([rng.choice(TAGS, size=rng.integers(0, 9)).tolist() for _ in range(count)])


@pytest.mark.parametrize("name", OF_SEQEVAL)
def test_the_mean_of_what_sentences_contribute_is_the_metric(name):
    right, rng = sentences(0), np.random.default_rng(1)
    found = as_objects([[tag if rng.random() < 0.7 else "O" for tag in tags] for tags in right])
    metric = METRICS[name]
    of_mean = metric.of_mean(metric.per_example(found, right).mean(axis=0))
    assert 0 < of_mean < 1
    assert of_mean == pytest.approx(OF_SEQEVAL[name](list(right), list(found)))
    assert metric.score(found, right) == pytest.approx(of_mean)


@pytest.mark.parametrize("name", OF_SEQEVAL)
def test_nothing_found_is_nothing_right(name):
    right = as_objects([["B-PER"], ["O"]])
    found = as_objects([["O"], ["O"]])
    metric = METRICS[name]
    assert metric.score(found, right) == 0.0
    assert metric.of_mean(metric.per_example(found, right).mean(axis=0)) == 0.0


@pytest.fixture
def tagger(build):
    """A model of five tags, and batches of 20 sentences, in which some tokens do not count."""
    model = build(TOKENS, **NAMES)
    batch = TOKENS.inputs(batch_size=20)
    batch["labels"] = torch.randint(0, 5, (20, 7))
    batch["labels"][:, 0] = -100
    batch["labels"][4, 2:] = -100
    return model, [{name: value[start : start + 6] for name, value in batch.items()} for start in range(0, 20, 6)]


def by_hand(model, batches):
    """Return the right tags of each sentence and those found at each depth."""
    right, found = [], [[] for _ in range(4)]
    for batch in batches:
        with torch.no_grad():
            logits = depth_logits(model, **{name: value for name, value in batch.items() if name != "labels"})
        for row, labels in enumerate(batch["labels"]):
            counted = [place for place, label in enumerate(labels.tolist()) if label != -100]
            right.append([TAGS[labels[place]] for place in counted])
            for depth, at in enumerate(logits):
                found[depth].append([TAGS[at[row, place].argmax()] for place in counted])
    return right, found


@pytest.mark.parametrize("name", OF_SEQEVAL)
def test_every_depth_is_what_seqeval_says_of_the_sentences(tagger, name):
    model, batches = tagger
    right, found = by_hand(model, batches)
    expected = [OF_SEQEVAL[name](right, at, zero_division=0) for at in found]
    assert measure_depth_profile(model, batches, metric=name).values == pytest.approx(expected)
    assert measure_together(model, batches, metric=name, batch_size=1).values == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_entities_do_not_run_over_the_end_of_a_sentence(build):
    """A sentence that ends in an entity, and one that begins with the rest of one."""
    model, batch = build(TOKENS, **NAMES), TOKENS.inputs(batch_size=2)
    with torch.no_grad():
        found = model(**batch).logits.argmax(-1)
    batch["labels"] = found.clone()
    batch["labels"][0], batch["labels"][1] = torch.tensor([0, 0, 0, 0, 0, 1, 2]), torch.tensor([2, 2, 0, 0, 0, 0, 0])
    evidence = measure_depth_profile(model, [batch], metric="entity_f1").evidence
    assert entities.counts(*evidence.arrays(3))[:, 2].tolist() == [1, 1]


def test_confidence_resamples_sentences():
    """As resampling with seqeval itself says, of sentences of which one in ten is read worse at depth 0."""
    right = as_objects([["B-PER", "O", "B-LOC"]] * 300)
    worse = as_objects([["B-PER", "O", "O"] if number % 10 == 0 else tags for number, tags in enumerate(right)])

    evidence = Evidence(METRICS["entity_f1"], {0: [worse], 1: [right]}, [right])
    values = (evidence.value(0), evidence.value(1))
    measured = DepthProfile((0, 1), values, "entity_f1", True, 300, (0, 1), evidence)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(300):
        rows = rng.integers(0, 300, 300)
        losses.append(1 - f1_score(list(right[rows]), list(worse[rows])))
    assert tolerance_that_passes(measured, 0.95) == pytest.approx(np.quantile(losses, 0.95), abs=0.004)
    assert 1 - values[0] < np.quantile(losses, 0.95)


def test_a_stricter_metric_of_entities_is_a_metric_of_ones_own(tagger):
    model, batches = tagger
    strict = Metric(
        "strict_f1",
        True,
        lambda found, right: f1_score(list(right), list(found), mode="strict", scheme=IOB2, zero_division=0),
        needs="tags",
    )
    right, found = by_hand(model, batches)
    expected = [f1_score(right, at, mode="strict", scheme=IOB2, zero_division=0) for at in found]
    assert measure_depth_profile(model, batches, metric=strict).values == pytest.approx(expected)


# --- refusals


def test_classes_that_are_no_tags_are_named(build):
    model, batch = build(TOKENS), TOKENS.inputs(labels=True)
    text = (
        "^metrics of entities need tags that begin with B-, I-, E- or S-, or are O, in the id2label .*; got 'LABEL_0'$"
    )
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(model, [batch], metric="entity_f1")


def test_data_without_an_entity_are_refused(tagger):
    model, batches = tagger
    for batch in batches:
        batch["labels"][batch["labels"] >= 0] = 0
    text = "^metric 'entity_f1' does not fit the data: at least one entity must be right; all tags are O$"
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(model, batches, metric="entity_f1")


def test_a_classifier_of_texts_has_no_tags(build):
    head = by_name("bert-ForSequenceClassification")
    text = r"^metric 'entity_f1' is for labels of tokens; got labels of shape \(2,\)$"
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(build(head), [head.inputs(labels=True)], metric="entity_f1")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "seqeval.metrics", None)
    with pytest.raises(ImportError, match=r"^metrics of entities need seqeval: pip install 'acn-hf\[metrics\]'$"):
        METRICS["entity_f1"].score(as_objects([["O"]]), as_objects([["O"]]))
