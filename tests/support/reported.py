"""Results of compression for the page, made of random answers: no model is trained or run."""

from types import SimpleNamespace

import numpy as np

from acn_hf import CompressionResult
from acn_hf.depth.cost import Cost
from acn_hf.depth.metrics import METRICS
from acn_hf.depth.profile import DepthProfile
from acn_hf.depth.spans import as_objects
from acn_hf.depth.tradeoffs import DepthTradeoffs
from acn_hf.report.answers import Answered, Answers

CLASSES = ("AutoModelForSequenceClassification", "accuracy")
LABELS = ("AutoModelForSequenceClassification", "f1_macro")
NUMBERS = ("AutoModelForSequenceClassification", "mse")
TAGS = ("AutoModelForTokenClassification", "entity_f1")
CHOICES = ("AutoModelForMultipleChoice", "accuracy")
QUESTIONS = ("AutoModelForQuestionAnswering", "answer_f1")
LANGUAGE = ("AutoModelForCausalLM", "perplexity")
NAMES = ("negative", "neutral", "positive")


def answers(task=CLASSES, number=60, names=NAMES, depths=4, seed=0):
    """Return answers that are the better, and the surer, the deeper a model is."""
    head, metric = task
    names = ("O", "B-PER", "B-LOC") if task == TAGS else names
    rng = np.random.default_rng(seed)
    if task == LABELS:
        references = rng.integers(0, 2, (number, len(names)))
    elif task == NUMBERS:
        references = rng.normal(size=number).astype(np.float32)
    elif task == LANGUAGE:
        references = np.full(number, 8)
    else:
        references = rng.integers(0, len(names), number)
    at = {
        depth: _answered(task, references, len(names), (depth + 1) / (depths + 2), rng) for depth in range(depths + 1)
    }
    if task == TAGS:
        references, at = (
            _as_tags(references, names),
            {d: Answered(_as_tags(a.answers, names), None) for d, a in at.items()},
        )
    if task == QUESTIONS:
        references = as_objects([(names[place], "the " + names[place]) for place in references])
        at = {d: Answered(as_objects([names[place] for place in one.answers]), None) for d, one in at.items()}
    config = SimpleNamespace(id2label=dict(enumerate(names)))
    return Answers(METRICS[metric], references, at[depths], at, head, config)


def _answered(task, references, number, skill, rng):
    """Return the answers of a model that knows so much."""
    knows = rng.random(references.shape) < skill
    certainty = 0.4 + 0.6 * rng.random(len(references)) * (0.5 + skill / 2)
    if task == LABELS:
        return Answered(np.where(knows, references, 1 - references), certainty)
    if task == NUMBERS:
        return Answered((references + (1 - skill) * rng.normal(size=references.shape)).astype(np.float32), None)
    if task == LANGUAGE:
        return Answered(2 - skill + 0.1 * rng.random(len(references)), None)
    return Answered(np.where(knows, references, rng.integers(0, number, references.shape)), certainty)


def _as_tags(ids, names):
    """Return the names of classes as texts of five tags."""
    rows = [[names[number] for number in ids[start : start + 5]] for start in range(0, len(ids), 5)]
    return as_objects(rows)


def cost(depth):
    return Cost(1000 + 100 * depth, 4000 + 400 * depth, 10_000 * depth, 1.0 + depth, 0.2, 1, "cpu", "float32")


def result(task=CLASSES, depth=2, *, limits=None, with_costs=True, of=None, **made):
    """Return the result of a compression that cuts at `depth`."""
    known = answers(task, **made) if of is None else of
    depths = tuple(known.at)
    values = tuple(float(known.metric.score(one.answers, known.references)) for one in known.at.values())
    better = known.metric.greater_is_better
    parameters = tuple(cost(k).num_parameters for k in depths)
    profile = DepthProfile(depths, values, known.metric.name, better, known.num_examples, parameters)
    tradeoffs = DepthTradeoffs(depths, values, tuple(map(cost, depths)), known.metric.name, better)
    tolerance = None if limits else 0.2
    return CompressionResult(
        None,
        depth,
        profile,
        cost_before=cost(depths[-1]),
        cost_after=cost(depth),
        tradeoffs=tradeoffs if with_costs else None,
        choice={"depth": None, "limits": limits or {}, "tolerance": tolerance, "relative": False, "confidence": None},
        circumstances={"date": "2026-11-29", "torch": "2.13.0"},
        measurements=SimpleNamespace(answers=lambda: known),
    )  # fmt: skip


def rows(number=60):
    """Return texts that are a pleasure to no one."""
    return [{"text": f"Review {row}: " + "a film to forget. " * (1 + row % 3)} for row in range(number)]
