"""Answers to questions at every depth: the best span of all windows, compared with all right answers as SQuAD does."""

import itertools
import sys

import datasets
import numpy as np
import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from torch.utils.data import DataLoader
from transformers import BertTokenizerFast, Trainer

from acn_hf import DepthProfileCallback, compress, depth_logits, measure_depth_profile
from acn_hf.data.rows import Columns, prepare
from acn_hf.depth import squad
from acn_hf.depth.distributed_profile import measure_together
from acn_hf.depth.metrics import METRICS, ProfileError
from acn_hf.depth.spans import Span, Window, as_objects, best_spans, joined
from tests.support.families import by_name
from tests.support.training import arguments

QUESTIONS = by_name("bert-ForQuestionAnswering")
TEXT = "paris is in the rome of oslo , what is lima in cairo of quito"


def scores(predictions, references):
    arrays = as_objects(predictions), as_objects(references)
    return squad.exact_matches(*arrays).tolist(), squad.f1_scores(*arrays).tolist()


@pytest.mark.parametrize(
    ("text", "right", "exact", "f1"),
    [
        ("Cat", ("The cat!",), 1.0, 1.0),  # the official normalisation: case, articles, punctuation
        ("a  cat\tan", ("cat",), 1.0, 1.0),  # and spaces
        ("the-cat", ("thecat",), 1.0, 1.0),
        ("black cat", ("cat",), 0.0, 2 / 3),  # precision 1/2, recall 1
        ("cat cat dog", ("cat dog dog",), 0.0, 2 / 3),  # words count as often as they stand there
        ("dog", ("cat", "big dog", "a dog"), 1.0, 1.0),  # the best of several
        ("dog", ("cat", "big dog"), 0.0, 2 / 3),
        ("", ("",), 1.0, 1.0),  # no answer
        ("cat", ("",), 0.0, 0.0),
        ("", ("cat",), 0.0, 0.0),
        ("the", ("",), 1.0, 1.0),
    ],
)
def test_answers_are_compared_as_squad_does(text, right, exact, f1):
    assert scores([text], [right]) == ([exact], pytest.approx([f1]))


def test_the_metrics_are_means_over_questions():
    arrays = as_objects(["cat", "black cat"]), as_objects([("cat",), ("cat",)])
    assert METRICS["exact_match"].score(*arrays) == 0.5
    assert METRICS["answer_f1"].score(*arrays) == pytest.approx((1 + 2 / 3) / 2)


# --- spans


def question(starts, ends, context, longest=30, none=0):
    return {
        "question": 0,
        "context": context,
        "begins": 0,
        "starts": starts,
        "ends": ends,
        "none": none,
        "longest": longest,
    }


def test_the_best_span_is_the_best_of_all():
    """Compared with a loop over all spans, in windows of different lengths."""
    context, size = "abcdefghijkl", 12
    generator = torch.Generator().manual_seed(0)
    for longest, first, last in itertools.product((1, 3, 30), (2, 5), (9, 12)):
        logits = torch.randn(2, size, 2, generator=generator)
        starts = [place if first <= place < last else -1 for place in range(size)]
        ends = [place + 1 if place >= 0 else -1 for place in starts]
        asked = [question(starts, ends, context, longest), question(starts[:9], ends[:9], context, 2, none=1)]
        for row, (span, one) in enumerate(zip(best_spans(logits, asked), asked, strict=True)):
            best = max(
                (float(logits[row, a, 0] + logits[row, b, 1]), context[a : b + 1])
                for a in range(size)
                for b in range(a, min(size, a + one["longest"]))
                if first <= a and b < min(last, len(one["starts"]))
            )
            assert (span.score, span.text) == (pytest.approx(best[0]), best[1])
            assert span.none == pytest.approx(float(logits[row, one["none"]].sum()))


def test_a_window_without_text_has_no_answer():
    (span,) = best_spans(torch.zeros(1, 3, 2), [question([-1, -1], [-1, -1], "abc")])
    assert span.text == ""
    assert span.score == -np.inf


def test_the_best_window_answers():
    spans = as_objects([Span("a", 1.0, 5.0), Span("x", 9.0, 0.0), Span("b", 3.0, 4.0)])
    references = as_objects([Window(7, ("b", "c")), Window(3, ("x",)), Window(7, ("b", "c"))])
    texts, right = joined(spans, references)
    assert texts.tolist() == ["b", "x"]  # no question lacks an answer, so none is left unanswered
    assert right.tolist() == [("b", "c"), ("x",)]


@pytest.mark.parametrize(("none", "text"), [(2.9, "b"), (3.1, "")])
def test_no_answer_is_given_where_every_window_prefers_none(none, text):
    spans = as_objects([Span("a", 1.0, 5.0), Span("b", 3.0, none), Span("x", 9.0, 0.0)])
    references = as_objects([Window(7, ("b",)), Window(7, ("b",)), Window(8, ())])
    texts, right = joined(spans, references)
    assert texts.tolist() == [text, "x"]
    assert right.tolist() == [("b",), ("",)]


# --- models


@pytest.fixture(scope="module")
def tokenizer():
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator([TEXT] * 20, vocab_size=120, show_progress=False)
    return BertTokenizerFast(tokenizer_object=trained._tokenizer)


@pytest.fixture
def asked(build, tokenizer):
    """A model, and rows and collator of twelve questions, some without an answer, whose texts need several windows."""
    model, words = build(QUESTIONS, vocab_size=120, max_position_embeddings=24), TEXT.split()
    contexts = [" ".join(words[number:] + words * 2) for number in range(12)]
    right = [{"text": ["oslo", "rome of oslo"], "answer_start": [text.index("oslo"), -1]} for text in contexts]
    for text, one in zip(contexts, right, strict=True):
        one["answer_start"][1] = text.index("rome of oslo")
    right[3] = right[5] = {"text": [], "answer_start": []}
    data = datasets.Dataset.from_dict({"question": ["what is in"] * 12, "context": contexts, "answers": right})
    return model, *prepare(model, tokenizer, data, Columns())


def naive(model, rows, collate, depth):
    """Return the text of the best span of each question at one depth: a loop over windows and spans."""
    found = {}
    for row in rows:
        batch = {name: value for name, value in collate([row]).items() if "positions" not in name}
        with torch.no_grad():
            start, end = depth_logits(model, **batch)[depth, 0].unbind(-1)
        label = row["label"]
        tokens = [place for place, begins in enumerate(label["starts"]) if begins >= 0]
        spans = [(float(start[a] + end[b]), a, b) for a in tokens for b in tokens if a <= b < a + 30]
        score, a, b = max(spans)
        text = label["context"][label["starts"][a] : label["ends"][b]]
        found.setdefault(label["question"], []).append((score, text, float(start[0] + end[0])))
    return ["" if min(w[2] for w in windows) > max(windows)[0] else max(windows)[1] for windows in found.values()]


@pytest.mark.parametrize("name", ["exact_match", "answer_f1"])
def test_every_depth_is_what_a_loop_finds(asked, name):
    model, rows, collate = asked
    assert len(rows) > 2 * 12
    measured = measure_depth_profile(model, rows, metric=name, collate_fn=collate, batch_size=5)
    right = as_objects([("",) if number in (3, 5) else ("oslo", "rome of oslo") for number in range(12)])
    for depth in measured.depths:
        texts = as_objects(naive(model, rows, collate, depth))
        assert measured.value_at(depth) == pytest.approx(METRICS[name].score(texts, right))
    assert len(set(measured.values)) > 1 or name == "exact_match"


def test_batches_and_processes_may_be_divided_in_any_way(asked):
    model, rows, collate = asked
    whole = measure_depth_profile(model, rows, metric="answer_f1", collate_fn=collate)
    loader = DataLoader(rows, batch_size=3, collate_fn=collate, shuffle=True)
    assert measure_depth_profile(model, loader, metric="answer_f1").values == pytest.approx(whole.values)
    together = measure_together(model, rows, metric="answer_f1", batch_size=7, collate_fn=collate)
    assert together.values == pytest.approx(whole.values)


def test_confidence_resamples_questions(asked):
    model, rows, collate = asked
    measured = measure_depth_profile(model, rows, metric="answer_f1", collate_fn=collate)
    assert measured.effective_depth(0.0, confidence=0.9) <= 3
    assert len(measured.evidence.arrays(0)[1]) == 12


def test_the_model_is_cut_by_its_answers(asked):
    model, rows, collate = asked
    result = compress(model, rows, metric="answer_f1", collate_fn=collate, tolerance=1.0)
    assert result.depth == 0


@pytest.mark.parametrize("drops", [True, False], ids=["drops columns", "keeps columns"])
def test_a_trainer_trains_and_measures_on_the_same_rows(asked, tmp_path, drops):
    model, rows, collate = asked
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "no", "learning_rate": 0.0}
    made = arguments(tmp_path, max_steps=1, remove_unused_columns=drops, **settings)
    trainer = Trainer(model, made, train_dataset=rows, eval_dataset=rows, data_collator=collate)
    callback = DepthProfileCallback(metric="answer_f1").attach(trainer)
    trainer.train()
    expected = measure_depth_profile(model, rows, metric="answer_f1", collate_fn=collate)
    assert callback.profile.values == pytest.approx(expected.values)


def test_rows_that_do_not_say_what_is_right_are_refused():
    model, batch = QUESTIONS.build(), QUESTIONS.inputs(labels=True)
    text = "^metric 'answer_f1' compares texts, so it needs rows and a collator that acn_hf.data.prepare makes"
    with pytest.raises(ProfileError, match=text):
        measure_depth_profile(model, [batch], metric="answer_f1")


def test_a_classifier_has_no_answers(build):
    head = by_name("bert-ForSequenceClassification")
    with pytest.raises(ProfileError, match=r"^metric 'exact_match' compares texts"):
        measure_depth_profile(build(head), [head.inputs(labels=True)], metric="exact_match")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.text", None)
    with pytest.raises(ImportError, match=r"^metrics of answers need torchmetrics: pip install 'acn-hf\[metrics\]'$"):
        scores(["a"], [("a",)])
