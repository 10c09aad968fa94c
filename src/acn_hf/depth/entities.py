"""Entities that tags of tokens mark (B-PER, I-PER, O), as `seqeval` reads and counts them.

Predictions and references are arrays of one list of names of tags for each text.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

from .errors import ProfileError

if TYPE_CHECKING:
    import numpy as np


def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the F1 of all entities together."""
    return _score("f1_score", predictions, references)


def precision(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the share of the entities found that are right."""
    return _score("precision_score", predictions, references)


def recall(predictions: np.ndarray, references: np.ndarray) -> float:
    """Return the share of the right entities that were found."""
    return _score("recall_score", predictions, references)


def _score(name: str, predictions: np.ndarray, references: np.ndarray) -> float:
    metrics = _seqeval()
    if not any(map(metrics.get_entities, references)):
        raise ValueError("at least one entity must be right; all tags are O")
    return float(getattr(metrics, name)(list(references), list(predictions), zero_division=0))


def counts(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return for each text how many entities are right, how many were found, and how many were to be found."""
    import numpy as np

    entities = _seqeval().get_entities
    pairs = ((set(entities(found)), set(entities(right))) for found, right in zip(predictions, references, strict=True))
    return np.array([(len(found & right), len(found), len(right)) for found, right in pairs])


def f1_of_mean(mean: np.ndarray) -> float:
    """Return the F1 of so many entities on the average."""
    return _ratio(2 * mean[0], mean[1] + mean[2])


def precision_of_mean(mean: np.ndarray) -> float:
    """Return the precision of so many entities on the average."""
    return _ratio(mean[0], mean[1])


def recall_of_mean(mean: np.ndarray) -> float:
    """Return the recall of so many entities on the average."""
    return _ratio(mean[0], mean[2])


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


@functools.cache
def check_tags(names: tuple[str, ...]) -> None:
    """Raise `ProfileError` if names of classes do not mark entities."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # by which seqeval says that a name is no tag
        for name in names:
            try:
                _seqeval().get_entities([name])
            except UserWarning:
                raise ProfileError(
                    "metrics of entities need tags that begin with B-, I-, E- or S-, or are O, in the id2label of the "
                    f"config; got {name!r}"
                ) from None


def _seqeval() -> Any:
    try:
        from seqeval.metrics import sequence_labeling
    except ImportError as error:
        raise ImportError("metrics of entities need seqeval: pip install 'acn-hf[metrics]'") from error
    return sequence_labeling
