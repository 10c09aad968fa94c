"""The same network in numbers of fewer bits: bfloat16, or int8 by torchao."""

import copy
import tempfile
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel, TorchAoConfig

from ..depth.layers import layers_of, prefix_view, truncate
from ..modeling.injected import adapter_configs
from ..support.wrappers import unwrap

PRECISIONS = ("bf16", "int8")


def quantize(model: Any, precision: str = "int8") -> PreTrainedModel:
    """Return a copy of `model` in bfloat16, or with its linear weights in int8.

    `int8` is torchao's dynamic quantisation by the way that transformers has for it: the weights of linear modules are
    int8 with one scale for each output, and what they read is rounded to int8 with one scale for each token. The copy
    is read, cut, measured and saved as any other model, and the Auto class loads its checkpoint where torchao is.

    Args:
        model (`PreTrainedModel`): A model of acn_hf, or any other of transformers that has one stack of layers; it is
            left as it is. What `torch.compile` and data parallelism return is taken for the model inside. For `int8`
            its checkpoint is written to a temporary folder.
        precision (`"int8"` or `"bf16"`, *optional*, defaults to `"int8"`): `bf16` makes every weight bfloat16; pass
            inputs of that dtype (images) too.

    Returns:
        `PreTrainedModel`: Of the same class, on the same device and in the same mode. Heads that give a logit for each
        token are not quantised to int8, nor are embeddings, norms, biases, convolutions and the `Conv1D` of GPT-2.

    Raises:
        DepthError: The model has no stack of layers, or several.
        ImportError: torchao is missing, for `int8`.
        TypeError: `model` is not one of transformers, its weights are sharded over processes, it holds adapters, or it
            is quantised already; for `int8`, its layers have no linear modules that torchao knows.
        ValueError: `precision` is another.

    Source: https://github.com/pytorch/ao, `Int8DynamicActivationInt8WeightConfig`.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, quantize

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    >>> quantize(model, "bf16").dtype
    torch.bfloat16

    ```
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    inner = unwrap(model)
    if adapter_configs(inner):
        raise TypeError(
            f"a model must hold no adapters to be quantised; got {', '.join(adapter_configs(inner))}: "
            "acn_hf.truncate(model, depth, merge_adapter=True) puts them into the weights"
        )
    if getattr(inner.config, "quantization_config", None) is not None:
        raise TypeError(f"a model must be quantised once; got a quantised {type(inner).__name__}")
    if precision == "bf16":
        return _to_bfloat16(inner)
    return _to_int8(inner)


def _to_bfloat16(model: PreTrainedModel) -> PreTrainedModel:
    """Return what would be read from a checkpoint in bfloat16: what is not stored may be of more bits."""
    rounded = truncate(model, len(layers_of(model)))
    with torch.device("meta"):
        read = type(model)._from_config(copy.deepcopy(model.config), dtype=torch.bfloat16)
    dtypes = {name: buffer.dtype for name, buffer in read.named_buffers()}
    # Frequencies of rotary embeddings, for instance, stay in float32 wherever a checkpoint is read.
    kept = {name: buffer for name, buffer in rounded.named_buffers() if dtypes.get(name) == buffer.dtype}
    rounded.to(torch.bfloat16)
    for name, buffer in kept.items():
        module, _, own = name.rpartition(".")
        rounded.get_submodule(module)._buffers[own] = buffer
    return rounded


def _to_int8(model: PreTrainedModel) -> PreTrainedModel:
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig
    except ImportError as error:
        raise ImportError("int8 needs torchao: pip install 'acn-hf[quantization]'") from error
    name, layers = type(model).__name__, layers_of(model)
    if layers and not any(isinstance(module, nn.Linear) for module in layers.modules()):
        raise TypeError(f"int8 is for torch.nn.Linear, and the layers of {name} have none")
    with tempfile.TemporaryDirectory() as folder:
        # A view has a config of its own, into which to write what class this is; that of the model others may hold.
        # Of formats of older releases, in which several weights are one, those of some classes are not read in int8.
        prefix_view(model, len(layers)).save_pretrained(folder, save_original_format=False)
        try:
            quantized, info = type(model).from_pretrained(
                folder,
                dtype=model.dtype,
                attn_implementation=model.config._attn_implementation,
                quantization_config=TorchAoConfig(Int8DynamicActivationInt8WeightConfig()),
                output_loading_info=True,
            )
        except RuntimeError as error:  # what transformers raises if torchao fails; it has logged the weights
            raise TypeError(f"transformers {transformers.__version__} cannot read {name} in int8: {error}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise TypeError(f"transformers {transformers.__version__} cannot read {name} in int8: it loses {missing}")
    quantized.config._name_or_path = model.config._name_or_path
    return quantized.to(model.device).train(model.training)
