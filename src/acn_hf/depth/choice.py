"""How a depth is chosen: it is given, it is the best within limits, or the smallest that is good enough."""

from dataclasses import dataclass
from typing import Any

from ..modeling.depth import check_depth
from ..support.sentence_models import inner_model
from .layers import layers_of
from .metrics import ROUNDING, ProfileError
from .profile import DepthProfile
from .self_check import check_by_example
from .tradeoffs import DepthTradeoffs

TOLERANCE = 0.005
"""How much worse than at full depth the metric may be if nobody says it."""


@dataclass(frozen=True)
class Choice:
    """What was asked for.

    Args:
        depth (`int`, *optional*): This one.
        limits (`dict[str, float]`): The best depth within these; see [`DepthProfile.within`].
        tolerance (`float`, *optional*): The smallest depth whose metric is as good, up to this.
        relative (`bool`): Whether the tolerance is a fraction.
        confidence (`float`, *optional*): See [`DepthProfile.effective_depth`].

    Raises:
        ProfileError: A depth is asked for in several ways.
    """

    depth: int | None
    limits: dict[str, float]
    tolerance: float | None
    relative: bool
    confidence: float | None

    def __post_init__(self) -> None:
        if self.depth is None and not self.limits:
            return
        asked = {**self.limits, **({} if self.depth is None else {"depth": self.depth})}
        given = ", ".join(f"{name}={value}" for name, value in asked.items())
        if self.depth is not None and self.limits:
            raise ProfileError(f"a depth is given, or limits that choose one; got {given}")
        if self.relative or self.confidence is not None:
            raise ProfileError(f"relative and confidence choose a depth, so none may be given; got {given}")
        if self.tolerance is not None and self.limits:
            raise ProfileError(f"tolerance chooses a depth, so none may be given; got {given}")

    @property
    def is_by_tolerance(self) -> bool:
        """Whether it is the smallest depth that is good enough."""
        return self.depth is None and not self.limits

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for as a dictionary that JSON can hold, with the tolerance that counted."""
        return {
            "depth": self.depth,
            "limits": dict(self.limits),
            "tolerance": self._tolerance if self.is_by_tolerance else None,
            "relative": self.relative,
            "confidence": self.confidence,
        }

    def searches(self, choose_healed: bool | None) -> bool:
        """Return whether depths below the chosen one are cut and healed too, to see whether they are good enough then.

        Args:
            choose_healed (`bool`, *optional*): What was asked for. By default a tolerance alone searches: a confidence
                asks more of a depth than its value.
        """
        return self.is_by_tolerance and self.confidence is None if choose_healed is None else choose_healed

    def check_search(self, choose_healed: bool | None, *, heals: bool) -> None:
        """Raise `ProfileError` if smaller depths are to be healed where none is, or where no tolerance chooses."""
        if choose_healed and not (heals and self.searches(None)):
            raise ProfileError(
                "choose_healed=True looks for the smallest depth within a tolerance, so it needs heal, and no depth, "
                "limit or confidence"
            )

    def check(self, model: Any) -> None:
        """Raise `DepthError` if a depth that is given is none of the model, before anything is measured."""
        if self.depth is not None:
            network = inner_model(model)
            check_depth(self.depth, len(layers_of(network)))
            check_by_example(network, self.depth)

    def depth_of(self, profile: DepthProfile, reference: float, tradeoffs: DepthTradeoffs | None = None) -> int:
        """Return the depth that is chosen.

        Args:
            profile (`DepthProfile`): The metric at every depth.
            reference (`float`): What the metric of full depth is to be compared with.
            tradeoffs (`DepthTradeoffs`, *optional*): What each depth costs besides; needed where there are limits.
        """
        if self.depth is not None:
            return self.depth
        if tradeoffs is not None:
            return tradeoffs.within(**self.limits)
        return profile.effective_depth(
            self._tolerance, relative=self.relative, confidence=self.confidence, reference=reference
        )

    def is_good_enough(self, value: float, profile: DepthProfile, reference: float) -> bool:
        """Return whether a value of the metric of a profile is within the tolerance of another."""
        loss = reference - value if profile.greater_is_better else value - reference
        return loss <= self.allowed(reference) + ROUNDING

    def allowed(self, reference: float) -> float:
        """Return the tolerance in units of the metric."""
        return self._tolerance * (abs(reference) if self.relative else 1)

    @property
    def _tolerance(self) -> float:
        return TOLERANCE if self.tolerance is None else self.tolerance
