"""Every depth of a model, for users: its logits from one pass, the model that is cut there, and its checkpoint.

What `torch.compile`, data parallelism and PEFT wrap around a model is looked through.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from ..modeling.checkpoint import weight_files, written_beside
from ..modeling.depth import replace_submodule
from ..modeling.injected import adapter_configs, remove_adapters
from ..support.sentence_models import copy_with, inner_model, transformer_inside
from ..support.weights import absent_weights
from ..support.wrappers import is_peft_model, is_sentence_model, unwrap, unwrap_parallel
from . import layers, outputs
from .self_check import check_by_example
from .tuners import check_can_be_cut, fit_tuner

if TYPE_CHECKING:
    from peft import PeftModel


def truncate(model: Any, depth: int, *, merge_adapter: bool = False) -> Any:
    """Return the first `depth` layers of `model` as a new, independent model.

    Its outputs equal those of `model` at that depth bit for bit; with merged adapters, up to rounding. `model` is left
    as it is.

    Args:
        model (`PreTrainedModel`, `PeftModel`, `SentenceTransformer` or `CrossEncoder`): A model of acn_hf, or any other
            of transformers that has one stack of layers, with any head or none; or one of sentence-transformers around
            such a model. What `torch.compile` and data parallelism return is taken for the model inside.
        depth (`int`): Number of layers to keep, in `[0, L]`. Depth 0 is the embeddings alone.
        merge_adapter (`bool`, *optional*, defaults to `False`):
            Whether what the active adapters learned goes into the weights, which makes an adapted model an ordinary
            one. If not, the adapters of the layers that stay are kept.

    Returns:
        Of the same class, or of that of the adapted model if merged. On the same device, in the same dtype and the same
        train or eval mode, without gradients. A `SentenceTransformer` keeps its other modules, prompts, similarity and
        dimension, and begins a new model card.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the layers of the model are not a plain stack.
        TypeError: `model` is not one of transformers, or was adapted by prompts, which are not in its layers; or the
            first module of a `SentenceTransformer` is no transformer.
        ValueError: Its adapters are of a type that cannot be cut (FROD, UniLoRA without `save_indices`), or that cannot
            be merged (`layer_replication`).

    Example:

    ```python
    >>> from acn_hf import truncate
    >>> from transformers import BertConfig, BertModel

    >>> model = BertModel(BertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4))
    >>> truncate(model, 2).config.num_hidden_layers
    2

    ```
    """
    outer = unwrap_parallel(model)
    if is_sentence_model(outer):
        path, transformer = transformer_inside(outer)
        return copy_with(outer, path, truncate(transformer, depth, merge_adapter=merge_adapter))
    inner = unwrap(outer)
    check_by_example(inner, depth)
    if is_peft_model(outer) and not merge_adapter:
        return _truncate_peft_model(outer, inner, depth)
    short = layers.truncate(inner, depth)
    if merge_adapter and adapter_configs(short):
        remove_adapters(short, merge=True)
    return short


def view_at(model: Any, depth: int) -> Any:
    """Return a view of the first layers of a model, whose modules around them are those of the model itself.

    Args:
        model (`PreTrainedModel`, `PeftModel`, `SentenceTransformer` or `CrossEncoder`): Is left as it is.
        depth (`int`): In `[0, L]`.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the layers of the model are not a plain stack.
    """
    outer, short = unwrap_parallel(model), layers.prefix_view(inner_model(model), depth)
    return replace_submodule(outer, transformer_inside(outer)[0], short) if is_sentence_model(outer) else short


def _truncate_peft_model(model: "PeftModel", inner: PreTrainedModel, depth: int) -> "PeftModel":
    """Return a copy of a `PeftModel` around the first layers of the model inside it."""
    if depth < len(layers.layers_of(inner)):
        check_can_be_cut(inner)
    short, configs = layers.prefix(inner, depth)
    view = replace_submodule(model, "base_model.model", short)
    view.base_model.peft_config = short.peft_config
    fit_tuner(view.base_model, short)
    return layers.independent_copy(view, configs)


def save_truncated(model: Any, folder: str | os.PathLike, depth: int) -> None:
    """Write the checkpoint of the first `depth` layers of `model`, without a copy of them in memory.

    The files appear when all are complete. What is written loads like every checkpoint of the class of `model`.

    Args:
        model (`PreTrainedModel` or `PeftModel`): See [`truncate`]; of a `PeftModel` the adapters are written.
        folder (`str` or `os.PathLike`): The folder to write to.
        depth (`int`): Number of layers to write, in `[0, L]`.

    Returns:
        `None`

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, or the layers of the model are not a plain stack.
        NotADirectoryError: `folder` is a file.
        TypeError: `model` is not one of transformers, or was adapted by prompts, which are not in its layers.
        ValueError: The model is on the meta device, or accelerate offloaded it without a `device_map`, or its adapters
            are of a type that cannot be cut (FROD, UniLoRA without `save_indices`).

    Example:

    ```python
    >>> import tempfile
    >>> from acn_hf import save_truncated
    >>> from transformers import AutoModel, BertConfig, BertModel

    >>> model = BertModel(BertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_truncated(model, folder, depth=2)
    ...     AutoModel.from_pretrained(folder).config.num_hidden_layers
    2

    ```
    """
    inner = unwrap(model)
    _check_can_be_saved(inner)
    check_by_example(inner, depth)
    short = truncate(model, depth) if is_peft_model(unwrap_parallel(model)) else layers.prefix_view(inner, depth)
    with written_beside(Path(folder), stale=weight_files(None)) as beside:
        short.save_pretrained(beside)


def _check_can_be_saved(model: PreTrainedModel) -> None:
    """Raise `ValueError` if weights hold no numbers; what `device_map` offloaded transformers brings back by itself."""
    places = set(map(str, getattr(model, "hf_device_map", {}).values()))
    if not places & {"cpu", "disk"} and (absent := absent_weights(model)):
        raise ValueError(f"weights must be in memory to be saved; {absent}")


def depth_logits(model: Any, **inputs: Any) -> torch.Tensor:
    """Return the logits at every depth, from one pass through the layers.

    Args:
        model (`PreTrainedModel` or `PeftModel`): An ACN with a head, or any other model of transformers with logits and
            one stack of layers; adapters inside stay active. What `torch.compile` and data parallelism return is taken
            for the model inside.
        inputs: What `model` takes.

    Returns:
        `torch.Tensor` of shape `(L + 1, batch_size, ...)`: entry `k` equals the logits of `truncate(model, k)`. Of a
        class that needs a layer, the shape is `(L, batch_size, ...)`, and entry 0 is depth 1.
        For question answering the last dimension holds the start and the end logit; for pretraining these are
        the `prediction_logits`; for masked image modelling the `reconstruction`.

    Raises:
        DepthError: The layers of the model are not a plain stack.
        TypeError: `model` is not one of transformers, has no head, or was adapted by prompts, which are not in its
            layers.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, depth_logits

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> model = AcnBertForSequenceClassification(config).eval()
    >>> depth_logits(model, input_ids=torch.tensor([[1, 2, 3]])).shape
    torch.Size([5, 1, 2])

    ```
    """
    return outputs.depth_logits(unwrap(model), inputs)
