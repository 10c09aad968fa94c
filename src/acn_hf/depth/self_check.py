"""Whether the layers of a model are a plain stack, found out by computing one depth in both ways.

No list of names says which models work. What happens between the layers, or beside them, shows here: the logits that
are read from one pass must be those of the model that is cut.
"""

import json
from typing import Any

import torch
from transformers import PreTrainedModel

from ..modeling.depth import DepthError
from ..modeling.injected import adapter_configs
from ..support.eval_mode import evaluating, fixed_randomness
from ..support.weights import absent_weights, is_offloaded
from .cost import EXAMPLE_INPUTS, example_inputs
from .layers import is_acn, layers_of, prefix_view
from .reading import Recording, uncached
from .rows_or_batches import LABELS

_lowest: dict[tuple[type, bool, str], int] = {}
"""The lowest depth of each class and config that was checked, with adapters or without."""


def check_once(model: PreTrainedModel, inputs: dict[str, Any]) -> int:
    """Compute one depth in both ways, the first time that a model of this class and config is seen.

    Args:
        model (`PreTrainedModel`): Any model that is not an ACN, whose conformance tests do the same at every depth.
        inputs (`dict`): A batch; one more pass is made over it.

    Returns:
        `int`: The lowest depth that the model has: 0, or what its class needs to run at all.

    Raises:
        DepthError: The two differ, or the model cannot be cut.
    """
    key = (type(model), bool(adapter_configs(model)), json.dumps(model.config.to_dict(), sort_keys=True, default=str))
    if key not in _lowest:
        inputs = {name: value for name, value in inputs.items() if name not in LABELS}  # wrong ones show later
        if (absent := absent_weights(model)) and not is_offloaded(model):
            raise DepthError(f"weights must hold numbers for the depths of a model to be read; {absent}")
        with evaluating(model), fixed_randomness():
            _lowest[key] = _check(model, inputs)
    return _lowest[key]


def check_by_example(model: PreTrainedModel, depth: Any = None) -> int:
    """Do what `check_once` does before anything is known of the inputs, if an example can be made of them.

    Args:
        model (`PreTrainedModel`): Any; an ACN needs no check.
        depth (*optional*): Where the model is to be cut.

    Returns:
        `int`: The lowest depth that the model has.

    Raises:
        DepthError: The layers of the model are not a plain stack, or `depth` is below the lowest one.
    """
    has_numbers = is_offloaded(model) or not absent_weights(model)
    if is_acn(model) or not has_numbers or model.main_input_name not in EXAMPLE_INPUTS:
        return 0
    lowest = check_once(model, example_inputs(model))
    check_lowest(model, depth, lowest)
    return lowest


def check_lowest(model: PreTrainedModel, depth: Any, lowest: int) -> None:
    """Raise `DepthError` if a depth is below the lowest one that a class can do."""
    if type(depth) is int and 0 <= depth < lowest:
        need = "a layer" if lowest == 1 else f"{lowest} layers"
        raise DepthError(
            f"depth must lie in [{lowest}, {len(layers_of(model))}] for {type(model).__name__}, which needs {need}; "
            f"got {depth}"
        )


def _check(model: PreTrainedModel, inputs: dict[str, Any]) -> int:
    name, number = type(model).__name__, len(layers_of(model))
    # Not the first: what happens once, after it, is read there as it is in the model that was cut.
    depth = max(number - 1, min(number, 1))
    if not _config_says(model, depth):
        raise DepthError(f"the layers of {name} are not a plain stack: a config of {depth} of them says something else")
    try:
        recording = Recording(model)
        recording.run(number, inputs)
        same = _same(recording.read(depth, inputs), prefix_view(model, depth)(**uncached(inputs)))
    except DepthError:
        raise
    except Exception as error:  # whatever upstream raises with fewer layers, and peft without its own forward
        raise DepthError(f"{name} does not run with its first {depth} layers: {error}") from error
    if not same:
        raise DepthError(
            f"the layers of {name} are not a plain stack: at depth {depth} of {number}, what is read from one pass is "
            "not what the model computes that is cut there. Something happens between its layers"
        )
    return next((low for low in range(depth) if _works_at(low, model, recording, inputs)), depth)


def _config_says(model: PreTrainedModel, depth: int) -> bool:
    """Return whether the config of the cut model, saved and read, describes a model of the same weights."""
    return is_described(prefix_view(model, depth))


def is_described(model: PreTrainedModel) -> bool:
    """Return whether the config of a model, saved and read, describes a model of the same weights.

    Adapters are described by no config, and rename weights: of a model that holds some, it must describe any model.
    """
    try:
        config = type(model.config).from_dict(model.config.to_dict())
        with torch.device("meta"):
            described = type(model)(config)
    except Exception:  # each class refuses with errors of its own
        return False
    return bool(adapter_configs(model)) or shapes(described) == shapes(model)


def shapes(model: PreTrainedModel) -> dict[str, torch.Size]:
    """Return the shapes of the weights of a model."""
    return {name: weight.shape for name, weight in model.state_dict().items()}


def _works_at(depth: int, model: PreTrainedModel, recording: Recording, inputs: dict[str, Any]) -> bool:
    """Return whether a model of this class can be one of so few layers, and be saved so."""
    try:
        cut = prefix_view(model, depth)(**uncached(inputs))
        return _config_says(model, depth) and _same(recording.read(depth, inputs), cut)
    except Exception:  # each class fails in its own way
        return False


def _same(read: Any, cut: Any) -> bool:
    """Return whether two outputs hold the same numbers: to the bit in float32 on a CPU, within rounding elsewhere."""
    return all(_equal(read[name], value) for name, value in cut.items() if isinstance(value, torch.Tensor))


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    if one.device.type == "cpu" and one.dtype == torch.float32:
        return bool(torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num()))
    tolerance = 1e-4 if one.dtype == torch.float32 else 5e-2
    return bool(torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True))
