"""Cut and read models that PEFT adapted, as any other model."""

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from ..modeling import depth as plain
from ..modeling.checkpoint import check_adapter_configs
from ..modeling.injected import adapter_configs, remove_adapters
from ..support.wrappers import is_peft_model, unwrap, unwrap_parallel

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel


def lora_config(model: PreTrainedModel, **options: Any) -> "LoraConfig":
    """Return the config of a LoRA adapter for a model with a new head: the head is trained and saved with it.

    A new head has random weights, and an adapter that does not hold them is useless after loading. `modules_to_save`
    therefore names the head, and the pooler if the head reads one, which a checkpoint of masked language modelling
    does not hold. The heads for pretraining are tied to the embeddings and come with the checkpoint: they stay frozen.

    Args:
        model (`PreTrainedModel`): The ACN to adapt; it is left as it is.
        options: Fields of [`~peft.LoraConfig`]. `target_modules` defaults to the queries and values of every layer;
            `modules_to_save`, if given, replaces what stands above.

    Returns:
        `peft.LoraConfig`: For `peft.get_peft_model(model, config)` or `model.add_adapter(config)`.

    Raises:
        DepthError: `layers_to_transform` names a layer that the model does not have.
        TypeError: `model` is not an ACN, or `options` holds no field of `LoraConfig`.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertForTokenClassification, lora_config

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> adapter = lora_config(AcnBertForTokenClassification(config), r=4)
    >>> adapter.r, sorted(adapter.target_modules), adapter.modules_to_save
    (4, ['query', 'value'], ['classifier'])

    ```
    """
    from peft import LoraConfig
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    inner = unwrap(model)
    targets = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[inner.config.model_type]
    config = LoraConfig(**{"target_modules": list(targets), "modules_to_save": _new_modules(inner)} | options)
    check_adapter_configs(inner, {"new": config})
    return config


def _new_modules(model: PreTrainedModel) -> list[str] | None:
    """Return the names of the modules that a checkpoint of another head leaves random."""
    if model.base_model is model:
        return None
    heads = [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]
    if any(name.split(".")[0] in heads for name in model.all_tied_weights_keys):
        return None
    return heads if model.base_model.pooler is None else [*heads, "pooler"]


def truncate(model: Any, depth: int, *, merge_adapter: bool = False) -> Any:
    """Return the first `depth` layers of `model` as a new, independent model.

    Its outputs equal those of `model` at that depth bit for bit; with merged adapters, up to rounding. `model` is left
    as it is.

    Args:
        model (`PreTrainedModel` or `PeftModel`): A model of acn_hf, with any head or none. What `torch.compile` and
            data parallelism return is taken for the model inside.
        depth (`int`): Number of layers to keep, in `[0, L]`. Depth 0 is the embeddings alone.
        merge_adapter (`bool`, *optional*, defaults to `False`):
            Whether what the active adapters learned goes into the weights, which makes an adapted model an ordinary
            one. If not, the adapters of the layers that stay are kept.

    Returns:
        `PreTrainedModel` or `PeftModel`: Of the same class, or of that of the adapted model if merged. On the same
        device, in the same dtype and the same train or eval mode, without gradients.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`.
        TypeError: `model` is not an ACN, or was adapted by prompts, which are not in its layers.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertModel, truncate

    >>> model = AcnBertModel(AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4))
    >>> truncate(model, 2).config.num_hidden_layers
    2

    ```
    """
    inner, outer = unwrap(model), unwrap_parallel(model)
    if is_peft_model(outer) and not merge_adapter:
        return _truncate_peft_model(outer, inner, depth)
    short = plain.truncate(inner, depth)
    if merge_adapter and adapter_configs(short):
        remove_adapters(short, merge=True)
    return short


def _truncate_peft_model(model: "PeftModel", inner: PreTrainedModel, depth: int) -> "PeftModel":
    """Return a copy of a `PeftModel` around the first layers of the ACN inside it."""
    short = plain.prefix_view(inner, depth)
    view = plain.replace_submodule(model, "base_model.model", short)
    names = dict(short.named_modules())
    tuner = view.base_model
    tuner.peft_config = short.peft_config
    tuner.targeted_module_names = [name for name in tuner.targeted_module_names if name in names]
    return plain.independent_copy(view, inner, short.config)


def depth_logits(model: Any, **inputs: Any) -> torch.Tensor:
    """Return the logits at every depth, from one pass through the layers.

    Args:
        model (`PreTrainedModel` or `PeftModel`): An ACN with a head; adapters inside stay active. What `torch.compile`
            and data parallelism return is taken for the model inside.
        inputs: What `model` takes.

    Returns:
        `torch.Tensor` of shape `(L + 1, batch_size, ...)`: entry `k` equals the logits of `truncate(model, k)`.
        For question answering the last dimension holds the start and the end logit; for pretraining these are
        the `prediction_logits`; for masked image modelling the `reconstruction`.

    Raises:
        TypeError: `model` is not an ACN, has no head, or was adapted by prompts, which are not in its layers.

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
    return plain.depth_logits(unwrap(model), **inputs)
