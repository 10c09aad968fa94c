"""What an exported model takes: which inputs, which of their sizes may differ from call to call, and random ones.

Nothing here knows a family. Names are those of the signature of `forward`, sizes are those of the config, and the
processor, where there is one, says what it makes.
"""

import inspect
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.export import Dim
from transformers import PreTrainedModel

from ..depth.cost import ONE_SECOND, inner_config, input_shape, longest_text, takes_choices, usual_length
from ..support.auto_classes import auto_class_for

BATCH, CHOICES, TOKENS, SAMPLES, FRAMES = "batch_size", "num_choices", "sequence_length", "num_samples", "num_frames"
"""The sizes that may differ from call to call, as they are called in ONNX."""
Inputs = dict[str, torch.Tensor]
Shapes = dict[str, tuple[str | int, ...]]
SAMPLES_PER_TOKEN, FRAMES_PER_TOKEN = ONE_SECOND // 8, 12
"""Sound that is as long as a text of 8 tokens, the length that is traced, lasts about a second."""
LONGEST_SOUND = 20
"""In tokens: 2.5 seconds."""


def input_shapes(model: PreTrainedModel, processor: Any = None) -> Shapes:
    """Return what a model takes when it serves: the shape of each input, with a name for each size that may differ.

    Args:
        model (`PreTrainedModel`): Its main input, and what of masks, token types and boxes its `forward` names.
        processor (*optional*): Token types and masks that it does not make are left out. It also says how large the
            images are, and whether sounds have a mask.

    Raises:
        ValueError: The config does not say what the main input looks like.
    """
    main, named = model.main_input_name, inspect.signature(type(model).forward).parameters
    made = getattr(processor, "model_input_names", None)
    if main == "input_ids":
        # A size of 1 cannot be dynamic, and there is none else where one token is all that fits.
        length = 1 if longest_text(model) == 1 else TOKENS
        rows: tuple[str | int, ...] = (BATCH, CHOICES, length) if takes_choices(model) else (BATCH, length)
        config = inner_config(model)
        optional = {
            "attention_mask": made is None or "attention_mask" in made,
            "token_type_ids": getattr(config, "type_vocab_size", 0) > 0 and (made is None or "token_type_ids" in made),
        }
        shapes: Shapes = {main: rows} | {name: rows for name, wanted in optional.items() if wanted and name in named}
        if "bbox" in named and hasattr(config, "max_2d_position_embeddings"):
            shapes["bbox"] = (*rows, 4)
        return shapes
    if main == "pixel_values":
        *others, height, width = cast(tuple[int, ...], input_shape(model, image_size(processor)))
        shapes = {main: (BATCH, *others, height, width)}
        gives_features = auto_class_for(type(model)) in ("AutoModel", "AutoBackbone")
        if "bool_masked_pos" in named and not gives_features:  # which are those of whole images
            patch_height, patch_width = _pair(inner_config(model).patch_size)
            shapes["bool_masked_pos"] = (BATCH, (height // patch_height) * (width // patch_width))
        return shapes
    shape = input_shape(model)
    any_length = SAMPLES if len(shape) == 1 else FRAMES
    shapes = {main: (BATCH, *(any_length if size is None else size for size in shape))}
    extractor = getattr(processor, "feature_extractor", processor)
    if None in shape and "attention_mask" in named and getattr(extractor, "return_attention_mask", False):
        shapes["attention_mask"] = (BATCH, any_length)
    return shapes


def image_size(processor: Any) -> tuple[int, int] | None:
    """Return the height and the width of the images that a processor makes, or `None` where it makes several sizes."""
    processor = getattr(processor, "image_processor", processor)
    cropped = getattr(processor, "do_center_crop", False)
    size = getattr(processor, "crop_size" if cropped else "size", None)
    if size is None or not (cropped or getattr(processor, "do_resize", False)):
        return None
    if isinstance(size, int):
        return size, size
    height, width = size.get("height"), size.get("width")
    return None if height is None or width is None else (height, width)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def dynamic_shapes(model: PreTrainedModel, shapes: Shapes) -> dict[str, dict[int, Any]]:
    """Return the ranges of the sizes of each input that may differ from call to call, as `torch.export` takes them."""
    longest = longest_text(model)
    ranges: dict[str, Any] = {name: Dim(name, min=1) for name in (BATCH, CHOICES)}
    ranges[TOKENS] = Dim.DYNAMIC if longest in (None, 1) else Dim(TOKENS, min=1, max=longest)
    # How long a sound must at least be follows from the convolutions that read it, and torch finds it.
    ranges |= {SAMPLES: Dim.DYNAMIC, FRAMES: Dim.DYNAMIC}
    return {name: {axis: ranges[size] for axis, size in axes.items()} for name, axes in names_of_sizes(shapes).items()}


def names_of_sizes(shapes: Shapes) -> dict[str, dict[int, str]]:
    """Return the names of the sizes of each input that may differ from call to call."""
    return {
        name: {axis: size for axis, size in enumerate(shape) if isinstance(size, str)} for name, shape in shapes.items()
    }


def longest_checked(model: PreTrainedModel) -> int:
    """Return how many tokens are tried, and what stands for the length of a sound."""
    return usual_length(model) if model.main_input_name == "input_ids" else LONGEST_SOUND


def random_inputs(model: PreTrainedModel, shapes: Shapes, batch_size: int, length: int) -> Inputs:
    """Return inputs of a model that differ from row to row; the same at every call.

    Texts have padding on the right and, in every other row, on the left.

    Args:
        model (`PreTrainedModel`): Decides which numbers there may be, and their dtype.
        shapes (`Shapes`): See [`input_shapes`].
        batch_size (`int`): Rows.
        length (`int`): Tokens in each row of text, padding included. Sounds are as long as one says it.
    """
    sizes: dict[str, int] = {BATCH: batch_size, CHOICES: batch_size + 1, TOKENS: length}
    sizes |= {SAMPLES: length * SAMPLES_PER_TOKEN, FRAMES: length * FRAMES_PER_TOKEN}
    config: Any = inner_config(model)
    draw = torch.Generator().manual_seed(0)
    drawn: Inputs = {}
    for name, axes in shapes.items():
        shape = [sizes[size] if isinstance(size, str) else size for size in axes]
        if name == "input_ids":
            drawn[name] = torch.randint(0, config.vocab_size, shape, generator=draw)
        elif name == "token_type_ids":
            drawn[name] = torch.randint(0, config.type_vocab_size, shape, generator=draw)
        elif name == "attention_mask":
            drawn[name] = _mask(shape, draw, is_text="input_ids" in shapes)
        elif name == "bbox":  # left, top, right, bottom
            corners = torch.randint(0, config.max_2d_position_embeddings, (2, *shape[:-1], 2), generator=draw)
            drawn[name] = torch.cat([corners.amin(0), corners.amax(0)], -1)
        elif name == "bool_masked_pos":
            drawn[name] = torch.rand(shape, generator=draw) < 0.5
        else:
            drawn[name] = torch.randn(shape, generator=draw).to(model.dtype)
    padding: Any = getattr(config, "pad_token_id", None)
    if "input_ids" in drawn and "attention_mask" in drawn and padding in range(config.vocab_size):
        drawn["input_ids"][drawn["attention_mask"] == 0] = padding  # some models count positions from it
    return drawn


def _mask(shape: Sequence[int], draw: torch.Generator, is_text: bool) -> torch.Tensor:
    """Return a mask whose first row is whole. Of a sound at least half is left, and its padding is on the right."""
    *rows, length = shape
    held = torch.randint(1 if is_text else (length + 1) // 2, length + 1, rows, generator=draw)
    held.view(-1)[0] = length
    mask = (torch.arange(length) < held[..., None]).long()
    if is_text:
        mask[1::2] = mask[1::2].flip(-1)
    return mask


def read_positions(inputs: Inputs) -> torch.Tensor | None:
    """Return which tokens anybody reads, or `None` where all are: those of the padding before a text see nothing.

    Attention over nothing has no value, and every runtime has one of its own for it.
    """
    if "input_ids" not in inputs or "attention_mask" not in inputs:
        return None
    return inputs["attention_mask"].cumsum(-1) > 0
