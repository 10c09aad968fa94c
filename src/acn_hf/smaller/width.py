"""Fewer neurons in the MLP of every layer: structured pruning, which makes the matrices smaller."""

import warnings
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..depth.cost import example_inputs
from ..modeling import depth as plain
from ..modeling.depth import encoder_layers
from ..support.wrappers import unwrap_acn
from .pruning import prunable_weights


def prune_width(model: Any, intermediate_size: int) -> PreTrainedModel:
    """Return a copy of `model` whose MLPs have only their most important neurons, in every layer the same number.

    A neuron is as important as the mean of the squared norms of the weights that write it and of those that read it,
    as torch-pruning's `GroupMagnitudeImportance` has it. The copy is an ordinary model of a smaller
    `config.intermediate_size`, whose passes cost less on every machine. Fine-tune it: nothing makes up for the neurons
    that went.

    Args:
        model (`PreTrainedModel`): A model of acn_hf; it is left as it is. What `torch.compile` and data parallelism
            return is taken for the model inside.
        intermediate_size (`int`): Number of neurons to keep in each MLP, in `[1, config.intermediate_size]`.

    Returns:
        `PreTrainedModel`: Of the same class, on the same device, in the same dtype and mode, without gradients.

    Raises:
        ImportError: torch-pruning is missing.
        TypeError: `model` is not an ACN, its weights are sharded over processes, it holds adapters, or it is quantised.
        ValueError: `intermediate_size` is no whole number in its range.

    Source: https://github.com/VainF/Torch-Pruning; Fang et al. 2023, arXiv 2301.12900.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, prune_width

    >>> config = AcnBertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4, intermediate_size=256)
    >>> prune_width(AcnBertModel(config), 64).config.intermediate_size
    64

    ```
    """
    inner = unwrap_acn(model)
    prunable_weights(inner)
    width = inner.config.intermediate_size
    if type(intermediate_size) is not int or not 1 <= intermediate_size <= width:
        raise ValueError(
            f"intermediate_size must be a whole number in [1, {width}] for this model; got {intermediate_size!r}"
        )
    narrow = plain.truncate(inner, len(encoder_layers(inner)))
    if intermediate_size < width and len(encoder_layers(inner)):
        _prune_neurons(narrow, width, intermediate_size)
    for config in (narrow.config, narrow.base_model.config):
        config.intermediate_size = intermediate_size
    return narrow


def _prune_neurons(model: PreTrainedModel, width: int, kept: int) -> None:
    """Remove neurons from the MLPs of `model`, in place."""
    try:
        import torch_pruning
    except ImportError as error:
        raise ImportError("widths need torch-pruning: pip install 'acn-hf[pruning]'") from error
    trained = model.training
    with warnings.catch_warnings(), torch.enable_grad():
        # Parameters outside of modules, such as the class token, are not in the groups of the MLPs.
        warnings.filterwarnings("ignore", message="Unwrapped parameters detected")
        graph = torch_pruning.DependencyGraph().build_dependency(model.eval(), example_inputs=example_inputs(model))
    importance = torch_pruning.importance.GroupMagnitudeImportance()
    for layer in encoder_layers(model):
        # Attention comes first in a layer, then the linear that writes the neurons, then the one that reads them.
        first = [module for module in layer.modules() if isinstance(module, nn.Linear)][-2]
        group = graph.get_pruning_group(first, torch_pruning.prune_linear_out_channels, idxs=list(range(width)))
        order = importance(group).argsort(stable=True)
        graph.get_pruning_group(
            first, torch_pruning.prune_linear_out_channels, idxs=order[: width - kept].sort().values.tolist()
        ).prune()
    model.train(trained)
