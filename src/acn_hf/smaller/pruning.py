"""Zeros in the weights of a model: which weights may become zero, which go first, and how many have gone.

A pruned model is an ordinary one: its zeros stand in the ordinary weights, and checkpoints keep them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from rich.table import Table
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from ..depth.layers import layers_of, layers_path, truncate
from ..modeling.injected import adapter_configs
from ..support.records import Record, render
from ..support.wrappers import unwrap

logger = logging.get_logger(__name__)

LINEAR = (nn.Linear, Conv1D)
"""Modules that multiply by a matrix; in GPT-2 it is transposed."""


@dataclass(frozen=True)
class Sparsity(Record):
    """How many of the weights of each layer are zero. Weights are those of the layer's linear modules, without biases.

    Args:
        zeros (`tuple[int, ...]`): Weights that are exactly zero, of each layer, the first one first.
        weights (`tuple[int, ...]`): All weights, of each layer.

    Raises:
        ValueError: The two differ in number, or a layer has more zeros than weights.
    """

    zeros: tuple[int, ...]
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.zeros) != len(self.weights):
            raise ValueError(
                f"zeros and weights must hold one number for each layer; got {len(self.zeros)} and {len(self.weights)}"
            )
        if any(not 0 <= zeros <= weights for zeros, weights in zip(self.zeros, self.weights, strict=True)):
            raise ValueError(f"a layer must hold no more zeros than weights; got {self.zeros} of {self.weights}")

    @property
    def sparsity(self) -> float:
        """The share of zeros among all weights, in [0, 1]."""
        return _share(sum(self.zeros), sum(self.weights))

    @property
    def per_layer(self) -> tuple[float, ...]:
        """The share of zeros among the weights of each layer, in [0, 1]."""
        return tuple(map(_share, self.zeros, self.weights))

    def __str__(self) -> str:
        table = Table("layer", "weights", "zeros", "share", title=f"{self.sparsity:.1%} of the weights are zero")
        for layer, share in enumerate(self.per_layer, start=1):
            table.add_row(str(layer), f"{self.weights[layer - 1]:,}", f"{self.zeros[layer - 1]:,}", f"{share:.4f}")
        return render(table)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def measure_sparsity(model: Any) -> Sparsity:
    """Count the zeros in the weights of every layer.

    Args:
        model (`PreTrainedModel`): A model of acn_hf, or any other of transformers that has one stack of layers. What
            `torch.compile` and data parallelism return is taken for the model inside.

    Returns:
        `Sparsity`: Of the linear modules in the layers, the `Conv1D` of GPT-2 among them; embeddings, norms, biases,
        convolutions and the head are not counted.

    Raises:
        DepthError: The model has no stack of layers, or several.
        TypeError: `model` is not one of transformers, its weights are sharded over processes, it holds adapters, which
            have weights of their own, or it is quantised.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, measure_sparsity, prune_model

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    >>> measure_sparsity(prune_model(model, 0.75)).sparsity
    0.75

    ```
    """
    layers = [[m.weight for m in layer.modules() if isinstance(m, LINEAR)] for layer in layers_of(_own(model))]
    return Sparsity(
        zeros=tuple(sum(count_zeros(weight) for weight in weights) for weights in layers),
        weights=tuple(sum(weight.numel() for weight in weights) for weights in layers),
    )


def prune_model(model: Any, sparsity: float, *, modules: Sequence[str] | None = None) -> PreTrainedModel:
    """Return a copy of `model` in which the smallest weights are zero: unstructured magnitude pruning, all at once.

    All weights compete with each other, whatever layer they stand in. Zeros make a checkpoint compress better; they
    make no forward pass of dense matrices faster. Fine-tune with [`PruningCallback`], which keeps them.

    Args:
        model (`PreTrainedModel`): A model of acn_hf, or any other of transformers that has one stack of layers; it is
            left as it is. What `torch.compile` and data parallelism return is taken for the model inside.
        sparsity (`float`): Share of the weights that are zero in the end, in [0, 1). Weights that are zero already
            count.
        modules (sequence of `str`, *optional*): Which linear modules, by their dotted names or the ends of these
            (`"fc1"`, `"classifier"`). Defaults to all in the layers: attention and MLP. Biases, embeddings and norms
            are never pruned.

    Returns:
        `PreTrainedModel`: Of the same class, on the same device, in the same dtype and mode, without gradients. A
        module that is left without any weight is named in a warning: it gives its bias, whatever it reads.

    Raises:
        DepthError: The model has no stack of layers, or several.
        TypeError: `model` is not one of transformers, its weights are sharded over processes, it holds adapters, or it
            is quantised.
        ValueError: `sparsity` is out of range, an entry of `modules` names no linear module, or one whose weights are
            tied to embeddings.

    Source: magnitude pruning, Han et al. 2015, arXiv 1506.02626; the masks are those of
    `torch.nn.utils.prune.global_unstructured` with `L1Unstructured`.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, measure_sparsity, prune_model

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    >>> measure_sparsity(prune_model(model, 0.5)).zeros == measure_sparsity(model).zeros
    False

    ```
    """
    check_sparsity(sparsity)
    inner = _own(model)
    prunable_weights(inner, modules)
    pruned = truncate(inner, len(layers_of(inner)))
    weights = prunable_weights(pruned, modules)
    zero_lowest(weights, {name: weight.abs() for name, weight in weights.items()}, sparsity)
    warn_of_empty(weights, ())
    return pruned


def check_sparsity(sparsity: Any) -> None:
    """Raise `ValueError` unless `sparsity` is a number in [0, 1)."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be a number in [0, 1); got {sparsity!r}")


def prunable_weights(model: Any, modules: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
    """Return the weights that may be pruned, by their names; the same ones at every call, not copies.

    Args:
        model (`PreTrainedModel`): Any that has one stack of layers, or what wraps one.
        modules (sequence of `str`, *optional*): See [`prune_model`].

    Raises:
        TypeError, ValueError: See [`prune_model`].
    """
    model = _own(model)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, LINEAR)}
    if modules is None:
        chosen = [name for name in linear if name.startswith(f"{layers_path(model)}.")]
    else:
        chosen = _named(linear, modules)
    weights = {f"{name}.weight": cast(nn.Parameter, linear[name].weight) for name in chosen}
    tied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, weight in weights.items():
        if id(weight) in tied:
            raise ValueError(f"modules must not name weights that are tied to embeddings; got {name}")
    return weights


def _named(linear: Iterable[str], modules: Sequence[str]) -> list[str]:
    """Return which of the names end with one of `modules`."""
    if isinstance(modules, str) or not modules:
        raise ValueError(f"modules must be a list of names, not an empty one; got {modules!r}")
    for entry in modules:
        if not any(f".{name}".endswith(f".{entry}") for name in linear):
            raise ValueError(f"modules must name linear modules of the model; got {entry!r}")
    return [name for name in linear if any(f".{name}".endswith(f".{entry}") for entry in modules)]


def _own(model: Any) -> PreTrainedModel:
    """Return the model of transformers inside `model`, which must hold ordinary weights alone."""
    inner = unwrap(model)
    if getattr(inner.config, "quantization_config", None) is not None:
        raise TypeError(f"a model must be pruned before it is quantised; got a quantised {type(inner).__name__}")
    if adapter_configs(inner):
        raise TypeError(
            f"a model must hold no adapters to be pruned; got {', '.join(adapter_configs(inner))}: "
            "acn_hf.truncate(model, depth, merge_adapter=True) puts them into the weights"
        )
    return inner


def count_zeros(weight: torch.Tensor) -> int:
    """Return how many numbers are exactly zero."""
    return weight.numel() - int(torch.count_nonzero(weight.detach()))


@torch.no_grad()
def zero_lowest(weights: dict[str, nn.Parameter], scores: dict[str, torch.Tensor], sparsity: float) -> None:
    """Set the weights with the lowest scores to zero, until `sparsity` of them all are zero.

    What is zero already stays so, whatever its score. Equal scores fall in the order of the weights, so that several
    processes with the same scores agree.

    `torch.nn.utils.prune` gives the same masks, but it puts other parameters into the model: those that an optimiser
    holds are gone, and after `prune.remove` weights stand behind biases, where no saved optimiser state looks for them.
    Nor can it rank scores of both signs.
    """
    if not weights:
        return
    device = next(iter(weights.values())).device
    ranked = torch.cat(
        [scores[name].to(device, torch.float32, copy=True).masked_fill_(weight.to(device) == 0, -torch.inf).flatten()
         for name, weight in weights.items()]
    )  # fmt: skip
    number = round(sparsity * len(ranked))
    if number == 0:
        return
    # `kthvalue` is refused on GPUs by `use_deterministic_algorithms`.
    threshold = ranked.topk(number, largest=False, sorted=False).values.max()
    falls = ranked < threshold
    equal = (ranked == threshold).nonzero().squeeze(1)
    falls[equal[: number - int(falls.sum())]] = True
    sizes = [weight.numel() for weight in weights.values()]
    for weight, mask in zip(weights.values(), falls.split(sizes), strict=True):
        weight.masked_fill_(mask.view_as(weight).to(weight.device), 0)


def warn_of_empty(weights: dict[str, nn.Parameter], known: Sequence[str]) -> list[str]:
    """Warn of weights that are zero throughout, but for those that are `known` to be, and return all of them."""
    empty = [name for name, weight in weights.items() if not weight.any()]
    new = [name for name in empty if name not in known]
    if new:
        logger.warning(
            f"{', '.join(new[:3])}{', ...' if len(new) > 3 else ''} ({len(new)} in all): zero throughout, and will "
            "stay so while the model is pruned; prune less, or cut layers that are not needed with acn_hf.truncate"
        )
    return empty
