"""The data of a script: train, validation and test, read, held out, and checked for rows that lack something."""

import logging
from collections.abc import Callable
from typing import Any

import datasets
from transformers import PreTrainedModel, TrainingArguments

from ..data.checks import complete_rows, cut_texts
from ..data.files import load_data, load_splits, not_empty
from ..data.idx import DataError
from ..data.rows import Columns, prepare
from .data_arguments import DataArguments, FileArguments

logger = logging.getLogger(__name__)


def load_labelled(arguments: DataArguments, *, with_labels: bool = True) -> dict[str, datasets.Dataset]:
    """Load `train`, `validation` and `test`, as far as they exist.

    Args:
        arguments (`DataArguments`): Which.
        with_labels (`bool`, *optional*, defaults to `True`): Whether rows without a label are left out too.

    Raises:
        DataError: No data are named, or some in two ways; more are to be held out than there are, or all of a class.
    """
    names = {"train": arguments.train_split, "validation": arguments.validation_split, "test": arguments.test_split}
    files = {split: getattr(arguments, f"{split}_file") for split in names}
    if arguments.dataset_name is not None:
        if given := [f"--{split}_file" for split, file in files.items() if file is not None]:
            raise DataError(f"--dataset_name names all the data; {', '.join(given)} must not be given")
        loaded = load_splits(arguments.dataset_name, name=arguments.dataset_config_name, **arguments.how_files_are_read)
        splits = {split: loaded[name] for split, name in names.items() if name in loaded}
        if not splits:
            raise DataError(f"--train_split must be one of {', '.join(loaded)}; got {arguments.train_split!r}")
    else:
        how = arguments.how_files_are_read
        splits = {split: load_data(file, **how) for split, file in files.items() if file is not None}
    if not splits:
        raise DataError("there must be data; give --dataset_name, --train_file or --validation_file")
    splits = {split: only_complete(data, split, arguments, with_labels=with_labels) for split, data in splits.items()}
    if arguments.num_held_out is not None:
        splits |= _hold_out(splits, arguments.num_held_out, arguments.label_column_name)
    for split, most in (("train", arguments.max_train_samples), ("validation", arguments.max_eval_samples)):
        if split in splits and most is not None:
            splits[split] = first_rows(splits[split], most)
    return {split: not_empty(data, f"the {split} split") for split, data in splits.items()}


def first_rows(data: Any, number: int) -> Any:
    """Return so many of the first rows of a data set, or all if it has fewer."""
    return data.select(range(min(number, len(data))))


def only_complete(
    data: datasets.Dataset, name: str, arguments: FileArguments, *, with_labels: bool = True
) -> datasets.Dataset:
    """Return the rows that are complete, and say how many are not.

    Args:
        data (`datasets.Dataset`): Rows.
        name (`str`): What they are called in a message.
        arguments (`FileArguments`): Whether incomplete rows are refused, and which columns are read.
        with_labels (`bool`, *optional*, defaults to `True`): Whether a label can be missing.

    Raises:
        DataError: No row is complete, or one is not and that is refused.
    """
    rows, left_out = complete_rows(data, arguments.columns, with_labels=with_labels)
    if left_out is not None:
        if arguments.incomplete == "refuse":
            raise DataError(f"every row must be complete (--incomplete skip leaves others out); {name}: {left_out}")
        logger.warning(f"{name}: {left_out}")
    return rows


def _hold_out(splits: dict[str, datasets.Dataset], number: int, label: str) -> dict[str, datasets.Dataset]:
    if "validation" in splits or "train" not in splits:
        raise DataError(f"--num_held_out needs training data and no validation data; got {', '.join(splits)}")
    train = splits["train"]
    if not 0 < number < len(train):
        raise DataError(f"--num_held_out must lie in [1, {len(train) - 1}] for these data; got {number}")
    rest = len(train) - number
    if isinstance(train.features.get(label), datasets.ClassLabel):
        labels = train[label][:]
        if lost := sorted(set(labels[rest:]) - set(labels[:rest])):
            names = ", ".join(train.features[label].int2str(lost))
            raise DataError(
                f"some examples of each class must be left to train on; the last {number} are all that there are of "
                f"{names}: data that are sorted by class, as a folder of images, must be divided beforehand"
            )
    return {"train": train.select(range(rest)), "validation": train.select(range(rest, len(train)))}


def needed(splits: dict[str, Any], arguments: TrainingArguments) -> dict[str, Any]:
    """Return the splits that a run reads.

    Raises:
        DataError: One is missing.
    """
    wanted = {"train": arguments.do_train, "validation": arguments.do_eval, "test": arguments.do_predict}
    for split, is_wanted in wanted.items():
        if is_wanted and split not in splits:
            held_out = " or --num_held_out" if split == "validation" else ""
            raise DataError(
                f"there must be {split} data; give --{split}_file, --{split}_split{held_out}; got {', '.join(splits)}"
            )
    return {split: data for split, data in splits.items() if wanted[split]}


def prepare_splits(
    model: PreTrainedModel, processor: Any, splits: dict[str, datasets.Dataset], columns: Columns, **options: Any
) -> dict[str, tuple[datasets.Dataset, Callable]]:
    """Turn the splits into what a model takes, and say how many texts are cut for it.

    Args:
        model (`PreTrainedModel`): What is trained.
        processor: Its tokenizer or image processor.
        splits (`dict`): See [`load_labelled`].
        columns (`Columns`): Which columns to read.
        options: Passed on to [`prepare`].

    Returns:
        `dict`: For each split what `prepare` returns.

    Raises:
        DataError: See [`prepare`].
    """
    rows = {}
    for split, data in splits.items():
        rows[split] = prepare(model, processor, data, columns, **options)
        if cut := cut_texts(model, processor, data, columns, rows[split][0]):
            logger.warning(f"{split}: {cut} (--max_seq_length)")
    return rows
