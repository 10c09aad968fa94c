"""What the models that came out at each depth answered to the same examples, beside the model as it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

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
    """What each model answered to the same examples; kept in memory for [`CompressionResult.report`], and not saved.

    Args:
        metric (`Metric`): By which they are judged.
        references (`np.ndarray`): What is right.
        full (`Answered`): By the model at full depth before anything was taught, with which all others are compared.
        at (`dict[int, Answered]`): By the model of each depth: healed where that was better, else as it is cut.
        healed (`tuple[int, ...]`): Depths at which the healed model is meant.
        head (`str`, *optional*): The Auto class that serves the model.
        config: Of the short model, which names the classes.
    """

    metric: Metric
    references: np.ndarray
    full: Answered
    at: dict[int, Answered]
    healed: tuple[int, ...]
    head: str | None
    config: Any

    @classmethod
    def of(
        cls,
        before: DepthProfile,
        profile: DepthProfile,
        trained: Mapping[int, DepthProfile],
        head: str | None,
        config: Any,
    ) -> Self | None:
        """Return what profiles that were just measured on the same data hold, or `None` if they hold no examples.

        Args:
            before (`DepthProfile`): Of the model before anything was taught.
            profile (`DepthProfile`): Of the model that was cut.
            trained (`dict[int, DepthProfile]`): Of models that were trained after they were cut, by depth.
            head, config: See the class.
        """
        if any(one.evidence is None for one in (before, profile, *trained.values())):
            return None
        at, healed = {}, []
        for depth in sorted({*profile.depths, *trained}):
            if depth in trained:
                healed.append(depth)
            at[depth] = _answered(trained.get(depth, profile), depth)
        assert before.evidence is not None
        references = before.evidence.arrays(before.depths[-1])[1]
        full = _answered(before, before.depths[-1])
        if any(len(one.answers) != len(references) for one in at.values()):
            return None  # an iterator that gave less when it was read again
        return cls(before.evidence.metric, references, full, at, tuple(healed), head, config)

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


def _answered(profile: DepthProfile, depth: int) -> Answered:
    """Return what a profile holds of a depth; a model that was cut has its own depth as its last one."""
    evidence = profile.evidence
    assert evidence is not None
    at = depth if depth in evidence.depths else evidence.depths[-1]
    return Answered(evidence.arrays(at)[0], evidence.certainty(at))
