"""What is wrong with data, a model or a choice is said in words; and nothing is said of a good choice."""

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from scipy import stats

from acn_hf import DepthProfile, measure_depth_profile
from acn_hf.depth.doubts import doubts_about, doubts_about_data, never_answered, same_answers
from acn_hf.depth.evidence import Evidence
from acn_hf.depth.metrics import METRICS, Metric, ProfileError
from acn_hf.depth.spans import Span, Window, as_objects
from tests.support.any_models import any_model, with_labels

NAMES = SimpleNamespace(id2label={0: "negative", 1: "positive"})
RNG = np.random.default_rng(0)
SEVERAL = SimpleNamespace(id2label={0: "a", 1: "b", 2: "c"}, problem_type="multi_label_classification")
BALANCED = np.arange(10_000) % 2

ERRORS = Metric("errors", False, lambda predictions, references: float((predictions != references).mean()))
"""A metric of which less is better, and which does not say what each example contributes."""


def profile_of(predictions, references, metric="accuracy", num_examples=None):
    """Return a profile of these predictions, an array for each depth."""
    metric = METRICS.get(metric, metric)
    evidence = Evidence(metric, {depth: [np.asarray(row)] for depth, row in enumerate(predictions)}, [references])
    depths = evidence.depths
    values = tuple(evidence.value(depth) for depth in depths)
    number = len(references) if num_examples is None else num_examples
    return DepthProfile(depths, values, metric.name, metric.greater_is_better, number, depths, evidence)


def wrong_on(references, share, seed=0):
    """Return labels of two classes of which a share, drawn at random, is wrong."""
    flipped = np.random.default_rng(seed).random(len(references)) < share
    return np.where(flipped, 1 - references, references)


def good(references=BALANCED):
    """Return predictions of which depth 2 of 3 is nearly as good as full depth, and depth 0 and 1 are not."""
    full = wrong_on(references, 0.1)
    return [wrong_on(references, 0.4, 1), wrong_on(references, 0.3, 2), wrong_on(full, 0.002, 3), full]


def test_nothing_is_said_of_a_good_choice():
    profile = profile_of(good(), BALANCED)
    assert profile.effective_depth(0.01) == 2
    assert doubts_about(profile, 0.01, 2, model=NAMES) == ()
    assert doubts_about(profile, None, 1, model=NAMES) == ()
    assert same_answers(profile, model=NAMES) == ()


THREE = np.arange(90) % 3
NAMED = SimpleNamespace(id2label={0: "a", 1: "b", 2: "c"})


def test_a_class_that_the_teacher_never_answers():
    full = np.where(THREE == 2, 0, THREE)
    profile = profile_of([np.zeros(90, int), full], THREE)
    assert never_answered(profile, model=NAMED) == (
        'the model that teaches answers "c" for no example, though 30 have that label: it cannot teach what it never '
        "says, so train it longer before it teaches",
    )
    tokens = profile_of([full, full], THREE, "f1_macro", num_examples=9)
    assert 'answers "c" for no token' in never_answered(tokens, model=NAMED)[0]
    tags = as_objects([["B-A", "O"]] * 30)
    missed = as_objects([["B-A", "O"], *[["O", "O"]] * 29])
    assert never_answered(profile_of([missed, missed], tags, "entity_f1")) == ()
    twos = as_objects([["B-A", "B-B"]] * 30)
    assert 'answers "B-B" for no token, though 30' in never_answered(profile_of([missed, missed], twos, "entity_f1"))[0]


@pytest.mark.parametrize(
    ("predictions", "references", "metric", "model"),
    [
        ([THREE, np.roll(THREE, 1)], THREE, "accuracy", NAMED),  # all are answered, if wrongly
        ([THREE, np.zeros(90, int)], THREE, "accuracy", NAMED),  # one answer only is another doubt
        ([THREE % 2, THREE % 2], np.where(np.arange(90) < 19, 2, THREE % 2), "accuracy", NAMED),  # seldom
        ([THREE % 2, THREE % 2], THREE, "accuracy", None),  # words of a vocabulary
        ([np.full(90, 0.5), THREE / 7], THREE / 3, "mse", NAMED),
        ([np.eye(3, dtype=int)[THREE % 2]] * 2, np.eye(3, dtype=int)[THREE], "f1_micro", SEVERAL),
        ([np.ones(90), np.ones(90)], np.ones(90), "loss", NAMED),
    ],
)
def test_nothing_is_said_of_answers_that_are_given_or_of_what_has_no_classes(predictions, references, metric, model):
    assert never_answered(profile_of(predictions, references, metric), model=model) == ()


def test_one_row():
    profile = profile_of([[0], [1]], np.array([1]))
    assert doubts_about(profile, 0.01, 1) == ("the data hold one example, by which no depth can be chosen",)


@pytest.mark.parametrize(
    ("label", "model", "name"),
    [
        (np.array(0), NAMES, '"negative"'),
        (np.array(0), None, "0"),
        (np.array([1, 0, 1]), SEVERAL, '"a" and "c"'),
        (np.array([0, 0, 0]), SEVERAL, "no label"),
        (np.array([3, 7]), NAMES, "3, 7"),
    ],
    ids=str,
)
def test_one_label_only(label, model, name):
    references = np.stack([label] * 40)
    profile = profile_of([1 - references, references], references)
    text = f"all 40 examples have the label {name}, so a depth that answers it always looks perfect"
    assert doubts_about(profile, None, 1, model=model) == (text,)
    assert same_answers(profile, model=model) == ()


def test_one_number_only():
    references = np.full(40, 0.5)
    profile = profile_of([RNG.random(40), RNG.random(40)], references, "mse")
    assert doubts_about(profile, None, 1)[0].startswith("all 40 examples have the label 0.5, so")


@pytest.mark.parametrize(
    ("metric", "references", "full", "answer", "value"),
    [
        ("accuracy", np.arange(900) % 3 == 0, np.arange(900) % 2, '"negative"', "0.6667"),
        ("balanced_accuracy", BALANCED[:900], 1 - BALANCED[:900], '"negative"', "0.5000"),
        ("f1", np.arange(900) % 3 != 0, np.arange(900) % 2, '"positive"', "0.8000"),
        ("mse", np.arange(900) / 900, np.zeros(900), "0.4994", "0.0833"),
        ("mae", np.arange(900) / 900, np.zeros(900), "0.4994", "0.2500"),
        ("r2", np.arange(900) / 900, np.zeros(900), "0.4994", "0.0000"),
        ("pearson", np.arange(900) / 900, -np.arange(900) / 900, "0.4994", "0.0000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_full_depth_that_is_no_better_than_one_answer(metric, references, full, answer, value):
    references = references if references.dtype.kind == "f" else references.astype(int)
    doubts = doubts_about(profile_of([full, full], references, metric), None, 1, model=NAMES)
    (found,) = (doubt for doubt in doubts if "no better" in doubt)
    end = f"is no better than {value}, which answering {answer} for every example gives: no depth has anything to keep"
    assert found.startswith(f"{metric} at full depth, ")
    assert found.endswith(end)


def test_full_depth_that_is_better_by_chance():
    few, full = BALANCED[:100], wrong_on(BALANCED[:100], 0.45)
    (doubt,) = doubts_about(profile_of([few, full], few), None, 1, model=NAMES)
    assert doubt == (
        f"accuracy at full depth, {(full == few).mean():.4f}, cannot be told on 100 examples from 0.5000, which "
        'answering "negative" for every example gives'
    )
    assert doubts_about(profile_of([BALANCED, wrong_on(BALANCED, 0.45)], BALANCED), None, 1) == ()


def test_a_recall_is_not_compared_with_one_answer():
    references = np.arange(900) % 3 != 0
    profile = profile_of(
        [references.astype(int), wrong_on(references.astype(int), 0.1)], references.astype(int), "recall"
    )
    assert doubts_about(profile, None, 1) == ()


def test_depths_of_one_answer():
    references = BALANCED[:1000]
    never, always = np.zeros(1000, int), np.ones(1000, int)
    profile = profile_of([never, never, always, references], references)
    assert same_answers(profile, model=NAMES) == (
        'depths 0 and 1 answer "negative" for every example',
        'depth 2 answers "positive" for every example',
    )
    assert doubts_about(profile, None, 2, model=NAMES) == ('depth 2 answers "positive" for every example',)
    assert doubts_about(profile, None, 3, model=NAMES) == ()


def test_depths_of_one_number():
    references = np.arange(100) / 100
    near = 0.25 + RNG.random(100) * 1e-8
    profile = profile_of([near.astype(np.float32), references], references, "mse")
    assert same_answers(profile) == ("depth 0 answers 0.25 for every example",)


def test_tokens_are_called_tokens():
    references = BALANCED[:1000]
    profile = profile_of([np.ones(1000, int), references], references, num_examples=100)
    assert same_answers(profile, model=NAMES) == ('depth 0 answers "positive" for every token',)


def tagged(texts, metric="entity_f1"):
    """Return a profile of tags: of each depth a list of texts, each of them a list of tags; the last are right."""
    *predicted, right = (as_objects([text.split() for text in text_of_depth]) for text_of_depth in texts)
    return profile_of(predicted, right, metric)


TAGS = ["B-PER I-PER O", "O O", "O B-PER O O"] * 20
NO_TAGS = ["O O O", "O O", "O O O O"] * 20


def test_tags_are_doubted():
    profile = tagged([NO_TAGS, TAGS, TAGS])
    assert same_answers(profile) == ('depth 0 answers "O" for every token',)
    assert doubts_about(profile, None, 1) == ()
    assert doubts_about(tagged([TAGS, NO_TAGS, TAGS]), None, 1) == (
        'entity_f1 at full depth, 0.0000, is no better than 0.0000, which answering "O" for every token gives: no '
        "depth has anything to keep",
        'depth 1 answers "O" for every token',
    )
    (doubt,) = doubts_about(tagged([[*TAGS[:-1], NO_TAGS[-1]], TAGS, TAGS]), 0.01, 1)
    assert doubt.startswith("on 60 texts a difference of 0.01 in entity_f1 cannot be told from chance, only one above")
    places = ["B-LOC B-LOC"] * 30
    (doubt,) = doubts_about(tagged([["O B-LOC"] * 30, places, places]), None, 1)
    assert doubt == 'all 60 tokens have the label "B-LOC", so a depth that answers it always looks perfect'


def answered(*predicted, right):
    """Return a profile of answers to questions, each of which is a text of its own."""
    windows = as_objects([Window(number, answers) for number, answers in enumerate(right)])
    spans = [as_objects([Span(text, 1.0, 0.0) for text in texts]) for texts in predicted]
    return profile_of(spans, windows, "exact_match")


def test_answers_to_questions_are_doubted():
    right, texts = [("paris", "in paris"), ("emma",)] * 30, ["paris", "emma"] * 30
    profile = answered(["paris"] * 60, texts, right=right)
    assert same_answers(profile) == ('depth 0 answers "paris" for every question',)
    assert doubts_about(profile, None, 1) == ()
    assert doubts_about(answered(texts, ["paris"] * 60, right=right), None, 1) == (
        'exact_match at full depth, 0.5000, is no better than 0.5000, which answering "emma" for every question gives: '
        "no depth has anything to keep",
        'depth 1 answers "paris" for every question',
    )
    (doubt,) = doubts_about(answered(["oslo", *texts[1:]], texts, right=right), 0.01, 1)
    assert doubt.startswith("on 60 questions a difference of 0.01 in exact_match cannot be told from chance, only one")


def test_words_of_a_vocabulary_have_no_names():
    references = np.arange(1000) % 50
    profile = profile_of([np.ones(1000, int), references], references)
    assert same_answers(profile, model=NAMES) == ("depth 0 answers 1 for every example",)


@pytest.mark.parametrize("metric", [METRICS["accuracy"], ERRORS], ids=["mean", "whole"])
def test_too_few_examples_for_the_tolerance(metric):
    """The number that it would take is the one at which the doubt is gone."""
    predictions = [wrong_on(BALANCED, 0.1, 1), wrong_on(BALANCED, 0.1, 2)]
    few = profile_of([row[:400] for row in predictions], BALANCED[:400], metric)
    (doubt,) = (one for one in doubts_about(few, 0.02, 1) if "told from chance" in one)
    assert doubt.startswith(f"on 400 examples a difference of 0.02 in {metric.name} cannot be told from chance, ")
    needed = int(doubt.split()[-2].replace(",", ""))
    enough = 2 * 0.1 * 0.9 * (1.96 / 0.02) ** 2  # the two differ on 18% of the examples
    assert enough / 2 < needed < 2 * enough
    repeated = np.arange(2 * needed) % 10_000
    many = profile_of([row[repeated] for row in predictions], BALANCED[repeated], metric)
    assert not [one for one in doubts_about(many, 0.02, 1) if "told from chance" in one]


def test_few_examples_do_where_the_difference_is_plain():
    references = BALANCED[:100]
    profile = profile_of([1 - references, references], references)
    assert doubts_about(profile, 0.05, 1) == ()


def test_few_examples_of_which_none_differs():
    references = BALANCED[:100]
    full = wrong_on(references, 0.1)
    (doubt,) = (one for one in doubts_about(profile_of([full, full, full], references), 0.01, 1) if "chance" in one)
    assert doubt == (
        "on 100 examples a difference of 0.01 in accuracy cannot be told from chance, only one above 0.03: it would "
        "take about 300 examples"
    )


@pytest.mark.parametrize(
    ("number", "tolerance", "is_too_few"),
    [(599, 0.005, True), (600, 0.005, False), (29, 0.1, True), (30, 0.1, False), (10, None, False), (10, 0.0, False)],
)
def test_data_that_could_tell_no_model_from_another_are_doubted_whatever_it_answers(number, tolerance, is_too_few):
    """Then no choice by them could be sure: the doubt is the one that is said where no answer differs."""
    references = np.arange(number) % 2
    sure = doubts_about(profile_of([references, 1 - references, references], references), tolerance, 0, model=NAMES)
    assert any("cannot be told from chance" in doubt for doubt in sure) is is_too_few
    for predictions in ([references], [1 - references, wrong_on(references, 0.3)]):
        doubts = doubts_about_data(profile_of(predictions, references), tolerance, model=NAMES)
        assert len(doubts) == is_too_few
    if is_too_few:
        assert doubts[0].startswith(f"on {number} examples a difference of {tolerance} in accuracy can never be told")
        assert doubts[0].endswith(f"it takes at least {round(3 / tolerance)} examples")


def test_of_data_is_said_only_what_no_model_could_change():
    """A model that answers one class only may learn others."""
    blind = [np.zeros(10_000, dtype=int)] * 2
    assert doubts_about_data(profile_of(blind, BALANCED), 0.01, model=NAMES) == ()
    assert len(doubts_about(profile_of(blind, BALANCED), 0.01, 1, model=NAMES)) > 1
    (one_label,) = doubts_about_data(profile_of([[0, 1, 1]], np.ones(3, dtype=int)), 0.01, model=NAMES)
    assert one_label == 'all 3 examples have the label "positive", so a depth that answers it always looks perfect'
    assert "one example" in doubts_about_data(profile_of([[0]], np.array([1])), 0.01)[0]
    assert doubts_about_data(DepthProfile((0,), (0.5,), "accuracy", True, 9, (1,)), 0.01) == ()


def test_losses_are_told_by_batches():
    losses = [RNG.random(20), RNG.random(20)]
    profile = profile_of(losses, np.ones(20), "loss", num_examples=640)
    (doubt,) = doubts_about(profile, 0.01, 1)
    assert doubt.startswith("on 20 batches a difference of 0.01 in loss cannot be told from chance")
    assert same_answers(profile) == ()


def test_a_depth_without_layers():
    (doubt,) = doubts_about(profile_of(good(), BALANCED), None, 0)
    assert doubt == "depth 0 has no layer: the embeddings and the head alone would do, which is seldom true"


def test_a_loaded_profile_says_what_its_values_show():
    profile = DepthProfile((0, 1, 2), (0.5, 0.5, 0.5), "accuracy", True, 100, (1, 2, 3))
    text = "every depth has the same accuracy, 0.5: the layers change nothing that it sees"
    assert doubts_about(profile, 0.01, 1) == (text,)
    assert doubts_about(DepthProfile((0, 1), (0.5, 0.9), "accuracy", True, 2, (1, 2)), 0.01, 1) == ()
    assert doubts_about(DepthProfile((0, 1), (0.5, 0.9), "accuracy", True, 1, (1, 2)), 0.01, 1)
    assert same_answers(profile) == ()


def test_a_metric_of_ones_own_that_takes_no_one_answer():
    def picky(predictions, references):
        if len(np.unique(predictions)) == 1:
            raise ValueError("one answer only")
        return float((predictions == references).mean())

    own = Metric("picky", True, picky, needs="predictions")
    assert doubts_about(profile_of(good(), BALANCED, own), None, 2) == ()


def test_a_depth_that_was_not_measured_is_refused():
    with pytest.raises(ProfileError, match=r"depth must be one of those measured, \(0, 1, 2, 3\); got 9"):
        doubts_about(profile_of(good(), BALANCED), 0.01, 9)


def test_an_untrained_model_is_doubted():
    entry = any_model("BertForSequenceClassification")
    model = entry.build(id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1})
    ids = torch.randint(5, 50, (60, 9), generator=torch.Generator().manual_seed(0))
    ids[:, 0] = 1  # what a BERT reads
    data = datasets.Dataset.from_dict({"input_ids": ids, "labels": torch.arange(60) % 2}).with_format("torch")
    profile = measure_depth_profile(model, data)
    assert same_answers(profile, model=model) == ('depths 0, 1, 2, 3 and 4 answer "positive" for every example',)
    doubts = doubts_about(profile, 0.01, 0, model=model)
    assert any("accuracy at full depth, " in doubt for doubt in doubts)
    assert any("depth 0 has no layer" in doubt for doubt in doubts)


@pytest.mark.parametrize("name", ["BertForTokenClassification", "LlamaForCausalLM", "XLMRobertaForMaskedLM"])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_other_heads_are_doubted_too(name, metric):
    entry = any_model(name)
    model = entry.build()
    batches = [with_labels(entry, entry.inputs()) for _ in range(2)]
    profile = measure_depth_profile(model, batches, metric=metric)
    assert all(isinstance(doubt, str) for doubt in doubts_about(profile, 1e-9, 1, model=model))


def test_the_interval_of_a_loss_is_that_of_a_binomial():
    references = np.ones(1000, int)
    kept = np.where(np.arange(1000) < 100, 0, 1)
    low, high = profile_of([kept, references], references).loss_interval(0)
    expected = stats.binom.ppf([0.025, 0.975], 1000, 0.1) / 1000
    assert (low, high) == pytest.approx(tuple(expected), abs=0.003)
    assert profile_of([kept, references], references).loss_interval(0) == (low, high)
    narrower = profile_of([kept, references], references).loss_interval(0, confidence=0.5)
    assert low < narrower[0] < 0.1 < narrower[1] < high


def test_the_interval_of_what_is_gained_is_below_zero():
    losses = np.stack([np.ones(50), 1.5 + RNG.random(50)])
    low, high = profile_of(losses, np.ones(50), "loss").loss_interval(0)
    assert low < high < 0
    assert profile_of(losses, np.ones(50), "loss").loss_interval(1) == (0, 0)


@pytest.mark.parametrize(
    ("metric", "predictions", "references"),
    [(ERRORS, good(BALANCED[:300]), BALANCED[:300]), ("mse", RNG.random((3, 300)), RNG.random(300))],
    ids=["classes", "numbers"],
)
def test_the_interval_of_other_metrics_holds_the_loss(metric, predictions, references):
    profile = profile_of(predictions, references, metric)
    lost = profile.values[-1] - profile.values[0]
    low, high = profile.loss_interval(0)
    assert low < (lost if profile.greater_is_better else -lost) < high


def test_an_interval_that_cannot_be_had_is_refused():
    profile = profile_of(good(), BALANCED)
    with pytest.raises(ProfileError, match=r"depth must be one of those measured"):
        profile.loss_interval(9)
    with pytest.raises(ProfileError, match=r"confidence must lie in \(0, 1\); got 95"):
        profile.loss_interval(1, confidence=95)
    with pytest.raises(ProfileError, match="which a saved profile does not hold"):
        DepthProfile((0, 1, 2), (0.5, 0.5, 0.5), "accuracy", True, 100, (1, 2, 3)).loss_interval(0)
    with pytest.raises(ProfileError, match="confidence needs at least two examples; got 1"):
        profile_of([[0], [1]], np.array([1])).loss_interval(0)
