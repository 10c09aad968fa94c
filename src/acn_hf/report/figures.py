"""What `result.json` holds, this one's and those of earlier versions, read without the model."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..depth.cost import Cost
from ..depth.profile import DepthProfile
from ..depth.tradeoffs import DepthTradeoffs
from ..publishing.compressed import TestValues
from ..support.records import Record
from ..training.calming import Calmed

_DICTIONARIES = ("choice", "training", "sources", "seconds", "circumstances")
_DERIVED = ("metric", "data")
"""What `result.json` says twice."""


@dataclass(frozen=True)
class Figures(Record):
    """The figures of a [`CompressionResult`]; what an earlier version did not store is not there.

    Args:
        depth (`int`): See [`CompressionResult`], as of all others.
        profile (`DepthProfile`): Of the model that was cut.
        cost_before (`Cost`): Of the long model.
        cost_after (`Cost`): Of the short model.
        finetuned (`float`, *optional*): The metric of the short model after it was healed or fine-tuned.
        before (`DepthProfile`, *optional*): Before it was taught.
        healed (`dict[int, float]`): The metric at each depth at which the model was cut and healed.
        test (`TestValues`, *optional*): The metric on other data.
        interval (`tuple[float, float]`, *optional*): What the short model loses.
        doubts (`tuple[str, ...]`): What speaks against the choice.
        tradeoffs (`DepthTradeoffs`, *optional*): The metric and the cost of every depth.
        calmed (`Calmed`, *optional*): What was done to the model before it was taught.
        training (`dict`): The arguments of each stage.
        sources (`dict`): What the model and the data are called.
        seconds (`dict`): How long each stage took.
        circumstances (`dict`): Date, versions and hardware.
        choice (`dict`): By what the depth was chosen.

    Raises:
        ValueError: `depth` is none of those of the profile, or a figure is of another kind.
    """

    _records: ClassVar[dict[str, type[Record]]] = {
        "profile": DepthProfile,
        "before": DepthProfile,
        "cost_before": Cost,
        "cost_after": Cost,
        "tradeoffs": DepthTradeoffs,
        "test": TestValues,
        "calmed": Calmed,
    }

    depth: int
    profile: DepthProfile
    cost_before: Cost
    cost_after: Cost
    finetuned: float | None = None
    before: DepthProfile | None = None
    healed: dict[int, float] = field(default_factory=dict)
    test: TestValues | None = None
    interval: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    tradeoffs: DepthTradeoffs | None = None
    calmed: Calmed | None = None
    training: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    circumstances: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.depth not in self.profile.depths:
            raise ValueError(f"depth must be one of those measured, {self.profile.depths}; got {self.depth!r}")
        for name in _DICTIONARIES:
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"{name} must be a dictionary; got {getattr(self, name)!r}")
        numbers = [value for value in (self.finetuned, *self.healed.values(), *(self.interval or ())) if value]
        if not all(isinstance(value, (int, float)) for value in numbers):
            raise ValueError(f"figures must be numbers; got {numbers}")
        if not all(isinstance(doubt, str) for doubt in self.doubts):
            raise ValueError(f"doubts must be texts; got {self.doubts!r}")

    @property
    def full_value(self) -> float:
        """The metric of the model at full depth before anything was taught."""
        return (self.before or self.profile).values[-1]

    @property
    def value(self) -> float:
        """The metric of the short model."""
        return self.profile.value_at(self.depth) if self.finetuned is None else self.finetuned

    def value_at(self, depth: int) -> float:
        """Return the metric of the model that comes out at a depth: healed where that is better, else as it is cut."""
        if depth == self.depth:
            return self.value
        cut, healed = self.profile.value_at(depth), self.healed.get(depth)
        return cut if healed is None or self.profile.is_better(cut, healed) else healed

    def is_healed(self, depth: int) -> bool:
        """Return whether `value_at` means a model that was trained after it was cut."""
        if depth == self.depth:
            return self.finetuned is not None
        return depth in self.healed and self.value_at(depth) == self.healed[depth]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        return {**super().to_dict(), "healed": {str(depth): value for depth, value in self.healed.items()}}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        known = {name: value for name, value in fields.items() if name not in _DERIVED}
        healed = {int(depth): value for depth, value in known.get("healed", {}).items()}
        return {**super()._values(known), "healed": healed}
