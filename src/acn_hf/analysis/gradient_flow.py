"""What every layer learns through its own long connection, and what through the layers above it."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from rich.table import Table
from torch import nn
from transformers import PreTrainedModel

from ..depth.evidence import loss_weight, num_rows
from ..depth.metrics import IGNORED_LABEL, ProfileError
from ..depth.profile import batches
from ..exits.exiting_connection import long_connection_path
from ..modeling.depth import check_layers_match_config, encoder_layers, replace_submodule
from ..modeling.upstream import maybe_install_capturing_hooks
from ..support.eval_mode import evaluating, fixed_randomness
from ..support.records import Record, render
from ..support.wrappers import unwrap_acn

PARTS = ("full", "direct", "mediated")


@dataclass(frozen=True)
class GradientFlow(Record):
    """Norms of the gradient of a loss with respect to the parameters of every depth, and of its two parts.

    Args:
        depths (`tuple[int, ...]`): `0..L`; 0 are the embeddings, `i` is layer `i`.
        full (`tuple[float, ...]`): Norm of the whole gradient (FG) at each depth.
        direct (`tuple[float, ...]`): Norm of the part that comes through the layer's own long connection (DG).
        mediated (`tuple[float, ...]`): Norm of the rest, which comes through the layers above (NG): of the difference
            of the two vectors, not of the two norms.
        num_examples (`int`): Number of rows of the data.

    Raises:
        ProfileError: The four differ in length, depths do not ascend, a norm is not a finite number >= 0, or there
            is no example.

    Source: arXiv 2506.09714, table 1, for networks of one number.
    """

    depths: tuple[int, ...]
    full: tuple[float, ...]
    direct: tuple[float, ...]
    mediated: tuple[float, ...]
    num_examples: int

    def __post_init__(self) -> None:
        if not len(self.depths) == len(self.full) == len(self.direct) == len(self.mediated) > 0:
            raise ProfileError(
                "a gradient flow must hold three norms for each of its depths; got "
                f"{len(self.depths)} depths and {len(self.full)}, {len(self.direct)}, {len(self.mediated)} norms"
            )
        whole = all(isinstance(depth, int) and depth >= 0 for depth in self.depths)
        if not whole or list(self.depths) != sorted(set(self.depths)):
            raise ProfileError(f"the depths of a gradient flow must be whole numbers that ascend; got {self.depths}")
        if not isinstance(self.num_examples, int) or self.num_examples < 1:
            raise ProfileError(f"a gradient flow must be that of at least one example; got {self.num_examples!r}")
        for part in PARTS:
            for depth, norm in zip(self.depths, getattr(self, part), strict=True):
                if not 0 <= norm < math.inf:
                    raise ProfileError(
                        f"the norm of the {part} gradient at depth {depth} must be a finite number >= 0; got {norm} "
                        "(weights that are not numbers, or gradients beyond the range of float16)"
                    )

    @property
    def ratio(self) -> tuple[float, ...]:
        """DG / FG at each depth; above 1 where the two parts oppose each other, not a number where FG is 0."""
        return tuple(direct / full if full else math.nan for full, direct in zip(self.full, self.direct, strict=True))

    def __str__(self) -> str:
        title = f"Gradient flow over {self.num_examples} examples"
        table = Table("depth", "full (FG)", "direct (DG)", "mediated (NG)", "DG / FG", title=title)
        for depth, *norms, ratio in zip(self.depths, self.full, self.direct, self.mediated, self.ratio, strict=True):
            table.add_row(str(depth), *(f"{norm:.4g}" for norm in norms), f"{ratio:.3f}")
        return render(table)


@dataclass(frozen=True)
class GradientFlowHistory(Record):
    """Gradient flows of one model while it was trained.

    Args:
        steps (`tuple[int, ...]`): Ascending: after how many steps each was measured.
        flows (`tuple[GradientFlow, ...]`): One for each step; where layers left, later ones have fewer depths.

    Raises:
        ProfileError: The two differ in length, or steps do not ascend.
    """

    steps: tuple[int, ...] = ()
    flows: tuple[GradientFlow, ...] = ()

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.flows):
            raise ProfileError(
                f"a history must hold one flow for each step; got {len(self.steps)} steps, {len(self.flows)} flows"
            )
        if list(self.steps) != sorted(set(self.steps)):
            raise ProfileError(f"the steps of a history must ascend; got {self.steps}")

    def with_flow(self, step: int, flow: GradientFlow) -> "GradientFlowHistory":
        """Return the history with one more flow, measured after `step`, which must be the latest."""
        return GradientFlowHistory((*self.steps, step), (*self.flows, flow))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold."""
        return {"steps": self.steps, "flows": tuple(flow.to_dict() for flow in self.flows)}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        # Both may be left out when a history is made, and neither in a file.
        return {**fields, "steps": fields["steps"], "flows": [GradientFlow.from_dict(flow) for flow in fields["flows"]]}

    def __str__(self) -> str:
        last = max((flow.depths[-1] for flow in self.flows), default=0)
        table = Table("step", *map(str, range(last + 1)), title="DG / FG at every depth")
        for step, flow in zip(self.steps, self.flows, strict=True):
            table.add_row(str(step), *(f"{ratio:.2f}" for ratio in flow.ratio))
        return render(table, width=max(100, 7 * (last + 3)))


def measure_gradient_flow(
    model: Any,
    data: Any,
    *,
    batch_size: int = 32,
    collate_fn: Callable | None = None,
    device: str | torch.device | None = None,
) -> GradientFlow:
    """Measure what every layer learns through its own long connection, and what through the layers above it.

    The gradient is that of the mean loss over all of the data, as one batch would give it, in eval mode, without
    dropout. Its direct part is that of the same model with `direct_gradient_only=True`. Both need a forward and a
    backward pass, so that a batch costs about two steps of training; memory holds two more copies of the gradients.

    A parameter that several depths share counts at the lowest of them, one that the head shares (the embeddings of a
    masked language model) at depth 0, with all that it learns there. Other parameters of the head do not count.
    Frozen parameters have no gradient: where all are frozen, the norm is 0. The loss is that of the head at full depth;
    intermediate supervision and teachers, which are of training, do not take part.

    The model is left as it was found, its `.grad` included.

    Args:
        model (`PreTrainedModel` or `PeftModel`): An ACN with a head; adapters inside count, and stay active. What
            `torch.compile` and data parallelism return is taken for the model inside.
        data (`dict`, `datasets.Dataset`, `torch.utils.data.DataLoader`, or iterable of rows or batches):
            One batch, or what [`measure_depth_profile`] takes; labels included.
        batch_size (`int`, *optional*, defaults to 32): Rows in a batch, for a data set.
        collate_fn (`Callable`, *optional*): Makes a batch of rows; defaults to [`~transformers.default_data_collator`].
        device (`str` or `torch.device`, *optional*): Where to measure. Defaults to where the model is.

    Returns:
        `GradientFlow`: `print` shows a table; [`plot_gradient_flow`] draws it.

    Raises:
        DepthError: Layers and config disagree.
        ProfileError: The data are empty or hold no labels, or a gradient is not finite; the message names the depth.
        TypeError: `model` is not an ACN, has no head, or was adapted by prompts, which are not in its layers.

    Source: arXiv 2506.09714, table 1, for networks of one number.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, measure_gradient_flow

    >>> model = AcnBertForSequenceClassification(AcnBertConfig(num_hidden_layers=4, hidden_size=48))
    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    >>> flow = measure_gradient_flow(model, batch)
    >>> flow.depths, flow.mediated[-1]  # above the last layer there is none
    ((0, 1, 2, 3, 4), 0.0)

    ```
    """
    model = unwrap_acn(model)
    if model.base_model is model:
        raise TypeError(f"a loss needs a model with a head, and {type(model).__name__} has none")
    check_layers_match_config(model)
    maybe_install_capturing_hooks(model.base_model)  # not by the views, which share their modules: that would be twice
    depths = parameters_by_depth(model)
    num_examples = 0
    with fixed_randomness(), evaluating(model, device), _differentiating():
        full, direct = _MeanGradient(plain_view(model), depths), _MeanGradient(direct_view(model), depths)
        data = [data] if isinstance(data, Mapping) else data
        for batch in batches(model, data, batch_size=batch_size, collate_fn=collate_fn):
            num_examples += num_rows(batch)
            full.add(batch)
            direct.add(batch)
        if num_examples == 0:
            raise ProfileError("the data must hold at least one example; got none")
        return GradientFlow(
            depths=tuple(range(len(depths))),
            full=tuple(map(_norm, full.means())),
            direct=tuple(map(_norm, direct.means())),
            mediated=tuple(map(_norm, full.differences(direct))),
            num_examples=num_examples,
        )


def parameters_by_depth(model: PreTrainedModel) -> list[list[nn.Parameter]]:
    """Return the parameters that are trained of the embeddings and of each layer; a shared one at the lowest depth."""
    seen: set[nn.Parameter] = set()
    depths = []
    for module in (model.base_model.embeddings, *encoder_layers(model)):
        own = [each for each in module.parameters() if each.requires_grad and each not in seen]
        seen.update(own)
        depths.append(own)
    return depths


def plain_view(model: PreTrainedModel) -> PreTrainedModel:
    """Return a view of a model with a head that computes and learns what the model does, without its hooks."""
    path = long_connection_path(model)
    return replace_submodule(model, path, model.get_submodule(path))


def direct_view(model: PreTrainedModel) -> PreTrainedModel:
    """Return a view of a model with a head that is as the model with `direct_gradient_only=True`."""
    path = long_connection_path(model)
    connection = copy.copy(model.get_submodule(path))
    connection.config = copy.deepcopy(connection.config)
    connection.config.direct_gradient_only = True
    return replace_submodule(model, path, connection)


class _MeanGradient:
    """The gradient of the mean loss of many batches, as one batch would give it; in float32 or better."""

    def __init__(self, view: PreTrainedModel, depths: list[list[nn.Parameter]]):
        self.view = view
        self.parameters = list(chain.from_iterable(depths))
        self.sums = [
            [torch.zeros_like(each, dtype=torch.promote_types(each.dtype, torch.float32)) for each in own]
            for own in depths
        ]
        self.weight = 0

    def add(self, batch: dict[str, Any]) -> None:
        """Add a batch, with a weight of as many labels as count in it."""
        output = self.view(**{**batch, "return_dict": True})
        weight = loss_weight(output, batch, self.view)
        self.weight += weight
        if not weight or not self.parameters or not output.loss.requires_grad:  # frozen, all of what the loss reads
            return
        gradients = torch.autograd.grad(output.loss, self.parameters, allow_unused=True)
        for total, gradient in zip(chain.from_iterable(self.sums), gradients, strict=True):
            if gradient is not None:
                total.add_(gradient, alpha=weight)

    def means(self) -> Iterator[list[torch.Tensor]]:
        """Yield the gradient of each depth.

        Raises:
            ProfileError: No label counts.
        """
        if not self.weight:
            raise ProfileError(f"at least one label must count; all are {IGNORED_LABEL}")
        for own in self.sums:
            yield [total / self.weight for total in own]

    def differences(self, other: "_MeanGradient") -> Iterator[list[torch.Tensor]]:
        """Yield the gradient of each depth less the one of another mean."""
        for mine, others in zip(self.means(), other.means(), strict=True):
            yield [one - another for one, another in zip(mine, others, strict=True)]


def _norm(gradients: Sequence[torch.Tensor]) -> float:
    return math.hypot(*(float(torch.linalg.vector_norm(gradient)) for gradient in gradients))


@contextmanager
def _differentiating() -> Iterator[None]:
    """Record what gradients need, whatever is off outside, and share no cast weights with an autocast around it."""
    with torch.inference_mode(False), torch.enable_grad():
        torch.clear_autocast_cache()  # a weight that was cast without gradients would stay without
        try:
            yield
        finally:
            torch.clear_autocast_cache()
