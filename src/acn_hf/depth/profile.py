"""A metric for every depth, from one pass over the data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.table import Table
from transformers import PreTrainedModel

from ..modeling.depth import check_depth
from ..support.eval_mode import evaluating
from ..support.records import Record, render
from ..support.weights import absent_weights, is_offloaded
from ..support.wrappers import unwrap
from .bootstrap import check_confidence, loss_bounds
from .depth_cost import DepthCost
from .evidence import Evidence, check_labels, num_rows
from .layers import layers_of
from .metrics import ROUNDING, ProfileError, resolve_metric
from .outputs import depth_outputs
from .rows_or_batches import batches
from .tradeoffs import DepthTradeoffs, shared_depths


@dataclass(frozen=True)
class DepthProfile(Record):
    """A metric for every depth of one model on one data set.

    Args:
        depths (`tuple[int, ...]`): Ascending; the last one is full depth.
        values (`tuple[float, ...]`): The metric at each depth.
        metric (`str`): Its name.
        greater_is_better (`bool`): Which direction is good.
        num_examples (`int`): Number of rows of the data that were read.
        num_parameters (`tuple[int, ...]`): Parameters of the model cut at each depth.

    Raises:
        ProfileError: Depths, values and parameters differ in number, or depths do not ascend.
    """

    depths: tuple[int, ...]
    values: tuple[float, ...]
    metric: str
    greater_is_better: bool
    num_examples: int
    num_parameters: tuple[int, ...]
    evidence: Evidence | None = field(default=None, repr=False, compare=False, metadata={"save": False})
    """What each example contributed; kept in memory for `confidence`, not saved."""
    no_evidence: str | None = field(default=None, repr=False, compare=False, metadata={"save": False})
    """Why a metric has no evidence, even where it was just measured."""

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.values) == len(self.num_parameters) > 0:
            raise ProfileError(
                "a profile must hold one value and one number of parameters for each of its depths; got "
                f"{len(self.depths)} depths, {len(self.values)} values, {len(self.num_parameters)} numbers"
            )
        if not np.isfinite(self.values).all():
            raise ProfileError(f"the values of a profile must be finite numbers; got {self.values}")
        if list(self.depths) != sorted(set(self.depths)):
            raise ProfileError(f"the depths of a profile must ascend; got {self.depths}")

    def value_at(self, depth: int) -> float:
        """Return the metric at `depth`.

        Raises:
            ProfileError: `depth` was not measured.
        """
        if depth not in self.depths:
            raise ProfileError(f"depth must be one of those measured, {self.depths}; got {depth!r}")
        return self.values[self.depths.index(depth)]

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value of the metric is better than another."""
        return value > other if self.greater_is_better else value < other

    def effective_depth(
        self,
        tolerance: float = 0.005,
        *,
        relative: bool = False,
        confidence: float | None = None,
        reference: float | None = None,
    ) -> int:
        """Return the smallest depth that is as good as full depth, within a tolerance; full depth if none is.

        Args:
            tolerance (`float`, *optional*, defaults to 0.005):
                How much worse than at full depth the metric may be, in units of the metric.
            relative (`bool`, *optional*, defaults to `False`):
                Whether the tolerance is a fraction of the metric's value at full depth instead.
            confidence (`float`, *optional*):
                In (0, 1). If given, a paired bootstrap must also exclude, with this one-sided confidence, that the
                depth loses more than the tolerance. It resamples examples; for labels of tokens it resamples tokens,
                for entities texts, for answers questions, and for a loss batches.
            reference (`float`, *optional*): What the metric is compared with. Defaults to its value at full depth.

        Raises:
            ProfileError: `tolerance` or `confidence` is out of range, or `confidence` is asked of a profile that was
                loaded from a file, which does not hold the examples, or of a metric that is of all examples at once.
        """
        if not tolerance >= 0 or not np.isfinite(tolerance):
            raise ProfileError(f"tolerance must be a finite number >= 0; got {tolerance!r}")
        if confidence is not None:
            check_confidence(confidence)
        sign = 1 if self.greater_is_better else -1
        full = self.values[-1] if reference is None else reference
        allowed = tolerance * (abs(full) if relative else 1) + ROUNDING
        gained = sign * (self.values[-1] - full)
        for depth, value in zip(self.depths[:-1], self.values, strict=False):
            if sign * (full - value) > allowed:
                continue
            if confidence is None or self._largest_loss(depth, confidence) <= allowed + gained:
                return depth
        return self.depths[-1]

    def loss_interval(self, depth: int, confidence: float = 0.95) -> tuple[float, float]:
        """Return the interval in which lies what `depth` loses against full depth, in units of the metric.

        What a depth gains is a loss below 0. A paired bootstrap, as for `confidence` of `effective_depth`, but with an
        upper and a lower end.

        Args:
            depth (`int`): One of those measured.
            confidence (`float`, *optional*, defaults to 0.95): In (0, 1).

        Raises:
            ProfileError: `depth` was not measured, `confidence` is out of range, there are fewer than two examples, or
                the profile was loaded from a file, which does not hold the examples.
        """
        self.value_at(depth)
        check_confidence(confidence)
        return loss_bounds(self._examples(), depth, confidence, "two-sided")

    def tradeoffs(self, cost: DepthCost) -> DepthTradeoffs:
        """Return the metric and the cost of every depth side by side, and which of them no smaller one equals.

        Args:
            cost (`DepthCost`): Of the same model, at the same depths; a lowest depth that one of the two lacks is left
                out.

        Raises:
            ProfileError: Depths or models differ.
        """
        depths = shared_depths(self.depths, self.num_parameters, cost)
        costs = dict(zip(cost.depths, cost.costs, strict=True))
        return DepthTradeoffs(
            depths=depths,
            values=tuple(map(self.value_at, depths)),
            costs=tuple(costs[depth] for depth in depths),
            metric=self.metric,
            greater_is_better=self.greater_is_better,
        )

    def within(
        self,
        cost: DepthCost,
        *,
        max_latency_ms: float | None = None,
        max_parameters: float | None = None,
        max_mb: float | None = None,
        max_gflops: float | None = None,
    ) -> int:
        """Return the best depth that meets every limit; the smallest of those that are equally good.

        Args:
            cost (`DepthCost`): See `tradeoffs`.
            max_latency_ms (`float`, *optional*): Milliseconds of a forward pass, as they were measured (the median).
            max_parameters (`float`, *optional*): Parameters of the model.
            max_mb (`float`, *optional*): Megabytes, of 1,000,000 bytes, of its checkpoint.
            max_gflops (`float`, *optional*): Thousands of millions of floating-point operations of a forward pass.

        Raises:
            BudgetError: No depth meets the limits.
            ProfileError: There is no limit, one is not a number above 0, or depths or models differ.
        """
        return self.tradeoffs(cost).within(
            max_latency_ms=max_latency_ms, max_parameters=max_parameters, max_mb=max_mb, max_gflops=max_gflops
        )

    def _examples(self) -> Evidence:
        if self.evidence is None:
            raise ProfileError(
                "confidence needs the examples, which "
                + (self.no_evidence or "a saved profile does not hold; measure again")
            )
        return self.evidence

    def _largest_loss(self, depth: int, confidence: float) -> float:
        """Return the upper end of the one-sided confidence interval of what `depth` loses against full depth."""
        return loss_bounds(self._examples(), depth, confidence, "less")[1]

    def __str__(self) -> str:
        table = Table("depth", self.metric, "parameters", title=f"Depth profile over {self.num_examples} examples")
        for depth, value, parameters in zip(self.depths, self.values, self.num_parameters, strict=True):
            table.add_row(str(depth), f"{value:.4f}", f"{parameters:,}")
        return render(table)


def measure_depth_profile(
    model: Any,
    data: Any,
    *,
    metric: Any = "accuracy",
    depths: Iterable[int] | None = None,
    batch_size: int = 32,
    collate_fn: Callable | None = None,
    device: str | torch.device | None = None,
    greater_is_better: bool | None = None,
) -> DepthProfile:
    """Measure a metric at every depth with one pass over the data.

    Of every depth only predictions, or losses, are kept, never logits. The model is left as it was found.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Any model with a head and one stack of layers; adapters inside stay
            active. What `torch.compile` and data parallelism return is taken for the model inside.
        data (`datasets.Dataset`, `torch.utils.data.Dataset`, `torch.utils.data.DataLoader`, or iterable):
            What the model takes, labels included; other columns are dropped. Data sets, also streamed ones, hold rows,
            and a list or another iterable holds rows or batches: where the label of its first entry is a single number,
            or its `input_ids` have one dimension, it is one of rows.
        metric (`str`, `Metric`, `evaluate.EvaluationModule` or `Callable`, *optional*, defaults to `"accuracy"`):
            A name out of `METRICS`, a function of `(predictions, references)`, or where one lies:
            `metric.py:function` or `module:function`. Labels of -100 do not count. Of a causal language model each
            place is compared with the token after it. Metrics of answers need rows that `acn_hf.data.prepare` makes.
        depths (iterable of `int`, *optional*): Defaults to all, `0..L`, or `1..L` of a class that needs a layer. Full
            depth is always measured too.
        batch_size (`int`, *optional*, defaults to 32): Rows in a batch, where data are rows.
        collate_fn (`Callable`, *optional*): Makes a batch of rows; defaults to [`~transformers.default_data_collator`].
        device (`str` or `torch.device`, *optional*): Where to measure. Defaults to where the model is.
        greater_is_better (`bool`, *optional*): For a metric of your own that is not better when greater. Defaults to
            the attribute of that name of a function.

    Returns: `DepthProfile`

    Raises:
        DepthError: A depth is not one that the model has, or its layers are not a plain stack.
        ProfileError: The data are empty or hold no labels, the metric is unknown or not a finite number, the model is
            on the meta device, or `device` is given for one whose weights are offloaded.
        TypeError: `model` is not one of transformers, has no head, or was adapted by prompts, which are not in its
            layers.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, measure_depth_profile

    >>> model = AcnBertForSequenceClassification(AcnBertConfig(num_hidden_layers=4, hidden_size=48))
    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    >>> measure_depth_profile(model, [batch]).depths
    (0, 1, 2, 3, 4)

    ```
    """
    model = unwrap(model)
    _check_numbers(model, device)
    num_layers = len(layers_of(model))
    chosen = None if depths is None else {num_layers, *(check_depth(depth, num_layers) for depth in depths)}
    evidence = Evidence(resolve_metric(metric, greater_is_better))
    num_examples = 0
    with evaluating(model, device):
        for batch in batches(model, data, batch_size=batch_size, collate_fn=collate_fn):
            check_labels(model, batch)
            evidence.add(depth_outputs(model, batch, chosen), batch, model)
            num_examples += num_rows(batch)
    return profile_of(model, evidence, num_examples)


def _check_numbers(model: PreTrainedModel, device: str | torch.device | None) -> None:
    """Raise `ProfileError` if weights hold no numbers, or are offloaded and are to be measured somewhere else."""
    absent = absent_weights(model)
    if absent and not is_offloaded(model):
        raise ProfileError(f"weights must hold numbers to be measured; {absent}")
    if absent and device is not None:
        raise ProfileError(f"device must be None, since accelerate chose one for this model; got {device}: {absent}")


def profile_of(model: PreTrainedModel, evidence: Evidence, num_examples: int) -> DepthProfile:
    """Return the profile that the evidence of so many examples gives.

    Raises:
        ProfileError: There was no example, or the metric is not a finite number at some depth.
    """
    if num_examples == 0:
        raise ProfileError("the data must hold at least one example; got none")
    return DepthProfile(
        depths=evidence.depths,
        values=tuple(evidence.value(depth) for depth in evidence.depths),
        metric=evidence.metric.name,
        greater_is_better=evidence.metric.greater_is_better,
        num_examples=num_examples,
        num_parameters=tuple(_parameters_at(model, depth) for depth in evidence.depths),
        evidence=evidence,
    )


def _parameters_at(model: PreTrainedModel, depth: int) -> int:
    cut = {parameter for layer in layers_of(model)[depth:] for parameter in layer.parameters()}
    return sum(parameter.numel() for parameter in set(model.parameters()) - cut)
