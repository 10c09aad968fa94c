"""Adapters of PEFT for models whose head is new."""

import inspect
import re
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from ..modeling.checkpoint import check_adapter_configs
from ..support.auto_classes import auto_class_for, task_of
from ..support.wrappers import unwrap
from .layers import layers_of, layers_path

if TYPE_CHECKING:
    from peft import LoraConfig

logger = logging.get_logger(__name__)


def lora_config(model: PreTrainedModel, **options: Any) -> "LoraConfig":
    """Return the config of a LoRA adapter for a model with a new head: the head is trained and saved with it.

    A new head has random weights, and an adapter that does not hold them is useless after loading. `modules_to_save`
    therefore names the head, and the pooler if the head reads one, which a checkpoint of masked language modelling
    does not hold. The heads for pretraining come with the checkpoint: they stay frozen.

    Args:
        model (`PreTrainedModel`): The model to adapt, of acn_hf or any other of transformers that has one stack of
            layers; it is left as it is.
        options: Fields of [`~peft.LoraConfig`]. `target_modules` defaults to what peft adapts in models of this type,
            which are the queries and values of every layer as a rule; where peft does not know the type, to all linear
            modules but the head. `task_type` defaults to the one whose `AutoPeftModelFor...` reads the adapter, if
            there is one. That for question answering drops `token_type_ids` (peft 0.21); a warning says so.
            `modules_to_save`, if given, replaces what stands above.

    Returns:
        `peft.LoraConfig`: For `peft.get_peft_model(model, config)` or `model.add_adapter(config)`.

    Raises:
        DepthError: `layers_to_transform` names a layer that the model does not have, or the model has no stack of
            layers.
        TypeError: `model` is not one of transformers, or `options` holds no field of `LoraConfig`.

    Example:

    ```python
    >>> from acn_hf import AcnBertConfig, AcnBertForTokenClassification, lora_config

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> adapter = lora_config(AcnBertForTokenClassification(config), r=4)
    >>> adapter.r, sorted(adapter.target_modules), adapter.modules_to_save, adapter.task_type
    (4, ['query', 'value'], ['classifier'], 'TOKEN_CLS')

    ```
    """
    from peft import LoraConfig

    inner = unwrap(model)
    heads, is_new = _heads(inner), _is_new(inner)
    defaults: dict[str, Any] = {"target_modules": _usual_targets(inner)}
    if "task_type" not in options:
        defaults["task_type"] = _task_type(inner)
    if heads and is_new:
        has_pooler = getattr(inner.base_model, "pooler", None) is not None and inner.base_model is not inner
        defaults["modules_to_save"] = [*heads, "pooler"] if has_pooler else heads
    if defaults["target_modules"] is None:
        # Of some layers peft must be told names.
        chosen = options.get("layers_to_transform") is not None
        defaults["target_modules"] = _linear_in_layers(inner) if chosen else "all-linear"
        if heads and not is_new and not chosen:
            defaults["exclude_modules"] = rf"({'|'.join(map(re.escape, heads))})(\..*)?"
    targets = options.get("target_modules", defaults["target_modules"])
    defaults["fan_in_fan_out"] = any(isinstance(module, Conv1D) for module in _named(inner, targets))
    config = LoraConfig(**defaults | options)
    check_adapter_configs(len(layers_of(inner)), {"new": config})
    return config


def _heads(model: PreTrainedModel) -> list[str]:
    """Return the names of the modules that stand beside the base model, and have weights."""
    auto = auto_class_for(type(model))
    if auto == "AutoModel" or (auto is None and model.base_model is model):
        return []
    base = {model.base_model_prefix, layers_path(model).split(".")[0]}
    return [name for name, part in model.named_children() if name not in base and any(True for _ in part.parameters())]


def _is_new(model: PreTrainedModel) -> bool:
    """Return whether a checkpoint of another head leaves that of a model random.

    Heads for pretraining give logits of tokens, by weights that are those of the embeddings or may be.
    """
    tied = {*model.all_tied_weights_keys, *(model._tied_weights_keys or ())}
    return not any(name.split(".")[0] in _heads(model) for name in tied)


def _task_type(model: PreTrainedModel) -> str | None:
    """Return what peft calls the task of a model, if it has an Auto class for it."""
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING

    auto = auto_class_for(type(model))
    if task_of(auto, model.main_input_name) == "feature-extraction":
        auto = "AutoModelForFeatureExtraction"  # as peft calls the task of a base model
    served = {kind.__name__: (task, kind) for task, kind in MODEL_TYPE_TO_PEFT_MODEL_MAPPING.items()}
    task, kind = served.get((auto or "").replace("AutoModel", "PeftModel"), (None, None))
    if kind is not None and not _hands_on_segments(kind, model):
        logger.warning(
            f"{kind.__name__} does not hand token_type_ids on to the model, so that it does not see which tokens are "
            "the question: with task_type=None, peft.get_peft_model does, and PeftModel.from_pretrained reads it"
        )
    return task


def _hands_on_segments(kind: Any, model: PreTrainedModel) -> bool:
    """Return whether a class of peft gives a model all that its tokenizer makes.

    `PeftModelForQuestionAnswering` of peft 0.21 takes `token_type_ids` and drops them, so that a BERT does not see any
    more where the question ends.
    """
    name = "token_type_ids"
    is_read = name in inspect.signature(model.forward).parameters
    is_taken = name in inspect.signature(kind.forward).parameters  # by its own name, not among others
    return not (is_read and is_taken) or f"{name}={name}" in inspect.getsource(kind.forward)


def _usual_targets(model: PreTrainedModel) -> list[str] | str | None:
    """Return what peft adapts in models of this type, unless it speaks of modules that this release has not."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL

    targets = USUAL.get(model.config.model_type)
    return targets if _named(model, targets) else None


def _linear_in_layers(model: PreTrainedModel) -> list[str]:
    modules = (pair for layer in layers_of(model) for pair in layer.named_modules())
    return sorted({name for name, module in modules if isinstance(module, (nn.Linear, Conv1D))})


def _named(model: PreTrainedModel, targets: Any) -> list[nn.Module]:
    """Return the modules of a model that are named as peft names its targets, by their ends or by a pattern."""
    if isinstance(targets, str):
        return [module for name, module in model.named_modules() if re.fullmatch(targets, name)]
    ends = tuple(f".{target}" for target in targets or ())
    return [module for name, module in model.named_modules() if f".{name}".endswith(ends)] if ends else []
