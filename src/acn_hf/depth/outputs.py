"""The output of a model at every depth, from one pass through its layers."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..modeling import depth as acn
from ..modeling.depth import DepthError, check_depth
from .layers import is_acn, layers_of
from .reading import Recording
from .self_check import check_lowest, check_once


def depth_outputs(
    model: PreTrainedModel, inputs: dict[str, Any], depths: Iterable[int] | None = None
) -> Iterator[tuple[int, ModelOutput]]:
    """Yield `(depth, output)` for ascending depths, where `output` is what `truncate(model, depth)` would return.

    The layers run once, up to the largest depth; what stands above them runs once a depth, when its output is asked
    for. No cache of keys and values is made for it, and one among the inputs is read and left as it is.

    Args:
        model (`PreTrainedModel`): An ACN with a head, or any other model of transformers.
        inputs (`dict`): Keyword arguments of the model; with labels, every output holds its loss.
        depths (iterable of `int`, *optional*): Defaults to all, `0..L`, or `1..L` where the class needs a layer.

    Raises:
        DepthError: A depth is not one that the model has, or its layers are not a plain stack.
        TypeError: `model` is an ACN without a head.
    """
    if is_acn(model):
        yield from acn.depth_outputs(model, inputs, depths)
        return
    number = len(layers_of(model))
    lowest = check_once(model, inputs)
    chosen = sorted({check_depth(depth, number) for depth in (range(lowest, number + 1) if depths is None else depths)})
    if not chosen:
        raise DepthError(f"depths must name at least one depth in [{lowest}, {number}]; got none")
    check_lowest(model, chosen[0], lowest)
    recording = Recording(model)
    last = recording.run(chosen[-1], inputs)
    for depth in chosen[:-1]:
        yield depth, recording.read(depth, inputs)
    yield chosen[-1], last


def depth_logits(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the logits at every depth that the model has, the lowest first."""
    return torch.stack([acn.output_logits(output) for _, output in depth_outputs(model, inputs)])
