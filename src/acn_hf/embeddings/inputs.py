"""Texts and dimensions as users give them, checked."""

from collections.abc import Iterable
from typing import Any

import torch

from ..depth.errors import ProfileError


def different_texts(texts: Any, least: int, rule: str, purpose: str) -> list[str]:
    """Return the different texts among some, in their order.

    Args:
        texts (iterable of `str`): What was given.
        least (`int`): How many different ones there must be.
        rule (`str`): What is said where they are no texts.
        purpose (`str`): For what that many are needed.

    Raises:
        ProfileError: They are no texts, or too few.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ProfileError(f"{rule}; got {type(texts).__name__}")
    given = list(texts)
    for text in given:
        if not isinstance(text, str):
            raise ProfileError(f"{rule}; one is {type(text).__name__}")
    different = list(dict.fromkeys(given))
    if len(different) < least:
        among = f" among {len(given)}" if len(different) < len(given) else ""
        raise ProfileError(f"there must be at least {least} different texts for {purpose}; got {len(different)}{among}")
    return different


def full_dimension(model: Any) -> int:
    """Return the dimension of the embeddings of a SentenceTransformer, as it gives them."""
    name = "get_embedding_dimension"  # which older releases call otherwise
    return getattr(model, name if hasattr(model, name) else "get_sentence_embedding_dimension")()


def check_dimensions(model: Any, dimensions: Iterable[int]) -> list[int]:
    """Return dimensions to which embeddings are cut, the largest first.

    Raises:
        ProfileError: There is none, or the embeddings of the model have fewer.
    """
    full = full_dimension(model)
    wanted = sorted(set(dimensions), reverse=True)
    wrong = [one for one in wanted if type(one) is not int or not 1 <= one <= full]
    if wrong or not wanted:
        raise ProfileError(f"dimensions must lie in [1, {full}] for this model; got {wrong[0] if wrong else 'none'}")
    return wanted


def embed(model: Any, texts: list[str], batch_size: int, **options: Any) -> torch.Tensor:
    """Return the embeddings of texts as one tensor of float32, in which few similarities tie."""
    how = {"batch_size": batch_size, "convert_to_tensor": True, "show_progress_bar": False}
    return model.encode(texts, **how, **options).float()
