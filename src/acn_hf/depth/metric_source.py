"""A metric of one's own that lies in a Python file or in a module."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import ProfileError

Check = Callable[[Any, str], None]
"""Is given a value and where it lies, and raises `ProfileError` if it will not do."""


def is_source(text: str) -> bool:
    """Return whether a text says where a metric lies: it names a Python file, or has a colon."""
    return text.endswith(".py") or ":" in text


def load_object(source: str, kind: type, *, what: str = "metric", check: Check | None = None) -> Any:
    """Return what `metric.py:name`, `metric.py` or `module:name` stands for: a function, or an object of a class.

    Args:
        source (`str`): Of a file without a name, the one thing counts that has no underscore before its name and is
            defined there. A module is also looked for in the working directory.
        kind (`type`): The class of what may be given beside a function.
        what (`str`, *optional*, defaults to `"metric"`): What it is called in errors.
        check (`Callable`, *optional*): Is given a value that is no object of the class, and the place where it lies,
            and raises an error if it will not do. Defaults to one that asks for a function of
            `(predictions, references)`.

    Raises:
        ProfileError: There is no such file, module or name, it cannot be loaded, a file holds several things, or what
            is named will not do.
    """
    place, _, name = (source, "", "") if source.endswith(".py") else source.rpartition(":")
    module = _load(place, source, what)
    found = _public(module, kind)
    if not name:
        if len(found) != 1:
            which = f"{', '.join(found)}: say which, as {source}:{next(iter(found))}" if found else "none"
            raise ProfileError(f"{source} must hold one public function; it holds {which}")
        ((name, metric),) = found.items()
    elif name not in vars(module):
        raise ProfileError(f"{place} must hold {name!r}; it holds {', '.join(found) or 'no public function'}")
    else:
        metric = vars(module)[name]
    if not isinstance(metric, kind):
        (check or _check_is_function)(metric, f"{place}:{name}")
    return metric


def _load(place: str, source: str, what: str) -> ModuleType:
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise ProfileError(f"{what} {source!r} cannot be loaded: there is no file {place}")
    try:
        if is_file:
            return _load_file(Path(place))
        with _working_directory_searched():
            return importlib.import_module(place)
    except Exception as error:  # whatever the code of the user raises
        raise ProfileError(f"{what} {source!r} cannot be loaded: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    name = f"{__name__}.{path.resolve().stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their types
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@contextmanager
def _working_directory_searched() -> Iterator[None]:
    """Look for modules in the working directory too, as `python -m` does and an installed command does not."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _public(module: ModuleType, kind: type) -> dict[str, Any]:
    """Return the functions that a module defines, and its objects of a class, unless an underscore begins the name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and ((inspect.isfunction(value) and value.__module__ == module.__name__) or isinstance(value, kind))
    }


def _check_is_function(value: Any, place: str) -> None:
    rule = f"{place} must be a function of (predictions, references)"
    if not callable(value):
        raise ProfileError(f"{rule}; got {value!r}")
    try:
        signature = inspect.signature(value)
    except ValueError:  # some that are written in C do not say what they take
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise ProfileError(f"{rule}; it takes {signature}") from None
