"""The model that a task is learned with: any checkpoint, read with the head of the task."""

import os
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from ..conversion.loader import NotAnAcnError
from ..conversion.timm_mixers import HUB_OPTIONS, is_timm_checkpoint
from ..depth.stack import find_stack
from ..modeling.configuration_acn import AcnConfig
from ..support.auto_classes import served_classes
from .idx import DataError
from .labels import is_unnamed, knows, label_ids
from .rows import is_regression
from .tasks import Task


def load_for_task(source: str | os.PathLike, task: Task, **hub_options: Any) -> tuple[PreTrainedModel, list[str]]:
    """Load any checkpoint of transformers or of acn_hf with the head of a task.

    A checkpoint that was saved with this head and knows the classes keeps head and classes, in the order that it has
    them. Otherwise the head is new, its last layer even where a head for other classes has the same shape.

    Args:
        source (`str` or `os.PathLike`): A folder, or a name on the Hub.
        task (`Task`): What is to be learned; see [`find_task`].
        hub_options: What `from_pretrained` takes: `revision`, `token`, `cache_dir`, `dtype`.

    Returns:
        `tuple[PreTrainedModel, list[str]]`: The model, of upstream's own class if the checkpoint is upstream's, and the
        names of the weights that are new: of the head and, where it is a part of the head, of the pooler.

    Raises:
        DataError: The architecture has no head for this task.
        DepthError: The model has no one stack of layers, or the checkpoint lacks weights of one.
        NotAnAcnError: It is no checkpoint of transformers, or weights below the head are missing, of other shapes or
            not whole.
        OSError: There is no checkpoint.

    Example:

    ```python
    >>> import tempfile
    >>> import datasets
    >>> from transformers import BertConfig, BertModel
    >>> from acn_hf.data import Columns, find_task, load_for_task

    >>> data = datasets.Dataset.from_dict({"text": ["good", "bad"], "label": ["positive", "negative"]})
    >>> bare = BertModel(BertConfig(num_hidden_layers=2, hidden_size=32, num_attention_heads=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bare.save_pretrained(folder)
    ...     model, new_weights = load_for_task(folder, find_task(data, Columns()))
    >>> type(model).__name__, new_weights
    ('BertForSequenceClassification', ['classifier.bias', 'classifier.weight'])

    ```
    """
    source = os.fspath(source)
    if is_timm_checkpoint(source, **_which(hub_options)):
        raise NotAnAcnError(f"{source} must be a checkpoint of transformers; timm wrote it")
    stored = _config_of(source, hub_options)
    reader, served = getattr(transformers, task.auto_class), served_classes(task.auto_class, type(stored))
    if not served:
        raise DataError(
            f"{source} must be of an architecture that has a head for {task.name}, which {task.auto_class} serves; it "
            f"is a {stored.model_type}"
        )
    has_head = any(kind.__name__ in (stored.architectures or []) for kind in served)
    keeps_head = has_head and _fits(stored, task)
    config = type(stored).from_dict({**stored.to_dict(), **_fields_to_change(stored, task, keeps_head)})
    model, new = _read(reader, source, config, hub_options)
    old = set(model.state_dict()) - new
    if has_head and not keeps_head:
        again = _weights_of_classes(reader, config) & old
    elif has_head or task.name in ("fill-mask", "masked-image-modeling"):
        again = set()  # what pretrains has this head under the same names, with others beside it
    else:
        again = {name for name in _of_head(model, reader, old) if "pooler" not in name}
    if again:
        _start_anew(model, reader, again)
    if not isinstance(config, AcnConfig):
        find_stack(model)
    return model, sorted(new | again)


def _config_of(source: str, hub_options: dict[str, Any]) -> Any:
    try:
        return AutoConfig.from_pretrained(source, **_which(hub_options))
    except (OSError, ValueError) as error:
        raise OSError(f"{source} must be a checkpoint: {error}") from error


def _which(hub_options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say which checkpoint is meant, and not how it is read."""
    return {name: value for name, value in hub_options.items() if name in HUB_OPTIONS}


def _fits(config: Any, task: Task) -> bool:
    """Return whether a config describes a head for what the task tells apart."""
    if task.name == "regression":
        return is_regression(config)
    if not task.classes:
        return True
    return not is_regression(config) and knows(config, task.classes, are_ids=task.has_ids)


def _fields_to_change(config: Any, task: Task, keeps_head: bool) -> dict[str, Any]:
    """Return what a config has to say anew: all of the task, or where the head stays, what it did not say."""
    fields = task.config_fields
    if not keeps_head or (task.has_ids and all(map(is_unnamed, label_ids(config)))):
        return fields
    return {name: value for name, value in fields.items() if name == "problem_type"}


def _read(reader: Any, source: str, config: Any, hub_options: dict[str, Any]) -> tuple[PreTrainedModel, set[str]]:
    """Load a checkpoint, and return the names of the weights that it does not hold, or not in this shape."""
    try:
        model, info = reader.from_pretrained(
            source, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **hub_options
        )
    except SafetensorError as error:
        raise NotAnAcnError(f"the weights in {source} must be whole: {error}") from error
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    # What a config asks to be learned may be new.
    new = {name for name in {*info["missing_keys"], *mismatched} if "short_connection." not in name}
    lacking = sorted(new - _of_head(model, reader, new))
    if lacking:
        raise NotAnAcnError(
            f"{source} must hold every weight below the head of a {type(model).__name__}; {len(lacking)} are missing "
            f"or of another shape, and would stay random: {', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}"
        )
    return model, new


def _of_head(model: PreTrainedModel, reader: Any, names: set[str]) -> set[str]:
    """Return the names that are those of weights above the base model; its pooler counts as a part of the head."""
    poolers = {name for name in names if "pooler" in name}
    if model.base_model is model:  # the class has no name for what is below its head
        return poolers | (names and names & _weights_of_classes(reader, model.config))
    return poolers | {name for name in names if not name.startswith(f"{model.base_model_prefix}.")}


def _start_anew(model: PreTrainedModel, reader: Any, names: set[str]) -> None:
    """Give weights the values that a new model has."""
    with torch.no_grad():
        fresh, held = reader.from_config(model.config, dtype=model.dtype).state_dict(), model.state_dict()
        for name in names:
            held[name].copy_(fresh[name])


def _weights_of_classes(reader: Any, config: Any) -> set[str]:
    """Return the names of the weights whose shape depends on the number of classes."""
    more = {number: f"LABEL_{number}" for number in range(config.num_labels + 1)}
    other = {**config.to_dict(), "id2label": more, "label2id": {name: number for number, name in more.items()}}
    with torch.device("meta"):
        shapes = [
            {name: weight.shape for name, weight in reader.from_config(one).state_dict().items()}
            for one in (config, type(config).from_dict({**other, "num_labels": len(more)}))
        ]
    return {name for name, shape in shapes[0].items() if shapes[1].get(name) != shape}
