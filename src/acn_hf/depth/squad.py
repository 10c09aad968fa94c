"""Answers to questions, compared as SQuAD does it, by `torchmetrics`.

Predictions are an array of texts, references one of tuples of texts of which each is right. The empty text says that
there is no answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def exact_match(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the share of the answers that are right, but for case, punctuation and articles."""
    return float(exact_matches(predictions, references).mean())


def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the mean F1 of the words of an answer and of the right one that is nearest to it."""
    return float(f1_scores(predictions, references).mean())


def exact_matches(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return 1 for each answer that is right."""
    return _scores("exact_match", predictions, references)


def f1_scores(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the F1 of each answer."""
    return _scores("f1", predictions, references)


def _scores(name: str, predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    import numpy as np

    try:
        from torchmetrics.functional.text import squad
    except ImportError as error:
        raise ImportError("metrics of answers need torchmetrics: pip install 'acn-hf[metrics]'") from error
    scores = []
    for answer, right in zip(predictions, references, strict=True):
        reference = {"id": "", "answers": {"text": list(right), "answer_start": [0] * len(right)}}
        scores.append(float(squad([{"id": "", "prediction_text": answer}], [reference])[name]) / 100)
    return np.array(scores)
