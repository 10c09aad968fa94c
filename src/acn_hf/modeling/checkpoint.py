"""Checkpoints that are complete or not there: what is refused, and how files are written."""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedModel

from .depth import DepthError, encoder_layers, layers_path
from .full_disk import full_disk_named
from .injected import NO_MODULE, layers_named, layers_to_transform


def check_layers_loaded(model: PreTrainedModel, missing_keys: Iterable[str], source: Any) -> None:
    """Raise `DepthError` if a checkpoint left weights of some layer random; learned scales may be new."""
    pattern = re.compile(rf"(?:^|\.){re.escape(model.layers_name)}\.(\d+)\.(?!short_connection\.)")
    lacking = sorted({int(match[1]) for key in missing_keys if (match := pattern.search(key))})
    if not lacking:
        return
    wanted = model.config.num_hidden_layers
    if lacking[0] == 0:
        rule = "its layers do not have the names of this architecture"
    else:
        rule = f"it holds {lacking[0]} complete layers"
    raise DepthError(
        f"{source} cannot fill the {wanted} layers that the config asks for: {rule}, "
        f"and weights of layers {lacking[0] + 1} to {lacking[-1] + 1} would stay random"
    )


def check_layers_of_state_dict(model: PreTrainedModel, state_dict: dict[str, Any], prefix: str) -> None:
    """Raise `DepthError` if a state dict holds layers that a base model lacks, or lacks some that it holds.

    Adapters of layers count too, but only where the model has them: one made for the lower layers alone is complete.
    """
    held = layers_held(encoder_layers(model), prefix + layers_path(model), state_dict)
    check_layers_held(held, model.config.num_hidden_layers)


def check_layers_held(held: int, depth: int) -> None:
    """Raise `DepthError` if weights are those of more or fewer layers than a model of `depth` layers has."""
    if held != depth:
        raise DepthError(
            f"the weights are those of {held} layers and this model has {depth}; "
            "build the model at their depth, with from_pretrained(checkpoint) or acn_hf.truncate(model, depth)"
        )


def layers_held(layers: nn.ModuleList, path: str, state_dict: dict[str, Any]) -> int:
    """Return for how many of some layers a state dict, in which their list is named `path`, is complete."""
    pattern = re.compile(rf"^{re.escape(path)}\.(\d+)\.(.+)$")
    stored: dict[str, set[int]] = {}
    for key in state_dict:
        if match := pattern.match(key):
            stored.setdefault(match[2], set()).add(int(match[1]))
    expected: dict[str, set[int]] = {}
    for index, layer in enumerate(layers):
        for name in layer.state_dict():
            expected.setdefault(name, set()).add(index)
    held = max((max(indices) + 1 for indices in stored.values()), default=len(layers))
    if held > len(layers):
        return held
    lacking = [index for name, indices in stored.items() for index in expected.get(name, set()) - indices]
    return min(lacking, default=len(layers))


def check_adapter_configs(depth: int, configs: dict[str, Any]) -> None:
    """Raise `DepthError` if the config of an adapter names a layer that a model of so many does not have."""
    for config in configs.values():
        missing = [index for index in layers_to_transform(config) if not 0 <= index < depth]
        if missing:
            raise DepthError(
                f"layers_to_transform must name layers of this model, whose {depth} layers have indices below {depth}; "
                f"got {missing[0]}"
            )
        if getattr(config, "target_modules", None) == NO_MODULE and depth > 0:
            raise DepthError(
                f"the adapter is one for 0 layers and this model has {depth}: it was cut below all that it adapted; "
                "cut the adapted model again, with merge_adapter=True"
            )


def check_adapter_loaded(model: PreTrainedModel, name: str, info: Any) -> None:
    """Raise `DepthError` if an adapter held more or fewer layers than the model, `ValueError` if some is left unread.

    Args:
        model (`PreTrainedModel`): Where the adapter was put.
        name (`str`): Of the adapter in the model. Of others, upstream reports every weight as missing.
        info: What upstream's `load_adapter` returned.
    """
    depth = len(encoder_layers(model))
    beyond = [index for index in layers_named(info.unexpected_keys, model.layers_name) if index >= depth]
    lacking = layers_named((key for key in info.missing_keys if f".{name}." in f"{key}."), model.layers_name)
    if beyond or lacking:
        held = beyond[-1] + 1 if beyond else lacking[0]
        raise DepthError(
            f"the adapter is one for {held} layers and this model has {depth}; load it into a model of its own depth, "
            "which acn_hf.truncate(model, depth) then cuts together with it"
        )
    if info.unexpected_keys:
        raise ValueError(
            f"transformers {transformers.__version__} left weights of the adapter unread ({min(info.unexpected_keys)}, "
            "...): read it with peft.PeftModel.from_pretrained(model, adapter)"
        )


def check_no_adapter_beside(folder: str | os.PathLike) -> None:
    """Raise `FileExistsError` if a folder holds an adapter, which would be added to merged weights when loaded."""
    path = Path(folder) / "adapter_config.json"
    if path.exists():
        raise FileExistsError(
            f"merged weights need a folder without an adapter, which would be added to them once more; got {path}"
        )


def drop_layers(state_dict: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
    """Return a state dict without the layers above `depth` of the list named `path`."""
    pattern = re.compile(rf"^{re.escape(path)}\.(\d+)\.")
    return {key: value for key, value in state_dict.items() if not (m := pattern.match(key)) or int(m[1]) < depth}


def weight_files(variant: str | None) -> Callable[[str], bool]:
    """Return whether a file name is that of weights which a later save of the same variant replaces."""
    tag = "" if variant is None else f".{re.escape(variant)}"
    pattern = re.compile(rf"model{tag}(-\d{{5}}-of-\d{{5}})?\.safetensors|model\.safetensors\.index{tag}\.json")
    return lambda name: pattern.fullmatch(name) is not None


@contextmanager
def written_beside(target: Path, stale: Callable[[str], bool] = lambda name: False) -> Iterator[Path]:
    """Yield an empty folder beside `target` whose files, and folders, move there when the block ends without an error.

    Args:
        target (`Path`): Created when the first file is there. After an error it is as it was.
        stale (*optional*): Tells which names in `target` a new set of files makes obsolete.

    Raises:
        NotADirectoryError: `target` is a file.
        OSError: The disk is full.
    """
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"the place to save to must be a folder; {target} is a file")
    # Inside a folder that exists, since the one above it need not be writable.
    beside = (target if target.is_dir() else target.parent) / f".{target.name}-{uuid.uuid4().hex}"
    beside.mkdir(parents=True)
    try:
        with full_disk_named(target):
            yield beside
        written = sorted(beside.iterdir())
        if written and not target.exists():
            beside.rename(target)
        elif written:
            for path in written:
                if path.is_dir() and (target / path.name).is_dir():
                    shutil.rmtree(target / path.name)
                path.replace(target / path.name)
            names = {path.name for path in written}
            for path in target.iterdir():
                if path.name not in names and stale(path.name):
                    path.unlink()
    finally:
        shutil.rmtree(beside, ignore_errors=True)
