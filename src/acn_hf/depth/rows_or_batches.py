"""From what a Trainer evaluates on, or batches that somebody has made, to what a model takes."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, default_data_collator

from ..support.weights import execution_device
from .metrics import ProfileError
from .spans import Inputs

LABELS = ("labels", "label", "label_ids", "next_sentence_label", "start_positions", "end_positions")
"""Arguments that say what is right; a Trainer's collators know two more names of the first."""


def batches(
    model: PreTrainedModel, data: Any, *, batch_size: int = 32, collate_fn: Callable | None = None
) -> Iterator[dict[str, Any]]:
    """Yield batches of what `model` takes, on its device.

    Data sets of `datasets`, streamed ones too, and of torch hold rows; a `DataLoader` gives batches. A list or any
    other iterable holds the one or the other, see [`is_row`]. What a batch says of questions stays with it.

    Args:
        model (`PreTrainedModel`): Decides which columns are kept, and the device.
        data: See [`measure_depth_profile`].
        batch_size (`int`, *optional*, defaults to 32): Rows in a batch, where data are rows.
        collate_fn (`Callable`, *optional*): Makes a batch of rows.

    Raises:
        ProfileError: `data` holds neither rows nor batches that the model takes, or what may be both.
    """
    taken = _inputs_of(model)
    if isinstance(data, Mapping):
        raise ProfileError(f"data must be a data set or an iterable of rows or batches; got {type(data).__name__}")
    for batch in _batches(model, data, taken, batch_size, collate_fn):
        if not _is_dictionary(batch):
            raise ProfileError(f"a batch must be a dictionary of tensors; got {type(batch).__name__}")
        inputs = {name: value for name, value in batch.items() if name in taken and value is not None}
        if not inputs:
            raise ProfileError(
                f"the data must hold inputs of {type(model).__name__}; got only {', '.join(batch) or 'nothing'}"
            )
        moved = {name: _on_device(value, execution_device(model)) for name, value in inputs.items()}
        questions = getattr(batch, "questions", None)
        yield moved if questions is None else Inputs.of(moved, questions)


def _batches(
    model: PreTrainedModel, data: Any, taken: set[str], batch_size: int, collate_fn: Callable | None
) -> Iterable[Any]:
    columns = getattr(data, "column_names", None)
    if columns and not _has_transform(data):  # a transform may read what the model does not
        data = data.remove_columns([name for name in columns if name not in taken])
    if is_data_set(data):
        return DataLoader(data, batch_size=batch_size, collate_fn=collate_fn or _collate)
    if isinstance(data, DataLoader):
        return data
    items = _items(data)
    first = list(islice(items, 1))
    whole = chain(first, items)
    if first and is_row(model, first[0], can_collate=collate_fn is not None):
        parts = iter(lambda: list(islice(whole, batch_size)), [])
        return map(collate_fn or _collate, parts)
    return whole


def is_data_set(data: Any) -> bool:
    """Return whether data are of a class that holds rows, and never batches."""
    import datasets

    return isinstance(data, (Dataset, datasets.Dataset, datasets.IterableDataset))


def is_row(model: PreTrainedModel, item: Any, *, can_collate: bool = False) -> bool:
    """Return whether something is one row of data, and not a batch of them.

    It is a row if its label is a single number, its `input_ids` (or what else the main input of the model is) have no
    second dimension, its `inputs_embeds` no third, it has a vector of labels of a model of several labels at once, or
    of `bool_masked_pos`, or if it is no dictionary. It is a batch if all its values have the same first size.

    Args:
        model (`PreTrainedModel`): Whose inputs they are.
        item: What a list or an iterator holds.
        can_collate (`bool`, *optional*, defaults to `False`): Whether there is a function that makes batches of rows;
            then what holds no input of the model is a row.

    Raises:
        ProfileError: It looks like neither.
    """
    if not _is_dictionary(item):
        return can_collate or dataclasses.is_dataclass(item)
    taken = _inputs_of(model)
    shapes = {name: _shape(value) for name, value in item.items() if name in taken and value is not None}
    dimensions = {name: len(shape) for name, shape in shapes.items()}
    if any(dimensions.get(name) == 0 for name in LABELS) or (can_collate and not shapes):
        return True
    if dimensions.get(model.main_input_name, 2) < 2 or dimensions.get("inputs_embeds", 3) < 3:
        return True
    labels = next((item[name] for name in LABELS if name in shapes), None)
    are_several = labels is not None and len(_shape(labels)) == 1 and model.config.num_labels > 1
    if dimensions.get("bool_masked_pos") == 1 or (are_several and _are_fractions(labels)):
        return True
    if len({shape[0] for shape in shapes.values() if shape} - {1}) > 1:  # one position may be that of all rows
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if shape)
        raise ProfileError(
            "the values of a batch must have the same first size, and the label of a row must be a single one: give "
            f"a torch.utils.data.Dataset of rows or a DataLoader of batches; got {found}"
        )
    return False


def _inputs_of(model: PreTrainedModel) -> set[str]:
    """Return what a model takes, and what the collators of transformers make labels of."""
    return set(inspect.signature(type(model).forward).parameters) | {"label", "label_ids"}


def _is_dictionary(item: Any) -> bool:
    return isinstance(item, Mapping) or hasattr(item, "items")


def _items(data: Any) -> Iterator[Any]:
    """Return the items of anything that a Trainer takes for a data set, which need not know where it ends."""
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return (data[index] for index in range(len(data)))
    return iter(data)


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of a tensor, an array, a number or lists of these; of anything else that of a number."""
    if isinstance(value, (list, tuple)):
        return (len(value), *(_shape(value[0]) if value else ()))
    return tuple(getattr(value, "shape", ()))


def _are_fractions(values: Any) -> bool:
    """Return whether numbers are written with a point."""
    return torch.as_tensor(np.asarray(values) if isinstance(values, (list, tuple)) else values).is_floating_point()


def _has_transform(data: Any) -> bool:
    """Return whether a data set computes its columns when they are read; one that is streamed has no format."""
    return getattr(data, "format", {}).get("type") == "custom"


def _on_device(value: Any, device: torch.device) -> Any:
    return torch.as_tensor(value, device=device) if isinstance(value, (torch.Tensor, np.ndarray, list)) else value


def _collate(rows: list[Any]) -> dict[str, Any]:
    try:
        return default_data_collator([_plain(row) for row in rows])
    except ValueError as error:
        raise ProfileError(
            "rows of different lengths need collate_fn, for example DataCollatorWithPadding(tokenizer); " + str(error)
        ) from error


def _plain(row: Any) -> Any:
    """Return a row with the numbers of NumPy as those of Python, whose kind upstream's collator sees."""
    if not isinstance(row, Mapping):
        return row
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
