"""When an example has been seen by enough layers: a score of each of its predictions, and a bound for it."""

import math
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar, Self

import torch

from ..support.records import Record


@dataclass(frozen=True)
class ExitPolicy(Record, ABC):
    """Decides at every depth which examples leave: those with a score of at least `bound`.

    Subclass it for a policy of your own. A policy holds no state: what it wants to know at the next depth it returns
    as its memory. Where the head predicts tokens, each token has a score, and an example leaves when all of its tokens
    that count reach the bound.

    Args:
        min_depth (`int`, *optional*, defaults to 0): The first depth at which examples may leave. At the depths before
            it the head does not run. Of a class that needs a layer, the first is 1.
        depths (sequence of `int`, *optional*): The only depths at which examples may leave, ascending, in the place of
            `min_depth`. The head runs there and at full depth alone, which saves time where it costs as much as a
            layer, and where batches are small.

    Raises:
        ValueError: `min_depth` is not a whole number >= 0, or `depths` are not ascending ones, or both are given.
    """

    lowest_bound: ClassVar[float] = -math.inf
    """Bounds below this one mean nothing."""

    min_depth: int = field(default=0, kw_only=True)
    depths: tuple[int, ...] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "min_depth", _whole_number("min_depth", self.min_depth, least=0))
        if self.depths is None:
            return
        if self.min_depth:
            raise ValueError(f"give depths or min_depth, not both; got {self.depths!r} and {self.min_depth}")
        object.__setattr__(self, "depths", _ascending("depths", self.depths))

    def reads(self, depth: int) -> bool:
        """Return whether the head is read at a depth below full depth."""
        return depth >= self.min_depth if self.depths is None else depth in self.depths

    @property
    @abstractmethod
    def bound(self) -> float:
        """The least score with which a prediction is final."""

    @abstractmethod
    def score(
        self, logits: torch.Tensor, depth: int, memory: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return how final each prediction is, the greater the surer, and the memory for the next depth.

        Args:
            logits (`torch.Tensor` of shape `(num_predictions, num_classes)`): Of the examples that are still there.
            depth (`int`): Where they are. The head is read at `min_depth` and at every depth after it, or at `depths`.
            memory (`torch.Tensor` of shape `(num_predictions, ...)`, *optional*): What this method returned at the
                depth before, of the examples that are still there; `None` at the first depth.

        Returns:
            `tuple[torch.Tensor, torch.Tensor | None]`: Scores of shape `(num_predictions,)`, and the memory, which has
            a row for each prediction.
        """

    def with_bound(self, bound: float) -> Self:
        """Return the same policy with another bound; [`calibrate_exit`] needs this."""
        raise TypeError(f"{type(self).__name__} has no bound that can be calibrated")

    def to_dict(self) -> dict[str, Any]:
        """Return the name of the policy and its fields as a dictionary that JSON can hold."""
        return {"policy": type(self).__name__, **super().to_dict()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Return the policy that `to_dict` described; of your own ones, those that are direct subclasses are known.

        Raises:
            ValueError: There is no policy of this name, or it lacks a field, or has others.
        """
        try:
            values = {**fields}
        except TypeError as error:
            raise ValueError(f"these are not the fields of a {cls.__name__}: {error}") from None
        name = values.pop("policy", cls.__name__)
        kind = next((kind for kind in (cls, *cls.__subclasses__()) if kind.__name__ == name), None)
        if kind is None:
            raise ValueError(f"policy must be the name of an ExitPolicy; got {name!r}")
        try:
            return kind(**values)
        except TypeError as error:
            raise ValueError(f"these are not the fields of a {name}: {error}") from None


class PolicyRecord(Record):
    """Mixin for records that hold a policy."""

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "policy": ExitPolicy.from_dict(fields["policy"])}


@dataclass(frozen=True)
class ConfidenceExit(ExitPolicy):
    """Leave when the largest probability is at least a threshold.

    Args:
        threshold (`float`): In [0, 1]. Examples that reach a probability of 1.0, as rounded to float32, leave at any
            threshold.
        min_depth, depths (*optional*): Where examples may leave; see [`ExitPolicy`].

    Raises:
        ValueError: `threshold` does not lie in [0, 1], or see [`ExitPolicy`].

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import ConfidenceExit

    >>> scores, _ = ConfidenceExit(0.9).score(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), 0, None)
    >>> scores.round(decimals=3)
    tensor([0.5000, 0.9820])

    ```
    """

    lowest_bound: ClassVar[float] = 0.0

    threshold: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "threshold", _rate("threshold", self.threshold))

    @property
    def bound(self) -> float:
        """The threshold."""
        return self.threshold

    def score(
        self, logits: torch.Tensor, depth: int, memory: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the largest probability of each prediction, in float32."""
        return logits.float().softmax(dim=-1).amax(dim=-1), None

    def with_bound(self, bound: float) -> Self:
        """Return the policy with this threshold."""
        return replace(self, threshold=bound)


@dataclass(frozen=True)
class EntropyExit(ExitPolicy):
    """Leave when the entropy of the probabilities is at most a threshold.

    The entropy is divided by `log(num_classes)`, its largest value, so that a threshold means the same for any number
    of classes: 0 is a sure prediction, 1 one in which all classes are equally probable.

    Differs from the paper: the entropy there is in nats. Its threshold `S` is `threshold * log(num_classes)` here, and
    its examples leave below `S`, ours at the threshold too.

    Source: DeeBERT (Xin et al. 2020, arXiv 2004.12993).

    Args:
        threshold (`float`): In [0, 1].
        min_depth, depths (*optional*): Where examples may leave; see [`ExitPolicy`].

    Raises:
        ValueError: `threshold` does not lie in [0, 1], or see [`ExitPolicy`].

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import EntropyExit

    >>> scores, _ = EntropyExit(0.1).score(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), 0, None)
    >>> -scores.round(decimals=3)
    tensor([1.0000, 0.1300])

    ```
    """

    lowest_bound: ClassVar[float] = -1.0

    threshold: float

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "threshold", _rate("threshold", self.threshold))

    @property
    def bound(self) -> float:
        """The threshold, negative, as the scores are."""
        return -self.threshold

    def score(
        self, logits: torch.Tensor, depth: int, memory: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the normalised entropy of each prediction, negative, in float32: the surer, the greater."""
        logarithms = logits.float().log_softmax(dim=-1)
        entropy = torch.special.entr(logarithms.exp()).sum(dim=-1) / math.log(logits.shape[-1])
        return -entropy.clamp(0.0, 1.0), None

    def with_bound(self, bound: float) -> Self:
        """Return the policy whose bound this is."""
        return replace(self, threshold=0.0 - bound)


@dataclass(frozen=True)
class PatienceExit(ExitPolicy):
    """Leave when so many depths in a row have agreed on the prediction with the depth before them.

    A counter, 0 at the first depth that the head reads, is raised at each depth that predicts what was predicted at the
    depth read before it, and is set back to 0 by one that predicts something else. Examples leave when it reaches the
    patience, at depth `min_depth + patience` at the earliest; of `depths=[3, 6, 9]`, with a patience of 1, at 6.

    Differs from the paper: the head can be read at depth 0 already, and all depths share one head, where PABEE has a
    classifier for each layer.

    Source: PABEE (Zhou et al. 2020, arXiv 2006.04152).

    Args:
        patience (`int`): A whole number >= 1.
        min_depth, depths (*optional*): Where the head is read; see [`ExitPolicy`].

    Raises:
        ValueError: `patience` is not a whole number >= 1, or see [`ExitPolicy`].

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import PatienceExit

    >>> policy, memory, counters = PatienceExit(2), None, []
    >>> for depth, logits in enumerate(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 2.0]], [[0.0, 3.0]]])):
    ...     scores, memory = policy.score(logits, depth, memory)
    ...     counters.append(int(scores))
    >>> counters
    [0, 0, 1, 2]

    ```
    """

    lowest_bound: ClassVar[float] = 1.0

    patience: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "patience", _whole_number("patience", self.patience, least=1))

    @property
    def bound(self) -> float:
        """The patience."""
        return self.patience

    def score(
        self, logits: torch.Tensor, depth: int, memory: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the counter of each prediction; the memory holds predictions and counters."""
        predictions = logits.argmax(dim=-1)
        if memory is None:
            counters = torch.zeros_like(predictions)
        else:
            before, counters = memory.unbind(dim=-1)
            counters = (counters + 1) * (predictions == before)
        return counters, torch.stack((predictions, counters), dim=-1)

    def with_bound(self, bound: float) -> Self:
        """Return the policy of the smallest patience that is not below the bound."""
        return replace(self, patience=math.ceil(bound))


def _rate(name: str, value: Any) -> float:
    """Return `value` as a float if it lies in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name} must lie in [0, 1]; got {value!r}")
    return float(value)


def _ascending(name: str, values: Any) -> tuple[int, ...]:
    """Return whole numbers >= 0 as a tuple, if each is greater than the one before."""
    try:
        numbers = tuple(_whole_number(name, value, least=0) for value in values)
        if not numbers or list(numbers) != sorted(set(numbers)) or isinstance(values, str):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be ascending whole numbers >= 0, at least one; got {values!r}") from None
    return numbers


def _whole_number(name: str, value: Any, *, least: int) -> int:
    """Return `value` as an int if it is a whole number of at least `least`."""
    try:
        if isinstance(value, bool) or operator.index(value) < least:
            raise TypeError
    except TypeError:
        raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}") from None
    return operator.index(value)
