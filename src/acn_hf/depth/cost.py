"""What a model costs: parameters, FLOPs, bytes, latency."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..modeling.depth import DepthError
from ..support.auto_classes import auto_class_for
from ..support.eval_mode import evaluating
from ..support.records import Record
from ..support.sentence_models import inner_model
from ..support.weights import execution_device
from ..support.wrappers import is_sentence_model
from .layers import is_acn
from .stack import find_stack

USUAL_LENGTH = 128
"""Tokens in a text of which nothing else is known."""
EXAMPLE_INPUTS = ("input_ids", "pixel_values", "input_values", "input_features")
"""The main inputs that an example can be made of."""
ONE_SECOND = 16_000
"""Samples in a second of sound, as speech models take it."""
FRAMES_IN_ONE_SECOND = 100
"""Frames in a second of a spectrogram of speech."""


@dataclass(frozen=True)
class Cost(Record):
    """The cost of one forward pass, and of keeping the model.

    Args:
        num_parameters (`int`): Tied ones count once.
        size_bytes (`int`): Weights of the checkpoint on disk; tied ones are stored once.
        flops (`int`): Floating-point operations of one forward pass, two for each multiplication with addition.
        latency_ms (`float`): Median over the repeats.
        latency_spread_ms (`float`): Third minus first quartile over the repeats.
        batch_size (`int`): Examples in the forward pass.
        device (`str`): Where it ran.
        dtype (`str`): Precision of the weights.
    """

    num_parameters: int
    size_bytes: int
    flops: int
    latency_ms: float
    latency_spread_ms: float
    batch_size: int
    device: str
    dtype: str


def measure_cost(
    model: Any,
    inputs: dict[str, torch.Tensor] | None = None,
    *,
    batch_size: int = 1,
    warmup: int = 3,
    repeats: int = 20,
) -> Cost:
    """Measure what one forward pass costs, in eval mode and without gradients.

    Args:
        model (`PreTrainedModel`, `SentenceTransformer` or `CrossEncoder`): A model of acn_hf, or an upstream one.
        inputs (`dict`, *optional*): What the model takes. Defaults to an image of the config's size, or to a text of
            128 tokens (fewer if the model takes fewer).
        batch_size (`int`, *optional*, defaults to 1): Examples in the default inputs.
        warmup (`int`, *optional*, defaults to 3): Passes that are not timed.
        repeats (`int`, *optional*, defaults to 20): Passes that are timed, at least 2.

    Returns:
        `Cost`: FLOPs are what torch counts: matrix products of floating-point numbers, convolutions and attention;
        products of integers, those of a quantised model, are not among them.

    Raises:
        ValueError: `repeats` is below 2, or `batch_size` below 1.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, measure_cost

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    >>> measure_cost(model).num_parameters == model.num_parameters()
    True

    ```
    """
    if repeats < 2 or warmup < 0 or batch_size < 1:
        raise ValueError(
            f"repeats must be >= 2, warmup >= 0 and batch_size >= 1; got {repeats}, {warmup} and {batch_size}"
        )
    inputs = example_inputs(model, batch_size) if inputs is None else inputs
    inputs = {name: value.to(execution_device(model)) for name, value in inputs.items()}
    with evaluating(model):
        flops = _count_flops(model, inputs)
        times = [timed(model, inputs) for _ in range(warmup + repeats)][warmup:]
    quartiles = statistics.quantiles(times, n=4)
    return Cost(
        num_parameters=_num_parameters(model),
        size_bytes=_stored_bytes(model),
        flops=flops,
        latency_ms=statistics.median(times),
        latency_spread_ms=quartiles[2] - quartiles[0],
        batch_size=len(next(iter(inputs.values()))),
        device=str(execution_device(model)),
        dtype=str(_network(model).dtype).removeprefix("torch."),
    )


def example_inputs(model: Any, batch_size: int = 1) -> dict[str, torch.Tensor]:
    """Return inputs of the model's own size: zeros for images, videos and sound, or tokens.

    A text has 128 tokens, fewer if the model takes fewer. Sound is a spectrogram of the config's size, or a second of
    samples or frames. A model of sentence-transformers is given a mask of attention too, which pooling reads.

    Raises:
        ValueError: The config does not say what the main input looks like.
    """
    if is_sentence_model(model):
        tokens = example_inputs(inner_model(model), batch_size)["input_ids"][..., : model.max_seq_length]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    name = model.main_input_name
    if name != "input_ids":
        any_length = ONE_SECOND if name == "input_values" else FRAMES_IN_ONE_SECOND
        one = (any_length if size is None else size for size in input_shape(model))
        return {name: torch.zeros(batch_size, *one, device=execution_device(model), dtype=model.dtype)}
    choices = [2] if takes_choices(model) else []
    shape = (batch_size, *choices, usual_length(model))
    return {name: torch.ones(shape, dtype=torch.long, device=execution_device(model))}


def input_shape(model: PreTrainedModel, image_size: tuple[int, int] | None = None) -> tuple[int | None, ...]:
    """Return the shape of one image, video or sound that a model takes; `None` stands for any length.

    Args:
        model (`PreTrainedModel`): Its main input is not a text.
        image_size (`tuple[int, int]`, *optional*): Height and width of images. Defaults to those of the config.

    Raises:
        ValueError: The config does not say what the main input looks like.
    """
    config, main = inner_config(model), model.main_input_name
    try:
        if main == "pixel_values":
            size = image_size or config.image_size
            height, width = (size, size) if isinstance(size, int) else size
            frames = [config.num_frames] if hasattr(config, "num_frames") else []
            return (*frames, config.num_channels, height, width)
        if main == "input_values":
            return (config.max_length, config.num_mel_bins) if hasattr(config, "num_mel_bins") else (None,)
        if main == "input_features" and hasattr(config, "feature_projection_input_dim"):
            return None, config.feature_projection_input_dim
        if main == "input_features":  # of a fixed number of positions, where the first convolutions halve the frames
            fixed = hasattr(config, "max_source_positions")
            return (config.num_mel_bins, 2 * config.max_source_positions) if fixed else (None, config.num_mel_bins)
    except AttributeError as error:
        raise ValueError(f"{type(model).__name__} takes {main}, whose size its config must say: {error}") from error
    raise ValueError(
        f"an example can be made of {', '.join(EXAMPLE_INPUTS)}; {type(model).__name__} takes {main}, of which its "
        "config says no size"
    )


def longest_text(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model takes as its config says it, or `None` where it does not."""
    longest = getattr(inner_config(model), "max_position_embeddings", None)
    if not isinstance(longest, int) or longest <= 0:  # some say -1 for any number
        return None
    return longest - _places_of_padding(model, longest)


def _places_of_padding(model: PreTrainedModel, number: int) -> int:
    """Return how many of the positions no token has: in some families they are counted from after that of padding."""
    words = model.get_input_embeddings()
    tables = (part for part in model.modules() if isinstance(part, torch.nn.Embedding) and part is not words)
    padding = (table.padding_idx for table in tables if table.num_embeddings == number)
    return max((place + 1 for place in padding if place is not None), default=0)


def usual_length(model: PreTrainedModel) -> int:
    """Return the length of a text that a model surely takes: 128 tokens, or fewer.

    A model that is not an ACN may need room for other things than tokens among its positions: its texts are at most
    half as long as the config says.
    """
    longest = longest_text(model)
    if longest is None:
        return USUAL_LENGTH
    return min(USUAL_LENGTH, longest if is_acn(model) else max(longest // 2, 1))


def takes_choices(model: PreTrainedModel) -> bool:
    """Return whether each example of a model is several texts, of which it chooses one."""
    return auto_class_for(type(model)) == "AutoModelForMultipleChoice"


def inner_config(model: PreTrainedModel) -> Any:
    """Return the config that describes the inputs: of a model that holds several, the one above its layers."""
    try:
        return model.config if is_acn(model) else find_stack(model).config
    except DepthError:
        return model.config


def _network(model: Any) -> PreTrainedModel:
    return inner_model(model) if is_sentence_model(model) else model


def _num_parameters(model: Any) -> int:
    if not is_sentence_model(model):
        return model.num_parameters()
    return sum(weight.numel() for weight in model.parameters())


def _answer(model: Any, inputs: dict[str, torch.Tensor]) -> None:
    """Compute a pass; a model of sentence-transformers takes its inputs as one, and adds to them."""
    if is_sentence_model(model):
        model(dict(inputs))
    else:
        model(**inputs)


def _count_flops(model: Any, inputs: dict[str, torch.Tensor]) -> int:
    try:
        return _counted(model, inputs)
    except AssertionError:
        # The counter looks for the gradient of all that a module takes. A view of a parameter, as DeBERTa-v2 makes one,
        # has none where gradients are off.
        with torch.enable_grad():
            return _counted(model, inputs)


def _counted(model: Any, inputs: dict[str, torch.Tensor]) -> int:
    # torch counts no FLOPs of the fused attention on CPU; the plain one is made of products that it counts.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _answer(model, inputs)
    return counter.get_total_flops()


def timed(model: Any, inputs: dict[str, torch.Tensor]) -> float:
    """Return the milliseconds that one pass takes, on whatever device."""
    _synchronize(execution_device(model))
    start = time.perf_counter()
    _answer(model, inputs)
    _synchronize(execution_device(model))
    return (time.perf_counter() - start) * 1000


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _stored_bytes(model: Any) -> int:
    parts = [part for tensor in model.state_dict().values() for part in _parts(tensor)]
    # By their storage, which offloaded weights have too; all of these are at address 0.
    unique = {(part.untyped_storage()._cdata, part.storage_offset()): part for part in parts}
    return sum(part.numel() * part.element_size() for part in unique.values())


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the ordinary tensors that a quantised one is made of, or that one itself."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(tensor, name))]
