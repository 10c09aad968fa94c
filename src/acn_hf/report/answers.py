"""What the models that came out at each depth answered to the same examples, beside the model as it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..depth.metrics import Metric
from ..depth.profile import DepthProfile


@dataclass(frozen=True)
class Answered:
    """What one model answered.

    Args:
        answers (`np.ndarray`): What its metric needs of every example.
        certainty (`np.ndarray`, *optional*): How sure each answer is, in [0, 1], where an example has one.
    """

    answers: np.ndarray
    certainty: np.ndarray | None


@dataclass(frozen=True)
class Answers:
    """What each model answered to the same examples.

    Args:
        metric (`Metric`): By which they are judged.
        references (`np.ndarray`): What is right.
        full (`Answered`): By the model at full depth before anything was taught, with which all others are compared.
        at (`dict[int, Answered]`): By the model of each depth: healed where that was better, else as it is cut.
        head (`str`, *optional*): The Auto class that serves the model.
        config: Of the short model, which names the classes.
    """

    metric: Metric
    references: np.ndarray
    full: Answered
    at: dict[int, Answered]
    head: str | None
    config: Any

    @property
    def num_examples(self) -> int:
        """Number of examples, or of what else the metric counts."""
        return len(self.references)

    @property
    def names(self) -> dict[int, str]:
        """Names of the classes, by number."""
        return {int(number): str(name) for number, name in (self.config.id2label or {}).items()}

    @property
    def kind(self) -> str | None:
        """What an answer is, or `None` where it belongs to no class and to no example.

        One of `classes`, some of several `labels`, a `number`, one of `tags` for each word, one of several `choices`,
        or one of the `answers` to a question in words.
        """
        needs, head = self.metric.needs, self.head or ""
        if needs == "answers":
            return "answers"
        if needs == "tags" or (head == "AutoModelForTokenClassification" and self._are_ids(1)):
            return "tags"
        if needs not in ("classes", "numbers", "predictions"):
            return None
        if np.issubdtype(self.references.dtype, np.floating):
            return "number" if self.references.ndim == 1 or self.references.shape[-1] == 1 else None
        if head == "AutoModelForMultipleChoice":
            return "choices" if self._are_ids(1) else None
        if not head.endswith("Classification"):
            return None
        if self._are_ids(2):
            return "labels"
        return "classes" if self._are_ids(1) else None

    @property
    def is_by_example(self) -> bool:
        """Whether each answer belongs to one row of the data."""
        return self.kind is not None and (self.kind != "tags" or self.metric.needs == "tags")

    def _are_ids(self, dimensions: int) -> bool:
        return self.references.ndim == dimensions and np.issubdtype(self.references.dtype, np.integer)


@dataclass(frozen=True)
class Measurements:
    """The profiles of a compression as they were measured: they hold what every example was answered.

    Args:
        before (`DepthProfile`): Of the model before anything was taught.
        profile (`DepthProfile`): Of the model that was cut.
        trained (`dict[int, DepthProfile]`): Of models that were trained after they were cut, by depth.
        head (`str`, *optional*): The Auto class that serves the model.
        config: Of the short model, which names the classes.
    """

    before: DepthProfile
    profile: DepthProfile
    trained: Mapping[int, DepthProfile]
    head: str | None
    config: Any

    def answers(self) -> Answers | None:
        """Return what every depth answered, or `None` where that is not known, as of profiles that were loaded."""
        if any(one.evidence is None for one in (self.before, self.profile, *self.trained.values())):
            return None
        at = {
            depth: _answered(self.trained.get(depth, self.profile), depth)
            for depth in sorted({*self.profile.depths, *self.trained})
        }
        assert self.before.evidence is not None
        references = self.before.evidence.arrays(self.before.depths[-1])[1]
        if any(len(one.answers) != len(references) for one in at.values()):
            return None  # the data gave less when they were read again
        full = _answered(self.before, self.before.depths[-1])
        return Answers(self.before.evidence.metric, references, full, at, self.head, self.config)


def _answered(profile: DepthProfile, depth: int) -> Answered:
    """Return what a profile holds of a depth; a model that was cut has its own depth as its last one."""
    evidence = profile.evidence
    assert evidence is not None
    at = depth if depth in evidence.depths else evidence.depths[-1]
    return Answered(evidence.arrays(at)[0], evidence.certainty(at))
