"""What each depth is worth and what it costs, side by side, and the best depth that a budget allows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from ..support.records import Record, render
from .cost import Cost
from .depth_cost import DepthCost
from .metrics import ROUNDING, ProfileError


class BudgetError(ProfileError):
    """A budget that no depth meets."""


class _Budget(NamedTuple):
    price: Callable[[Cost], float]
    cheapest: str
    """What the depth that comes nearest to the limit is called, and how its price is said."""
    says: str


BUDGETS = {
    "max_latency_ms": _Budget(lambda cost: cost.latency_ms, "the fastest", "takes {:.3g} ms"),
    "max_parameters": _Budget(lambda cost: cost.num_parameters, "the smallest", "has {:,} parameters"),
    "max_mb": _Budget(lambda cost: cost.size_bytes / 1e6, "the smallest", "has {:.4g} MB"),
    "max_gflops": _Budget(lambda cost: cost.flops / 1e9, "the cheapest", "takes {:.3g} GFLOPs"),
}
"""What can be limited, and how it is read off a cost."""


@dataclass(frozen=True)
class DepthTradeoffs(Record):
    """The metric and the cost of one model at each of its depths.

    Args:
        depths (`tuple[int, ...]`): Ascending; the last one is full depth.
        values (`tuple[float, ...]`): The metric at each depth.
        costs (`tuple[Cost, ...]`): Of the model cut at each.
        metric (`str`): Name of the metric.
        greater_is_better (`bool`): Which direction is good.

    Raises:
        ProfileError: Depths, values and costs differ in number, depths do not ascend, or a value is not finite.
    """

    depths: tuple[int, ...]
    values: tuple[float, ...]
    costs: tuple[Cost, ...]
    metric: str
    greater_is_better: bool

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.values) == len(self.costs) > 0:
            raise ProfileError(
                "trade-offs must hold one value and one cost for each depth; got "
                f"{len(self.depths)} depths, {len(self.values)} values, {len(self.costs)} costs"
            )
        if list(self.depths) != sorted(set(self.depths)):
            raise ProfileError(f"the depths of trade-offs must ascend; got {self.depths}")
        if not np.isfinite(self.values).all():
            raise ProfileError(f"the values of trade-offs must be finite numbers; got {self.values}")

    @property
    def front(self) -> tuple[int, ...]:
        """The depths that are better than every smaller one: for all others, a smaller model is as good.

        A model of fewer layers costs less of everything, so no price is looked at. Where a latency says otherwise, it
        is noise.
        """
        return tuple(
            depth
            for index, depth in enumerate(self.depths)
            if index == 0 or self._goodness(index) > max(map(self._goodness, range(index))) + ROUNDING
        )

    def within(
        self,
        *,
        max_latency_ms: float | None = None,
        max_parameters: float | None = None,
        max_mb: float | None = None,
        max_gflops: float | None = None,
    ) -> int:
        """Return the best depth that meets every limit; the smallest of those that are equally good.

        Args:
            max_latency_ms (`float`, *optional*): Milliseconds of a forward pass, as they were measured (the median).
            max_parameters (`float`, *optional*): Parameters of the model.
            max_mb (`float`, *optional*): Megabytes, of 1,000,000 bytes, of its checkpoint.
            max_gflops (`float`, *optional*): Thousands of millions of floating-point operations of a forward pass.

        Raises:
            BudgetError: No depth meets the limits.
            ProfileError: There is no limit, or one is not a number above 0.
        """
        given = {
            "max_latency_ms": max_latency_ms,
            "max_parameters": max_parameters,
            "max_mb": max_mb,
            "max_gflops": max_gflops,
        }
        limits = {name: limit for name, limit in given.items() if limit is not None}
        if not limits:
            raise ProfileError(f"a budget must have a limit: {', '.join(BUDGETS)}; got none")
        for name, limit in limits.items():
            if not limit > 0:
                raise ProfileError(f"{name} must be a number above 0; got {limit!r}")
        allowed = [
            index
            for index, cost in enumerate(self.costs)
            if all(BUDGETS[name].price(cost) <= limit for name, limit in limits.items())
        ]
        if not allowed:
            raise BudgetError(self._unmet(limits))
        best = max(map(self._goodness, allowed))
        return next(self.depths[index] for index in allowed if self._goodness(index) >= best - ROUNDING)

    def _goodness(self, index: int) -> float:
        return self.values[index] if self.greater_is_better else -self.values[index]

    def _unmet(self, limits: dict[str, float]) -> str:
        """Return why no depth meets the limits: the best there is for each that is met by none."""
        reasons = []
        for name, limit in limits.items():
            budget = BUDGETS[name]
            prices = [budget.price(cost) for cost in self.costs]
            index = prices.index(min(prices))
            if prices[index] > limit:
                price = budget.says.format(prices[index])
                reasons.append(
                    f"no depth meets {name}={limit:g}: {budget.cheapest}, depth {self.depths[index]}, {price}"
                )
        if reasons:
            return "; ".join(reasons)
        together = " and ".join(f"{name}={limit:g}" for name, limit in limits.items())
        return f"no depth meets {together} together, though each is met by some: {self._met(limits)}"

    def _met(self, limits: dict[str, float]) -> str:
        def met(name: str) -> str:
            price = BUDGETS[name].price
            depths = [depth for depth, cost in zip(self.depths, self.costs, strict=True) if price(cost) <= limits[name]]
            return f"{name} by {', '.join(map(str, depths))}"

        return "; ".join(map(met, limits))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {**super().to_dict(), "costs": [cost.to_dict() for cost in self.costs]}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "costs": [Cost.from_dict(cost) for cost in fields["costs"]]}

    def __str__(self) -> str:
        full, front = self.costs[-1], self.front
        table = Table(
            title=f"Trade-offs: latency with batch size {full.batch_size}, {full.dtype}, on {full.device}",
            caption="* no smaller depth is as good",
        )
        for name in ("depth", self.metric, "parameters", "MB", "GFLOPs", "latency in ms", ""):
            table.add_column(name, justify="right")
        for depth, value, cost in zip(self.depths, self.values, self.costs, strict=True):
            table.add_row(
                str(depth),
                f"{value:.4f}",
                f"{cost.num_parameters:,}",
                f"{cost.size_bytes / 1e6:.2f}",
                f"{cost.flops / 1e9:.4g}",
                f"{cost.latency_ms:.2f} ± {cost.latency_spread_ms / 2:.2f}",
                "*" if depth in front else "",
            )
        return render(table)


def shared_depths(depths: tuple[int, ...], num_parameters: tuple[int, ...], cost: DepthCost) -> tuple[int, ...]:
    """Return the depths that a profile and a cost share: all from the lowest on that both measured.

    Args:
        depths (`tuple[int, ...]`): Those of the profile.
        num_parameters (`tuple[int, ...]`): Of the model of the profile at each of them.
        cost (`DepthCost`): The cost.

    Raises:
        ProfileError: One lacks a depth of the other, or they are of different models.
    """
    lowest = max(depths[0], cost.depths[0])
    shared = tuple(depth for depth in depths if depth >= lowest)
    if shared != tuple(depth for depth in cost.depths if depth >= lowest) or not shared:
        raise ProfileError(
            f"profile and cost must be of the same depths, from the lowest on that both have; got {depths} of the "
            f"profile and {cost.depths} of the cost"
        )
    for depth in shared:
        profiled = num_parameters[depths.index(depth)]
        priced = cost.costs[cost.depths.index(depth)].num_parameters
        if profiled != priced:
            raise ProfileError(
                f"profile and cost must be of the same model; at depth {depth} that of the profile has {profiled:,} "
                f"parameters, and that of the cost {priced:,}"
            )
    return shared
