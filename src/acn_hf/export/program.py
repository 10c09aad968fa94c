"""One forward pass of a model as a program that needs no code of ours, and how far its outputs are from the model's."""

import inspect
import io
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from transformers import PreTrainedModel

from ..depth.cost import example_inputs
from ..depth.every_depth import truncate
from ..depth.layers import is_acn, layers_of
from ..depth.self_check import check_once
from ..modeling.depth import DepthError, check_depth
from ..support.wrappers import unwrap
from .inputs import Inputs, Shapes, dynamic_shapes, input_shapes, longest_checked, random_inputs, read_positions

TRACED_BATCH_SIZE = 2
"""A size of 1 would be taken for a constant."""
CHECKED_BATCH_SIZES = (1, 7)
"""Other than the traced one, so that a size that was taken for a constant shows."""
TRACED_LENGTH = 8


class ExportError(RuntimeError):
    """What was exported does not compute what the model computes, or cannot be run."""


class Served(nn.Module):
    """The forward pass of a model, from named tensors to a dictionary of named tensors.

    A plain dictionary, since an output class of transformers could not be loaded without transformers. `loss` is left
    out, which nobody serves, and what is no tensor.

    Args:
        model (`PreTrainedModel`): Is run without a cache.
        shapes (`Shapes`): Its inputs; see [`input_shapes`].
        depth (`int`): How many layers it has.
    """

    def __init__(self, model: PreTrainedModel, shapes: Shapes, depth: int):
        super().__init__()
        self.model, self.shapes, self.depth = model, shapes, depth
        named = inspect.signature(model.forward).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values())
        asked = {"return_dict": True, "output_hidden_states": False, "output_attentions": False}
        self.options = {name: value for name, value in asked.items() if takes_any or name in named}
        if "use_cache" in named:
            self.options["use_cache"] = False

        def forward(**inputs: torch.Tensor) -> Inputs:
            outputs = model(**inputs, **self.options)
            return {name: value for name, value in outputs.items() if name != "loss" and torch.is_tensor(value)}

        # The names of a program are those of the arguments.
        kind = inspect.Parameter.KEYWORD_ONLY
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in shapes]
        )
        self.forward = forward


def served(model: Any, depth: int | None, dtype: torch.dtype | None = None, processor: Any = None) -> Served:
    """Return the forward pass of a copy of the first `depth` layers, on the CPU, for inference; `model` is left alone.

    Args:
        model (`PreTrainedModel` or `PeftModel`): What [`truncate`] takes; adapters are merged.
        depth (`int`, *optional*): Defaults to all layers.
        dtype (`torch.dtype`, *optional*): Of the copy. Defaults to that of the model.
        processor (*optional*): Says which inputs it makes, and how large its images are.

    Raises:
        DepthError: The model does not have this depth, or its layers are not a plain stack.
        ExportError: The model does not run on inputs as its signature, its config and the processor describe them.
        TypeError: `model` is not one of transformers, its weights are sharded, or it was adapted by prompts.
        ValueError: Some of the weights are not in memory, or nothing says how large the inputs are.
    """
    inner = unwrap(model)
    absent = next((name for name, weight in inner.named_parameters() if weight.is_meta), None)
    if absent is not None:
        raise ValueError(f"all weights of the model must be in memory to be exported; {absent} is on the meta device")
    shapes, depth = input_shapes(inner, processor), _checked_depth(inner, depth)
    copy = truncate(model, depth, merge_adapter=True)
    for module in copy.modules():
        # Hooks watch the passes of the user's model, and would be called with tensors without values. A `forward` bound
        # to the instance is accelerate's, which moves weights and inputs between devices, and a call may be compiled.
        module.__dict__.update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
        for bound in ("forward", "_old_forward", "_hf_hook", "_compiled_call_impl"):
            module.__dict__.pop(bound, None)
        if "chunk_size_feed_forward" in module.__dict__:  # the same numbers in slices, whose number must be known
            module.__dict__["chunk_size_feed_forward"] = 0
    copy.config.return_dict = True  # what the argument says does not reach every module of transformers
    copy.set_attn_implementation("sdpa" if copy._supports_sdpa else "eager")
    if copy._can_set_experts_implementation():
        copy.set_experts_implementation("batched_mm")  # made of operators that torch has; the others need transformers
    type(copy).to(copy, device="cpu", dtype=dtype)  # accelerate binds another `to`, and to the user's model
    copy.eval().requires_grad_(False)
    forward = Served(copy, shapes, depth)
    try:
        with inference():
            found = forward(**_traced_inputs(forward))
    except Exception as error:  # each class fails in its own way
        raise ExportError(f"{type(copy).__name__} must run on {shapes} to be exported: {error}") from error
    if not found:
        raise ExportError(f"a model must return tensors to be exported; those of {type(copy).__name__} lie in others")
    return forward


def _checked_depth(model: PreTrainedModel, depth: int | None) -> int:
    """Return the depth that is asked for, if it is one at which the class of the model runs."""
    number = len(layers_of(model))
    depth = number if depth is None else check_depth(depth, number)
    if depth == 0 and not is_acn(model) and check_once(model, example_inputs(model)) > 0:
        raise DepthError(f"depth must lie in [1, {number}] for {type(model).__name__}, which needs a layer; got 0")
    return depth


@contextmanager
def inference() -> Iterator[None]:
    """Run without gradients, and without the autocast that the caller may be in, which would be traced."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


def traced(forward: Served) -> ExportedProgram:
    """Return the program of a forward pass.

    Raises:
        ExportError: `torch.export` cannot make one, or it would need transformers.
    """
    inputs = _traced_inputs(forward)
    ranges = dynamic_shapes(forward.model, forward.shapes)
    printed = io.StringIO()  # torch prints the whole graph when it cannot go on, besides what it says in the error
    with inference(), cannot("torch.export", forward), redirect_stderr(printed):
        program = torch.export.export(forward, (), inputs, dynamic_shapes=ranges, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # names folders of this machine, and would be in every file
            if getattr(node.target, "namespace", None) == "transformers":
                name = type(forward.model).__name__
                raise ExportError(f"an exported model must run without transformers; {name} calls {node.target}")
    return program


def _traced_inputs(forward: Served) -> Inputs:
    length = min(TRACED_LENGTH, longest_checked(forward.model))
    return random_inputs(forward.model, forward.shapes, TRACED_BATCH_SIZE, length)


@contextmanager
def cannot(exporter: str, forward: Served) -> Iterator[None]:
    """Say what an exporter cannot export, and why: each error of a block becomes one of ours."""
    try:
        yield
    except Exception as error:  # they have no base class of their own
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = re.sub(r"For more information, run with \S+", "", str(first)).strip().split("\n\n")[0]
        raise ExportError(
            f"{exporter} of torch {torch.__version__} cannot export {type(forward.model).__name__}: "
            f"{' '.join(reason.split())}"
        ) from error


def checks(forward: Served) -> Iterator[tuple[Inputs, Inputs]]:
    """Yield inputs of sizes that were not traced, and the outputs of the model for them."""
    longest = longest_checked(forward.model)
    for batch_size, length in zip(CHECKED_BATCH_SIZES, (1, longest), strict=True):
        inputs = random_inputs(forward.model, forward.shapes, batch_size, length)
        with inference():
            expected = forward(**inputs)
        yield inputs, expected


def largest_difference(forward: Served, run: Callable[[Inputs], dict[str, Any]]) -> float:
    """Return how far what `run` returns is from the outputs of the model, over all [`checks`].

    The absolute difference, divided by the largest output of that name where it is above 1. What a causal model says
    of the padding before a text is left out: see [`read_positions`].

    Raises:
        ExportError: It fails, an output is missing or has another shape, or no number comes out.
    """
    largest = 0.0
    for inputs, expected in checks(forward):
        try:
            found = run(inputs)
        except Exception as error:  # those of onnxruntime have no base class of their own
            raise ExportError(
                f"the exported model must take every size; it fails for {_sizes(inputs)}: {error}"
            ) from error
        if _sizes(found) != _sizes(expected):
            raise ExportError(f"the exported model must return {_sizes(expected)}; got {_sizes(found)}")
        read = read_positions(inputs)
        for name, value in expected.items():
            wanted, got = value.double().numpy(), np.asarray(torch.as_tensor(found[name]).double())
            if read is not None and wanted.shape[: read.ndim] == tuple(read.shape):
                wanted, got = wanted[read.numpy()], got[read.numpy()]
            difference = float(np.abs(got - wanted).max() / max(1.0, np.abs(wanted).max()))
            if not np.isfinite(difference):
                raise ExportError(f"the outputs must be finite numbers, for random inputs too; {name} is not")
            largest = max(largest, difference)
    return largest


def _sizes(tensors: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


@contextmanager
def quiet_leaf_specs() -> Iterator[None]:
    """Silence what torch says about itself when it copies a program: `copy` builds a class that torch deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield
