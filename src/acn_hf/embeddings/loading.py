"""A SentenceTransformer that is read as it was saved, and whole."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedModel

from ..depth.layers import layers_path
from ..support.sentence_models import ENCODER, inner_model, transformer_inside
from .reading import DepthReader, check_can_be_imported

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
"""What every model of sentence-transformers has beside it, and what newer ones say of themselves."""


class NoSentenceTransformerError(ValueError):
    """A checkpoint of another kind, or without what is needed of it."""


def load_sentence_transformer(source: str | os.PathLike, device: str | None = None) -> Any:
    """Load a SentenceTransformer that has depth, from a folder or from the Hub.

    `SentenceTransformer(source)` makes a new model out of any checkpoint of transformers, and leaves random what it
    lacks. Here both are refused.

    Args:
        source (`str` or `os.PathLike`): A folder, or a name on the Hub.
        device (`str`, *optional*): Where it is put. Defaults to what sentence-transformers chooses.

    Raises:
        DepthError: Its transformer has no one stack of layers.
        ImportError: sentence-transformers is not installed.
        NoSentenceTransformerError: It is a model of another kind, or lacks weights.
        OSError: There is no model.
        TypeError: Its first module is no transformer.
    """
    check_can_be_imported()
    from sentence_transformers import SentenceTransformer

    source = os.fspath(source)
    if Path(source).is_file():
        raise NotADirectoryError(f"a model must be a folder or a name on the Hub; {source} is a file")
    _check_kind(source)
    try:
        model = SentenceTransformer(source, device=device)
    except (KeyError, SafetensorError, ValueError) as error:
        raise NoSentenceTransformerError(f"{source} cannot be read as a {ENCODER}: {error}") from error
    transformer_inside(model)
    _check_whole(inner_model(model), source)
    DepthReader(model)
    return model.eval()


def is_sentence_transformer(folder: str | os.PathLike) -> bool:
    """Return whether a folder says that it holds a SentenceTransformer."""
    return Path(folder, MODULES).is_file() and _kind_of(os.fspath(folder)) == ENCODER


def module_folders(folder: Path) -> list[str]:
    """Return the folders inside the one of a model in which its modules lie, as far as they have their own."""
    return [entry["path"] for entry in json.loads((folder / MODULES).read_text()) if entry["path"]]


def _kind_of(source: str) -> str:
    settings = _file_of(source, SETTINGS)
    return json.loads(Path(settings).read_text()).get("model_type", ENCODER) if settings else ENCODER


def _check_kind(source: str) -> None:
    """Refuse what `SentenceTransformer(source)` would make something else of.

    Raises:
        NoSentenceTransformerError: It is another kind of model.
        OSError: There is no model.
    """
    modules = _file_of(source, MODULES)
    if modules is None:
        _refuse_other(source)
    if (kind := _kind_of(source)) != ENCODER:
        raise NoSentenceTransformerError(f"{source} must hold a {ENCODER}; it holds a {kind}")


def _file_of(source: str, name: str) -> str | None:
    """Return where a file of a model lies, in its folder or in the cache of the Hub; `None` if there is none."""
    if Path(source).is_dir():
        path = Path(source, name)
        return str(path) if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    names = [source] if "/" in source else [f"sentence-transformers/{source}", source]
    for repository in names:
        try:
            return hf_hub_download(repository, name)
        except LocalEntryNotFoundError:
            continue  # the Hub cannot be asked, and it is not in the cache
        except (EntryNotFoundError, HFValidationError):
            continue
        except OSError:  # there is no such repository
            continue
    return None


def _refuse_other(source: str) -> None:
    config = _file_of(source, "config.json")
    if config is None:
        raise OSError(f"{source} must be a model of sentence-transformers, a folder or a name on the Hub; it is none")
    saved_as = (json.loads(Path(config).read_text()).get("architectures") or ["a model"])[0]
    hint = f"SentenceTransformer({source!r}) puts a mean over its tokens on a model without a head, to be saved first"
    raise NoSentenceTransformerError(
        f"{source} must hold a {ENCODER}, with {MODULES}; it holds {saved_as} of transformers ({hint})"
    )


def _check_whole(inner: PreTrainedModel, source: str) -> None:
    """Refuse a transformer of which layers would stay random.

    Raises:
        NoSentenceTransformerError: The checkpoint lacks weights of some layer.
    """
    place = getattr(inner.config, "_name_or_path", "") or source
    try:
        _, info = type(inner).from_pretrained(place, config=inner.config, output_loading_info=True)
    except OSError:  # it lies in a folder of its own, as modules of older releases do
        return
    layers = layers_path(inner)
    missing = sorted(name for name in info["missing_keys"] if f".{layers}." in f".{name}")
    if missing:
        number = len(inner.get_submodule(layers))
        raise NoSentenceTransformerError(
            f"{source} must hold every weight of its {number} layers; it lacks {len(missing)}, which would stay "
            f"random: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
