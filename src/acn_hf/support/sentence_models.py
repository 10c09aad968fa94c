"""The model of transformers inside one of sentence-transformers: where it is, and a copy around another one."""

import copy
from collections import OrderedDict
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub import ModelCard
from torch import nn
from transformers import PreTrainedModel

from .wrappers import is_peft_model, is_sentence_model, unwrap, unwrap_parallel

ENCODER, CLASSIFIER = "SentenceTransformer", "CrossEncoder"
"""The kinds of models of sentence-transformers that have depth."""
_HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
OF_A_TRAINER = ("forward", "_original_forward", "_is_accelerate_prepared")
"""What accelerate leaves in a model that it has prepared."""


def is_of_kind(model: Any, *names: str) -> bool:
    """Return whether a model is one of these kinds, and not one of those that differ in what they say about a text."""
    import sentence_transformers

    others = (getattr(sentence_transformers, name, ()) for name in ("SparseEncoder", "MultiVectorEncoder"))
    kinds = tuple(getattr(sentence_transformers, name) for name in names)
    return isinstance(model, kinds) and not any(isinstance(model, other) for other in others)


def transformer_inside(model: Any) -> tuple[str, Any]:
    """Return the dotted name of the model of transformers inside one of sentence-transformers, and that model.

    It may be a `PeftModel`.

    Raises:
        TypeError: The model says more than one vector about a text, or its first module is no transformer.
    """
    kind = type(model).__name__
    if not is_of_kind(model, ENCODER, CLASSIFIER):
        raise TypeError(
            f"a model of sentence-transformers must be a {ENCODER} or a {CLASSIFIER} to have depth; got {kind}"
        )
    name, first = next(iter(model.named_children()))
    for prefix, holder in (("", model), (f"{name}.", first)):
        found = [(child_name, child) for child_name, child in holder.named_children() if _is_transformer(child)]
        if len(found) == 1:
            return prefix + found[0][0], found[0][1]
    raise TypeError(
        f"the first module of a {kind} must hold one model of transformers itself to have depth; "
        f"{type(first).__name__} holds {len(found) or 'none'}"
    )


def _is_transformer(module: nn.Module) -> bool:
    return is_peft_model(inner := unwrap_parallel(module)) or isinstance(inner, PreTrainedModel)


def inner_model(model: Any) -> PreTrainedModel:
    """Return the model of transformers inside whatever is wrapped around it, sentence-transformers included.

    Raises:
        TypeError: There is none, or it has no depth; see `unwrap` and `transformer_inside`.
    """
    outer = unwrap_parallel(model)
    return unwrap(transformer_inside(outer)[1] if is_sentence_model(outer) else outer)


def copy_with(model: Any, path: str, transformer: Any) -> Any:
    """Return a copy of a model of sentence-transformers that shares nothing with it, around another transformer.

    Its model card begins anew: what the card of `model` says, scores among it, is not known of the copy. Licence,
    language and base model are.

    Args:
        model (`SentenceTransformer` or `CrossEncoder`): Is left as it is.
        path (`str`): Dotted name of the transformer inside.
        transformer (`PreTrainedModel` or `PeftModel`): Takes its place. It is not copied.
    """
    memo: dict[int, Any] = {id(model.get_submodule(path)): transformer}
    memo[id(model.model_card_data)] = card_of_copy(model)
    for holder in (model, next(model.children())):
        memo |= {id(vars(holder)[name]): OrderedDict() for name in _HOOKS}
    twin = copy.deepcopy(model, memo)
    for name in OF_A_TRAINER:
        twin.__dict__.pop(name, None)
    twin._model_card_text = None
    twin.model_card_data.register_model(twin)
    return twin


def card_of_copy(model: Any) -> Any:
    """Return the data of the model card of a copy: those of the model, and what the card that it was read with says.

    Of that card licence, language and base model are taken, where the data do not say them.
    """
    fresh = new_card(model.model_card_data)
    for name, value in _said_by_text(model._model_card_text).items():
        if not getattr(fresh, name):
            setattr(fresh, name, value)
    return fresh


def with_card(model: Any, **said: Any) -> Any:
    """Return a view of a model whose card says some things besides; what it says already stays.

    Args:
        model (`SentenceTransformer` or `CrossEncoder`): Is left as it is.
        said: `model_name`, `model_id`, `base_model` and so on; `None` says nothing.
    """
    view = copy.copy(model)
    view.model_card_data = new_card(model.model_card_data)
    for name, value in said.items():
        if value is not None and not getattr(view.model_card_data, name):
            setattr(view.model_card_data, name, value)
    view.model_card_data.register_model(view)
    return view


def new_card(card: Any) -> Any:
    """Return a copy of the data of a model card, without what was measured; a training adds nothing to `card`."""
    fresh = copy.copy(card)
    for name, value in vars(card).items():
        if isinstance(value, (list, dict)):
            setattr(fresh, name, copy.copy(value))
    fresh.eval_results_dict, fresh.training_logs, fresh.trainer = {}, [], None
    return fresh


def _said_by_text(text: str | None) -> dict[str, Any]:
    """Return what the metadata of a model card say that holds for a copy too; nothing where they cannot be read."""
    if not text:
        return {}
    try:
        data = ModelCard(text, ignore_metadata_errors=True).data
    except (ValueError, yaml.YAMLError):
        return {}
    base = data.get("base_model")
    one_base = base[0] if isinstance(base, list) and len(base) == 1 else base
    said = {"license": data.get("license"), "language": data.get("language"), "base_model": one_base}
    return {name: value for name, value in said.items() if value and (name == "language" or isinstance(value, str))}
