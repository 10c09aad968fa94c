"""Fewer neurons in the MLP of every layer: structured pruning, which makes the matrices smaller."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..depth.cost import example_inputs
from ..depth.layers import layers_of, truncate
from ..depth.self_check import is_described
from ..support.wrappers import unwrap
from .neurons import Width, counting_config, find_width
from .pruning import prunable_weights


def prune_width(model: Any, intermediate_size: int) -> PreTrainedModel:
    """Return a copy of `model` whose MLPs have only their most important neurons, in every layer the same number.

    A neuron is as important as the mean of the squared norms of the weights that write it and of those that read it,
    as torch-pruning's `GroupMagnitudeImportance` has it. The copy is an ordinary model of a smaller
    `config.intermediate_size`, or whatever the config calls it, whose passes cost less on every machine. In gated MLPs
    the two weights that write a neuron go together. Fine-tune it: nothing makes up for the neurons that went.

    Args:
        model (`PreTrainedModel`): A model of acn_hf, or any other of transformers that has one stack of layers; it is
            left as it is. What `torch.compile` and data parallelism return is taken for the model inside.
        intermediate_size (`int`): Number of neurons to keep in each MLP, at least 1, and at most as many as it has.

    Returns:
        `PreTrainedModel`: Of the same class, on the same device, in the same dtype and mode, without gradients.

    Raises:
        DepthError: The model has no stack of layers, or several.
        ImportError: torch-pruning is missing.
        TypeError: `model` is not one of transformers, its weights are sharded over processes, it holds adapters, or it
            is quantised; or its layers are not known to have neurons: no field of the config says how many numbers one
            `torch.nn.Linear` in each of them reads (DINOv2, whose config holds a ratio; the `Conv1D` of GPT-2; mixtures
            of experts).
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
    inner = unwrap(model)
    prunable_weights(inner)
    found = find_width(inner)
    if type(intermediate_size) is not int or not 1 <= intermediate_size <= found.width:
        raise ValueError(
            f"intermediate_size must be a whole number in [1, {found.width}] for this model; got {intermediate_size!r}"
        )
    narrow = truncate(inner, len(layers_of(inner)))
    if intermediate_size < found.width and len(layers_of(inner)):
        _prune_neurons(narrow, found, intermediate_size)
    counting = counting_config(narrow)
    for config in (narrow.config, narrow.base_model.config, counting):
        if type(config) is type(counting):
            setattr(config, found.field, intermediate_size)
    if not is_described(narrow):
        raise ValueError(
            f"what is left of {type(narrow).__name__} must be what its config says with "
            f"{found.field}={intermediate_size}, and is not: its layers are joined in a way that is not known"
        )
    return narrow


def _prune_neurons(model: PreTrainedModel, found: Width, kept: int) -> None:
    """Remove neurons from the MLPs of `model`, in place."""
    try:
        import torch_pruning
    except ImportError as error:
        raise ImportError("widths need torch-pruning: pip install 'acn-hf[pruning]'") from error
    trained = model.training
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            # Parameters outside of modules, such as the class token, are not in the groups of the MLPs.
            warnings.filterwarnings("ignore", message="Unwrapped parameters detected")
            graph = torch_pruning.DependencyGraph().build_dependency(
                model.eval(), example_inputs=example_inputs(model), output_transform=_tensors
            )
            # What reads the neurons is one matrix, what writes them may be two, or two in one.
            groups = [_group(graph, reader, range(found.width)) for reader in found.readers(model)]
    except Exception as error:  # whatever it meets in a class that it does not know
        raise TypeError(f"torch-pruning cannot follow what {type(model).__name__} computes: {error}") from error
    importance = torch_pruning.importance.GroupMagnitudeImportance()
    for reader, group in zip(found.readers(model), groups, strict=True):
        order = importance(group).argsort(stable=True)
        _group(graph, reader, order[: found.width - kept].sort().values.tolist()).prune()
    model.train(trained)


def _group(graph: Any, reader: Any, neurons: Iterable[int]) -> Any:
    """Return what torch-pruning removes together with some of the numbers that a linear module reads."""
    import torch_pruning

    return graph.get_pruning_group(reader, torch_pruning.prune_linear_in_channels, idxs=list(neurons))


def _tensors(output: ModelOutput) -> list[torch.Tensor]:
    return [value for value in output.to_tuple() if isinstance(value, torch.Tensor)]  # others may be caches
