"""What a card says of how a model was made by `compress`."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from ..depth.cost import Cost
from ..depth.profile import DepthProfile
from ..support.records import Record


@dataclass(frozen=True)
class TestValues(Record):
    """The metric on data on which nothing was chosen.

    Args:
        full (`float`): Of the model before it was taught and cut.
        short (`float`): Of the short model.
        num_examples (`int`): Number of rows.
        metric (`str`, *optional*): Which one, where it may be another one than that of the profile.
    """

    __test__ = False  # its name is no reason for pytest to collect it

    full: float
    short: float
    num_examples: int
    metric: str | None = None


class Compressed(Protocol):
    """What a card reads of a `CompressionResult`."""

    @property
    def model(self) -> Any: ...
    @property
    def profile(self) -> DepthProfile: ...
    @property
    def cost_before(self) -> Cost: ...
    @property
    def cost_after(self) -> Cost: ...
    @property
    def finetuned(self) -> float | None: ...
    @property
    def before(self) -> DepthProfile | None: ...
    @property
    def healed(self) -> dict[int, float]: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def doubts(self) -> tuple[str, ...]: ...
    @property
    def calmed(self) -> Any: ...
    @property
    def test(self) -> TestValues | None: ...


@dataclass(frozen=True)
class CompressionFacts(Record):
    """What a card says of a compression besides the profile and the costs.

    Args:
        before (`DepthProfile`, *optional*): The metric at every depth before it was taught, if it was.
        healed (`dict[int, float]`): The metric at each depth at which the model was cut and healed.
        interval (`tuple[float, float]`, *optional*): What the short model loses lies between these, at 95% confidence.
        doubts (`tuple[str, ...]`): What speaks against the choice, in words.
        calmed (`str`, *optional*): What was done to the copy before it was taught, in words.
        test (`TestValues`, *optional*): The metric on data on which nothing was chosen.
    """

    _records: ClassVar[dict[str, type[Record]]] = {"before": DepthProfile, "test": TestValues}

    before: DepthProfile | None = None
    healed: dict[int, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    calmed: str | None = None
    test: TestValues | None = None

    @classmethod
    def of(cls, result: Compressed) -> Self:
        """Return those of a result."""
        return cls(
            before=result.before,
            healed=dict(result.healed),
            interval=result.interval,
            doubts=tuple(result.doubts),
            calmed=None if result.calmed is None else str(result.calmed),
            test=result.test,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        return {**super().to_dict(), "healed": {str(depth): value for depth, value in self.healed.items()}}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        healed = {int(depth): value for depth, value in fields.get("healed", {}).items()}
        return {**super()._values(fields), "healed": healed}
