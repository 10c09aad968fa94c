"""An evaluator that lies in a Python file or in a module."""

import inspect
from typing import Any

from ..depth.errors import ProfileError
from ..depth.metric_source import load_object
from .reading import check_can_be_imported


def load_evaluator(source: str) -> Any:
    """Return the evaluator that `file.py`, `file.py:name` or `module:name` stands for.

    Args:
        source (`str`): What lies there is an evaluator of sentence-transformers, a function without arguments that
            returns one, or a function from a model to a score. Of a file without a name, the one thing counts that has
            no underscore before its name and is defined there.

    Raises:
        ImportError: sentence-transformers is not installed.
        ProfileError: There is no such file, module or name, it cannot be loaded, a file holds several things, what is
            named is none of the three, or a function returns no evaluator.
    """
    check_can_be_imported()
    if not (source.endswith(".py") or ":" in source):
        raise ProfileError(f"an evaluator lies in FILE.py, FILE.py:NAME or MODULE:NAME; got {source!r}")
    found = load_object(source, _kind(), what="evaluator", check=_check)
    if isinstance(found, _kind()) or _number_of_arguments(found) != 0:
        return found
    try:
        made = found()
    except Exception as error:  # whatever the code of the user raises
        raise ProfileError(f"evaluator {source!r} cannot be made: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise ProfileError(f"{source} must return an evaluator of sentence-transformers; got {type(made).__name__}")
    return made


def _kind() -> type:
    """Return the class of all evaluators, which older releases keep elsewhere."""
    try:
        from sentence_transformers.base.evaluation import BaseEvaluator
    except ImportError:
        from sentence_transformers.evaluation import SentenceEvaluator as BaseEvaluator
    return BaseEvaluator


def _check(value: Any, place: str) -> None:
    rule = f"{place} must be an evaluator, a function that returns one, or a function from a model to a score"
    if not callable(value):
        raise ProfileError(f"{rule}; got {value!r}")
    if _number_of_arguments(value) is None:
        raise ProfileError(f"{rule}; it takes {inspect.signature(value)}")


def _number_of_arguments(function: Any) -> int | None:
    """Return 0 or 1, with how many arguments a function can be called; `None` if with neither."""
    signature = inspect.signature(function)
    for number in (0, 1):
        try:
            signature.bind(*[None] * number)
        except TypeError:
            continue
        return number
    return None
