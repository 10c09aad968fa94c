"""What a model costs at every depth, measured in one run, so that the ratios are those of one machine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from ..modeling.depth import DepthError, check_depth
from ..support.records import Record, render
from ..support.sentence_models import inner_model
from ..support.wrappers import is_sentence_model, unwrap_parallel
from .cost import Cost, example_inputs, measure_cost
from .every_depth import view_at
from .layers import layers_of
from .self_check import check_by_example, check_lowest


@dataclass(frozen=True)
class DepthCost(Record):
    """The cost of one model at some of its depths.

    Args:
        depths (`tuple[int, ...]`): Ascending; the last one is full depth.
        costs (`tuple[Cost, ...]`): Of the model cut at each.
        sequence_length (`int`, *optional*): Tokens in a text; `None` for images.

    Raises:
        DepthError: Depths and costs differ in number, or depths do not ascend.
    """

    depths: tuple[int, ...]
    costs: tuple[Cost, ...]
    sequence_length: int | None = None

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.costs) > 0 or list(self.depths) != sorted(set(self.depths)):
            raise DepthError(
                f"there must be one cost for each of some ascending depths; got {len(self.costs)} for {self.depths}"
            )

    def ratios(self, name: str) -> tuple[float, ...]:
        """Return a field of every cost divided by the one at full depth.

        Args:
            name (`str`): `"num_parameters"`, `"size_bytes"`, `"flops"` or `"latency_ms"`.
        """
        full = getattr(self.costs[-1], name)
        return tuple(getattr(cost, name) / full for cost in self.costs)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {**super().to_dict(), "costs": [cost.to_dict() for cost in self.costs]}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "costs": [Cost.from_dict(cost) for cost in fields["costs"]]}

    def __str__(self) -> str:
        full = self.costs[-1]
        what = f"batch size {full.batch_size}" + (f", {self.sequence_length} tokens" if self.sequence_length else "")
        table = Table(title=f"Cost at every depth: {what}, {full.dtype}, on {full.device}")
        for name in ("depth", "parameters", "ratio", "MB", "GFLOPs", "ratio", "latency in ms", "ratio"):
            table.add_column(name, justify="right")
        ratios = zip(*(self.ratios(name) for name in ("num_parameters", "flops", "latency_ms")), strict=True)
        for depth, cost, (parameters, flops, latency) in zip(self.depths, self.costs, ratios, strict=True):
            table.add_row(
                str(depth),
                f"{cost.num_parameters:,}",
                f"{parameters:.3f}",
                f"{cost.size_bytes / 1e6:.2f}",
                f"{cost.flops / 1e9:.4g}",
                f"{flops:.3f}",
                f"{cost.latency_ms:.2f} ± {cost.latency_spread_ms / 2:.2f}",
                f"{latency:.3f}",
            )
        return render(table)


def measure_depth_cost(
    model: Any,
    *,
    depths: Iterable[int] | None = None,
    batch_size: int = 1,
    sequence_length: int | None = None,
    warmup: int = 3,
    repeats: int = 20,
    progress: Callable[[Sequence[int]], Iterable[int]] | None = None,
) -> DepthCost:
    """Measure what the model costs when it is cut at each depth; nothing is copied, and nothing is changed.

    Args:
        model (`PreTrainedModel`, `PeftModel`, `SentenceTransformer` or `CrossEncoder`): Any model with one stack of
            layers, with any head or none; or one of sentence-transformers, with all of its modules. What
            `torch.compile` and data parallelism return is taken for the model inside.
        depths (iterable of `int`, *optional*): Defaults to all that the class can do, `0..L` as a rule. Full depth is
            always measured too.
        batch_size (`int`, *optional*, defaults to 1): Examples in a pass.
        sequence_length (`int`, *optional*): Tokens in a text. Defaults to 128, or fewer if the model takes fewer.
        warmup (`int`, *optional*, defaults to 3): Passes at each depth that are not timed.
        repeats (`int`, *optional*, defaults to 20): Passes at each depth that are timed, at least 2.
        progress (`Callable`, *optional*): Is given the depths and yields them, as a progress bar does.

    Returns:
        `DepthCost`

    Raises:
        DepthError: A depth is not a whole number in `[0, L]`, or the model has no one stack of layers.
        TypeError: `model` is not one of transformers, or was adapted by prompts, which are not in its layers.
        ValueError: `repeats` is below 2, `warmup` below 0, `batch_size` below 1, or `sequence_length` is not one that
            the model takes.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, measure_depth_cost

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4))
    >>> cost = measure_depth_cost(model, depths=[2], sequence_length=16, repeats=2)
    >>> cost.depths, cost.costs[0].flops < cost.costs[1].flops
    ((2, 4), True)

    ```
    """
    inner = inner_model(model)
    model = outer if is_sentence_model(outer := unwrap_parallel(model)) else inner
    num_layers = len(layers_of(inner))
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1; got {batch_size}")
    lowest = check_by_example(inner)
    asked = range(lowest, num_layers + 1) if depths is None else depths
    chosen = sorted({num_layers, *(check_depth(depth, num_layers) for depth in asked)})
    check_lowest(inner, chosen[0], lowest)
    inputs = _inputs(model, batch_size, sequence_length)
    costs = tuple(
        measure_cost(view_at(model, depth), inputs, warmup=warmup, repeats=repeats)
        for depth in (chosen if progress is None else progress(chosen))
    )
    length = inputs["input_ids"].shape[-1] if "input_ids" in inputs else None
    return DepthCost(tuple(chosen), costs, length)


def _inputs(model: Any, batch_size: int, sequence_length: int | None) -> dict[str, torch.Tensor]:
    inputs = example_inputs(model, batch_size)
    if sequence_length is None:
        return inputs
    if "input_ids" not in inputs:
        raise ValueError(f"sequence_length is for models of text; got {sequence_length} for {type(model).__name__}")
    longest = inner_model(model).config.max_position_embeddings
    if not 1 <= sequence_length <= longest:
        raise ValueError(f"sequence_length must lie in [1, {longest}] for this model; got {sequence_length}")
    return {name: _of_length(value, sequence_length) for name, value in inputs.items()}


def _of_length(tokens: torch.Tensor, number: int) -> torch.Tensor:
    """Return so many of the first token of each text."""
    return tokens[..., :1].expand(*tokens.shape[:-1], number).contiguous()
