"""One forward pass of an ACN as a program that needs no code of ours, and how far its outputs are from the model's."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from transformers import BertForMultipleChoice, DeiTForMaskedImageModeling, PreTrainedModel, ViTForMaskedImageModeling

from ..depth.every_depth import truncate
from ..modeling.depth import encoder_layers
from ..support.wrappers import unwrap_acn

Inputs = dict[str, torch.Tensor]
TRACED_BATCH_SIZE = 2
"""A size of 1 would be taken for a constant."""
CHECKED_BATCH_SIZES = (1, 7)
"""Other than the traced one, so that a size that was taken for a constant shows."""
TRACED_LENGTH, LONGEST_CHECKED = 8, 128


class ExportError(RuntimeError):
    """What was exported does not compute what the model computes, or cannot be run."""


class Served(nn.Module):
    """The forward pass of a model, from named tensors to a dictionary of named tensors.

    A plain dictionary, since an output class of transformers could not be loaded without transformers. `loss` is left
    out: nobody serves it. A subclass for each set of inputs, since the names of a program are those of the arguments.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def outputs(self, **inputs: torch.Tensor) -> Inputs:
        outputs = self.model(**inputs, return_dict=True, output_hidden_states=False, output_attentions=False)
        return {name: value for name, value in outputs.items() if name != "loss"}


class ServedText(Served):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Inputs:
        return self.outputs(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)


class ServedImages(Served):
    def forward(self, pixel_values: torch.Tensor) -> Inputs:
        return self.outputs(pixel_values=pixel_values)


class ServedMaskedImages(Served):
    def forward(self, pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor) -> Inputs:
        return self.outputs(pixel_values=pixel_values, bool_masked_pos=bool_masked_pos)


def served(model: Any, depth: int | None, dtype: torch.dtype | None = None) -> Served:
    """Return the forward pass of a copy of the first `depth` layers, on the CPU, for inference; `model` is left alone.

    Args:
        model (`PreTrainedModel` or `PeftModel`): What [`truncate`] takes; adapters are merged.
        depth (`int`, *optional*): Defaults to all layers.
        dtype (`torch.dtype`, *optional*): Of the copy. Defaults to that of the model.

    Raises:
        DepthError: The model does not have this depth.
        TypeError: `model` is not an ACN, its weights are sharded, or it was adapted by prompts.
        ValueError: Some of the weights are not in memory.
    """
    inner = unwrap_acn(model)
    absent = next((name for name, weight in inner.named_parameters() if weight.is_meta), None)
    if absent is not None:
        raise ValueError(f"all weights of the model must be in memory to be exported; {absent} is on the meta device")
    copy = truncate(model, len(encoder_layers(inner)) if depth is None else depth, merge_adapter=True)
    for module in copy.modules():
        # Hooks watch the passes of the user's model, and would be called with tensors without values. A `forward` bound
        # to the instance is accelerate's, which moves weights and inputs between devices, and a call may be compiled.
        module.__dict__.update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
        for bound in ("forward", "_old_forward", "_hf_hook", "_compiled_call_impl"):
            module.__dict__.pop(bound, None)
    for layer in encoder_layers(copy):
        if "chunk_size_feed_forward" in layer.__dict__:  # the same numbers in slices, whose number must be known
            layer.__dict__["chunk_size_feed_forward"] = 0
    copy.config.return_dict = True  # what the argument says does not reach every module of transformers
    copy.set_attn_implementation("sdpa")
    type(copy).to(copy, device="cpu", dtype=dtype)  # accelerate binds another `to`, and to the user's model
    copy.eval().requires_grad_(False)
    if copy.main_input_name != "pixel_values":
        return ServedText(copy)
    masked = isinstance(copy, (ViTForMaskedImageModeling, DeiTForMaskedImageModeling))
    return ServedMaskedImages(copy) if masked else ServedImages(copy)


@contextmanager
def inference() -> Iterator[None]:
    """Run without gradients, and without the autocast that the caller may be in, which would be traced."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def random_inputs(forward: Served, batch_size: int, length: int) -> Inputs:
    """Return inputs of a model that differ from row to row, with padding; the same at every call.

    Args:
        forward (`Served`): Decides which inputs, their sizes and their dtype.
        batch_size (`int`): Rows.
        length (`int`): Tokens in each row of text, padding included.
    """
    config: Any = forward.model.config
    draw = torch.Generator().manual_seed(0)
    if isinstance(forward, ServedText):
        choices = (batch_size + 1,) if isinstance(forward.model, BertForMultipleChoice) else ()
        shape = (batch_size, *choices, length)
        held = torch.randint(1, length + 1, shape[:-1], generator=draw)
        held.view(-1)[0] = length
        return {
            "input_ids": torch.randint(0, config.vocab_size, shape, generator=draw),
            "attention_mask": (torch.arange(length) < held[..., None]).long(),
            "token_type_ids": torch.randint(0, config.type_vocab_size, shape, generator=draw),
        }
    height, width = _pair(config.image_size)
    pixels = torch.randn(batch_size, config.num_channels, height, width, generator=draw)
    inputs = {"pixel_values": pixels.to(forward.model.dtype)}
    if isinstance(forward, ServedMaskedImages):
        patch_height, patch_width = _pair(config.patch_size)
        num_patches = (height // patch_height) * (width // patch_width)
        inputs["bool_masked_pos"] = torch.rand(batch_size, num_patches, generator=draw) < 0.5
    return inputs


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def dynamic_shapes(forward: Served, inputs: Inputs) -> dict[str, dict[int, Any]]:
    """Return the names and the ranges of the sizes of each input that may differ from call to call."""
    batch_size = Dim("batch_size", min=1)
    shapes: dict[str, dict[int, Any]] = {name: {0: batch_size} for name in inputs}
    if isinstance(forward, ServedText):
        longest = forward.model.config.max_position_embeddings
        length = Dim("sequence_length", min=1, max=longest) if longest > 1 else None
        choices = Dim("num_choices", min=1)
        for name, value in inputs.items():
            shapes[name][value.ndim - 1] = length
            if value.ndim == 3:
                shapes[name][1] = choices
    return shapes


def traced(forward: Served) -> tuple[ExportedProgram, dict[str, dict[int, Any]]]:
    """Return the program of a forward pass, and which of its sizes are dynamic."""
    inputs = random_inputs(forward, TRACED_BATCH_SIZE, min(TRACED_LENGTH, _longest(forward)))
    shapes = dynamic_shapes(forward, inputs)
    with inference():
        program = torch.export.export(forward, (), inputs, dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # names folders of this machine, and would be in every file
    return program, shapes


def _longest(forward: Served) -> int:
    return forward.model.config.max_position_embeddings if isinstance(forward, ServedText) else 1


def checks(forward: Served) -> Iterator[tuple[Inputs, Inputs]]:
    """Yield inputs of sizes that were not traced, and the outputs of the model for them."""
    longest = min(LONGEST_CHECKED, _longest(forward))
    for batch_size, length in zip(CHECKED_BATCH_SIZES, (1, longest), strict=True):
        inputs = random_inputs(forward, batch_size, length)
        with inference():
            expected = forward(**inputs)
        yield inputs, expected


def largest_difference(forward: Served, run: Callable[[Inputs], dict[str, Any]]) -> float:
    """Return how far what `run` returns is from the outputs of the model, over all [`checks`].

    The absolute difference, divided by the largest output of that name where it is above 1.

    Raises:
        ExportError: It fails, an output is missing or has another shape, or no number comes out.
    """
    largest = 0.0
    for inputs, expected in checks(forward):
        try:
            found = run(inputs)
        except Exception as error:  # those of onnxruntime have no base class of their own
            sizes = {name: tuple(value.shape) for name, value in inputs.items()}
            raise ExportError(f"the exported model must take every size; it fails for {sizes}: {error}") from error
        shapes = {name: tuple(value.shape) for name, value in expected.items()}
        if {name: tuple(value.shape) for name, value in found.items()} != shapes:
            raise ExportError(
                f"the exported model must return {shapes}; got { {k: v.shape for k, v in found.items()} }"
            )
        for name, value in expected.items():
            wanted, got = value.double().numpy(), np.asarray(torch.as_tensor(found[name]).double())
            difference = float(np.abs(got - wanted).max() / max(1.0, np.abs(wanted).max()))
            if not np.isfinite(difference):
                raise ExportError(f"the outputs must be finite numbers, for random inputs too; {name} is not")
            largest = max(largest, difference)
    return largest


@contextmanager
def quiet_leaf_specs() -> Iterator[None]:
    """Silence what torch says about itself when it copies a program: `copy` builds a class that torch deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield
