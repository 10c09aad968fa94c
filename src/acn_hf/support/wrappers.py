"""The model inside what compilers, data parallelism and PEFT wrap around it."""

import sys
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers import PreTrainedModel

from ..modeling.depth import check_acn

ONLY_CALLED = "_acn_hf_only_called"
"""By this a view says that it is neither measured nor cut."""
OWN_PASSES = {"POLY", "SHADOW", "XLORA"}
"""Types of adapters that are told something at each pass, or compute something beside the layers."""

SENTENCE_MODELS = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder")
"""What sentence-transformers calls its kinds of models."""


def unwrap(model: Any) -> PreTrainedModel:
    """Return the model inside `torch.compile`, data parallelism and PEFT; it shares every weight with `model`.

    Inside a `PeftModel` the adapters stay active: they live in the layers.

    Raises:
        TypeError: There is no model of transformers inside, its weights are sharded over processes, or PEFT adapted it
            by prompts, or by what needs a forward pass of its own (Poly, Shadow, X-LoRA).
    """
    model = unwrap_parallel(model)
    while is_peft_model(model):
        prompts = [name for name, config in model.peft_config.items() if config.is_prompt_learning]
        if prompts:
            raise TypeError(
                "adapters must be in the layers of the model, to be there at every depth; "
                f"{prompts[0]!r} is one of prompts ({model.peft_config[prompts[0]].peft_type.value})"
            )
        others = [config.peft_type.value for config in model.peft_config.values()]
        if not OWN_PASSES.isdisjoint(others):
            raise TypeError(
                "adapters must be in the layers of the model, to be there at every depth; one of type "
                f"{min(OWN_PASSES & set(others))} needs a forward pass of its own"
            )
        model = unwrap_parallel(model.base_model.model)
    if is_sentence_model(model):
        raise TypeError(
            f"this takes a model of transformers; of a {type(model).__name__} give the one inside "
            "(model.transformers_model), or measure its embeddings with acn_hf.measure_embedding_profile and cut it "
            "with acn_hf.compress_embeddings"
        )
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"only models of transformers have depth; got {type(model).__name__}")
    if ONLY_CALLED in model.__dict__:
        raise TypeError(f"this {type(model).__name__} is a view that is only called; give the model it was made from")
    return model


def only_called(view: PreTrainedModel) -> PreTrainedModel:
    """Mark a view as one that is neither measured nor cut, and return it."""
    view.__dict__[ONLY_CALLED] = True
    return view


def unwrap_acn(model: Any) -> PreTrainedModel:
    """Return the ACN inside `torch.compile`, data parallelism and PEFT; it shares every weight with `model`.

    Raises:
        TypeError: There is no ACN inside, its weights are sharded over processes, or PEFT adapted it by prompts.
    """
    model = unwrap(model)
    check_acn(model)
    return model


def is_peft_model(model: Any) -> bool:
    """Return whether a model is what `peft.get_peft_model` returns; without importing peft, which takes seconds."""
    peft = sys.modules.get("peft")  # where nobody has imported it, nobody has made such a model
    return peft is not None and isinstance(model, (peft.PeftModel, peft.PeftMixedModel))


def is_sentence_model(model: Any) -> bool:
    """Return whether a model is one of sentence-transformers; without importing that package, which takes seconds."""
    package = sys.modules.get("sentence_transformers")  # where nobody has imported it, nobody has made such a model
    kinds = (getattr(package, name, None) for name in SENTENCE_MODELS)
    return package is not None and isinstance(model, tuple(kind for kind in kinds if kind is not None))


def unwrap_parallel(model: Any) -> Any:
    """Return what `torch.compile` and data parallelism were given.

    Raises:
        TypeError: The weights are sharded over processes.
    """
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(model, nn.Module) and "_orig_mod" in model._modules:  # what torch.compile returns
            model = model._modules["_orig_mod"]
        elif isinstance(model, (FSDPModule, FullyShardedDataParallel)):
            raise TypeError(
                "the weights of the model must be whole, and FSDP shards them over processes; save it, and load the "
                "checkpoint in one process"
            )
        else:
            return model
