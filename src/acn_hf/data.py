"""From a data set on disk or on the Hub to what a model takes, the same for training and for the command line."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    ViTImageProcessorPil,
    default_data_collator,
)

from .idx import DataError, is_idx_folder, read_idx_folder
from .metrics import IGNORED_LABEL

FILE_FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json", ".txt": "text"}
PREFERRED_SPLITS = ("validation", "test", "train")
LARGEST_IN_MEMORY = 2**31
"""Bytes of pixels above which images are decoded when they are asked for, and not once."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read.

    Args:
        text (`str`, *optional*, defaults to `"text"`): Texts, or lists of words for token classification.
        text_pair (`str`, *optional*): Second texts of pairs.
        image (`str`, *optional*, defaults to `"image"`): Images.
        label (`str`, *optional*, defaults to `"label"`): Labels: names, ids or numbers.
    """

    text: str = "text"
    text_pair: str | None = None
    image: str = "image"
    label: str = "label"


def load_data(source: str, *, name: str | None = None, split: str | None = None) -> datasets.Dataset:
    """Load a local CSV, TSV, Parquet, JSON or text file, a folder of images or of IDX files, a saved data set, or a
    data set of the Hub.

    Args:
        source (`str`): A path, or a name on the Hub. A text file holds one text a line; every file may be gzipped.
        name (`str`, *optional*): Which configuration of a data set of the Hub.
        split (`str`, *optional*): Defaults to the first that exists of `validation`, `test`, `train`.

    Raises:
        DataError: There is no such split, the format is not known, or the data set is empty.
        OSError: The data cannot be read.
    """
    loaded = load_splits(source, name=name)
    known = [wanted for wanted in ((split,) if split else PREFERRED_SPLITS) if wanted in loaded]
    if not known:
        raise DataError(f"split must be one of {', '.join(loaded)}; got {split!r}")
    return not_empty(loaded[known[0]], source)


def load_splits(source: str, *, name: str | None = None) -> dict[str, datasets.Dataset]:
    """Load every split of a data set; what is not divided is called `train`.

    Args:
        source (`str`): See [`load_data`].
        name (`str`, *optional*): See [`load_data`].

    Raises:
        DataError: The format is not known, or the data do not have it.
        OSError: The data cannot be read.
    """
    path = Path(source)
    if file_format(path) and not path.exists():
        raise DataError(f"there must be a file {source}; there is none")
    try:
        loaded = _load_local(path) if path.exists() else datasets.load_dataset(source, name)
    except (datasets.exceptions.DatasetGenerationError, datasets.exceptions.DatasetNotFoundError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} cannot be read as a data set: {error.__cause__ or error}") from error
    return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}


def load_labelled(arguments: Any) -> dict[str, datasets.Dataset]:
    """Load `train`, `validation` and `test`, as far as they exist.

    Args:
        arguments (`DataArguments`): Which.

    Raises:
        DataError: No data are named, or more are to be held out than there are.
    """
    names = {"train": arguments.train_split, "validation": arguments.validation_split, "test": arguments.test_split}
    if arguments.dataset_name is not None:
        loaded = load_splits(arguments.dataset_name, name=arguments.dataset_config_name)
        splits = {split: loaded[name] for split, name in names.items() if name in loaded}
        if not splits:
            raise DataError(f"--train_split must be one of {', '.join(loaded)}; got {arguments.train_split!r}")
    else:
        files = {split: getattr(arguments, f"{split}_file") for split in names}
        splits = {split: load_data(file) for split, file in files.items() if file is not None}
    if not splits:
        raise DataError("there must be data; give --dataset_name, --train_file or --validation_file")
    if arguments.num_held_out is not None:
        splits |= _hold_out(splits, arguments.num_held_out)
    for split, most in (("train", arguments.max_train_samples), ("validation", arguments.max_eval_samples)):
        if split in splits and most is not None:
            splits[split] = splits[split].select(range(min(most, len(splits[split]))))
    return {split: not_empty(data, f"the {split} split") for split, data in splits.items()}


def _hold_out(splits: dict[str, datasets.Dataset], number: int) -> dict[str, datasets.Dataset]:
    if "validation" in splits or "train" not in splits:
        raise DataError(f"--num_held_out needs training data and no validation data; got {', '.join(splits)}")
    train = splits["train"]
    if not 0 < number < len(train):
        raise DataError(f"--num_held_out must lie in [1, {len(train) - 1}] for these data; got {number}")
    rest = len(train) - number
    return {"train": train.select(range(rest)), "validation": train.select(range(rest, len(train)))}


def not_empty(data: datasets.Dataset, source: str) -> datasets.Dataset:
    """Return `data` if it holds anything.

    Raises:
        DataError: It does not.
    """
    if len(data) == 0:
        raise DataError(f"the data must hold at least one example; {source} is empty")
    return data


def file_format(path: Path) -> str | None:
    """Return what `datasets` calls the format of a file, by its name, gzipped or not."""
    return FILE_FORMATS.get(Path(path.stem).suffix if path.suffix == ".gz" else path.suffix)


def _load_local(path: Path) -> Any:
    if path.is_dir():
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            return datasets.load_from_disk(str(path))
        if is_idx_folder(path):
            return read_idx_folder(path)
        return datasets.load_dataset("imagefolder", data_dir=str(path))
    if file_format(path) is None:
        raise DataError(f"a data file must end in {', '.join(FILE_FORMATS)}; got {path.name}")
    options = {"sep": "\t"} if ".tsv" in path.suffixes else {}
    return datasets.load_dataset(file_format(path), data_files=str(path), **options)


def load_processor(model: PreTrainedModel, source: str) -> Any:
    """Load the tokenizer or image processor that lies beside a model.

    Raises:
        DataError: There is none, or it is that of another model.
    """
    if model.main_input_name == "pixel_values":
        return load_image_processor(source)
    return check_vocabulary(load_tokenizer(source), model.config, source)


def load_tokenizer(source: str, **options: Any) -> Any:
    """Load a tokenizer that has a vocabulary.

    Args:
        source (`str`): A folder, or a name on the Hub.
        options: Passed on to `AutoTokenizer.from_pretrained`.

    Raises:
        DataError: There is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"{source} must hold the tokenizer of the model: {error}") from error
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise DataError(f"{source} must hold the tokenizer of the model: its vocabulary is empty")
    return tokenizer


def check_vocabulary(tokenizer: Any, config: Any, source: str) -> Any:
    """Return a tokenizer if a model has an embedding for each of its tokens.

    Raises:
        DataError: It does not.
    """
    if len(tokenizer) > config.vocab_size:
        raise DataError(
            f"{source} must hold the tokenizer of the model: it has {len(tokenizer)} tokens "
            f"and the model {config.vocab_size}"
        )
    return tokenizer


def load_image_processor(source: str, **options: Any) -> Any:
    """Load an image processor.

    Args:
        source (`str`): A folder, or a name on the Hub.
        options: Passed on to `from_pretrained`.

    Raises:
        DataError: There is none.
    """
    try:
        return AutoImageProcessor.from_pretrained(source, **options)
    except ImportError:  # the oldest release wants torchvision for its Auto class, though not for this processor
        return ViTImageProcessorPil.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise DataError(f"{source} must hold the image processor of the model: {error}") from error


def image_processor(source: str | None, config: Any) -> Any:
    """Return the image processor that lies beside a checkpoint, for a new model one of its size and channels."""
    if source is not None:
        return load_image_processor(source)
    height, width = image_size(config)
    halves = [0.5] * config.num_channels
    return ViTImageProcessorPil(size={"height": height, "width": width}, image_mean=halves, image_std=halves)


def image_fields(images: datasets.Dataset, column: str) -> dict[str, Any]:
    """Return the fields of a config that follow from images that are arrays; pictures may have any size."""
    _require(images, column)
    feature = images.features[column]
    if not isinstance(feature, datasets.Array2D):
        return {}
    height, width = feature.shape
    return {"num_channels": 1, "image_size": height if height == width else [height, width]}


def image_size(config: Any) -> tuple[int, int]:
    """Return height and width of a model's images.

    Raises:
        DataError: They are no multiples of the patches.
    """
    sizes = [config.image_size] * 2 if isinstance(config.image_size, int) else list(config.image_size)
    patches = [config.patch_size] * 2 if isinstance(config.patch_size, int) else list(config.patch_size)
    if any(size % patch for size, patch in zip(sizes, patches, strict=True)):
        raise DataError(f"patch_size must divide image_size, {config.image_size}; got {config.patch_size}")
    return sizes[0], sizes[1]


def prepare(
    model: PreTrainedModel, processor: Any, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None
) -> tuple[datasets.Dataset, Callable]:
    """Turn a data set into what a model takes.

    What is read are texts or images, and labels: names, ids or numbers. For a masked language model, texts are joined
    and cut into blocks of the longest length, and the same block gets the same masks at every measurement.

    Args:
        model (`PreTrainedModel`): Its head decides what is read: a classifier of sequences, tokens or images, or
            a masked language model.
        processor: Its tokenizer or image processor.
        data (`datasets.Dataset`): Rows of texts or images.
        columns (`Columns`): Which columns to read.
        max_length (`int`, *optional*): Longest text in tokens. Defaults to what the tokenizer and the model take.

    Returns:
        The rows, and the function that makes a batch of them.

    Raises:
        DataError: A column is missing, a label is not one of the model's, an image cannot be decoded, or the command
            line does not know the head.
    """
    for suffix, build in _BUILDERS.items():
        if type(model).__name__.endswith(suffix):
            return build(model, processor, data, columns, max_length)
    raise DataError(
        f"the command line measures {', '.join(_BUILDERS)}; "
        f"for {type(model).__name__} use measure_depth_profile in Python"
    )


def _sequences(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    names = [columns.text, *([columns.text_pair] if columns.text_pair else [])]
    labels = _labels(model.config, data, columns.label)
    _require_text(data, *names)
    longest = longest_text(model.config, tokenizer, max_length, pair=len(names) > 1)
    rows = data.map(
        lambda batch: tokenizer(*(batch[name] for name in names), truncation=True, max_length=longest),
        batched=True,
        remove_columns=data.column_names,
    )
    return rows.add_column("labels", labels), DataCollatorWithPadding(tokenizer)


def _tokens(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    _require(data, columns.text, columns.label)
    longest, config = longest_text(model.config, tokenizer, max_length), model.config
    known = _label_names(data.features[columns.label])

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(row[columns.text], is_split_into_words=True, truncation=True, max_length=longest)
        ids = [_label_id(label, known, config) for label in row[columns.label]]
        words = encoded.word_ids()
        first = [word is not None and word not in words[:position] for position, word in enumerate(words)]
        encoded["labels"] = [ids[word] if new else IGNORED_LABEL for word, new in zip(words, first, strict=True)]
        return encoded

    return data.map(encode, remove_columns=data.column_names), DataCollatorForTokenClassification(tokenizer)


def _masked(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    _require_text(data, columns.text)
    rows = pack(tokenizer, data, columns.text, longest_text(model.config, tokenizer, max_length))
    collate = MaskingCollator(tokenizer)
    return mask_once(rows, collate), collate


def pack(tokenizer: Any, data: Any, column: str, length: int) -> Any:
    """Join texts and cut them into blocks of `length` tokens, the special ones at both ends included.

    Nothing is thrown away: of every thousand texts the last block may be shorter.

    Args:
        tokenizer: The tokenizer of a BERT.
        data (`datasets.Dataset` or `datasets.IterableDataset`): Rows of texts.
        column (`str`): Their column.
        length (`int`): Longest block.
    """
    width = length - tokenizer.num_special_tokens_to_add()

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(batch[column], add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids = list(chain.from_iterable(encoded["input_ids"]))
        blocks = [ids[start : start + width] for start in range(0, len(ids), width)]
        return {"input_ids": [[tokenizer.cls_token_id, *block, tokenizer.sep_token_id] for block in blocks]}

    return data.map(encode, batched=True, batch_size=1000, remove_columns=data.column_names)


class MaskingCollator:
    """Makes a batch of blocks of tokens: masks those that come without labels, and only pads those that have them.

    Args:
        tokenizer: Pads and knows the mask.
        mlm_probability (`float`, *optional*, defaults to 0.15): Share of the tokens that are to be guessed.
    """

    def __init__(self, tokenizer: Any, mlm_probability: float = 0.15) -> None:
        self.mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=mlm_probability)
        self.pad = DataCollatorForTokenClassification(tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return self.pad(rows) if "labels" in rows[0] else self.mask(rows)


def mask_once(rows: datasets.Dataset, collate: MaskingCollator) -> datasets.Dataset:
    """Mask every block once and for all, whatever stands around it; it is masked alike in every data set."""

    def mask(row: dict[str, Any]) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(bytes(str(row["input_ids"]), "ascii")))
            return {name: value[0].tolist() for name, value in collate.mask([row]).items()}

    return rows.map(mask)


def _images(model: Any, processor: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    _require(data, columns.image)
    labels = _labels(model.config, data, columns.label)
    rows = pixels(model.config, processor, data.select_columns([columns.image]), columns.image, labels=labels)
    return rows, default_data_collator


def pixels(
    config: Any, processor: Any, images: datasets.Dataset, column: str, labels: list | None = None
) -> datasets.Dataset:
    """Turn images into the `pixel_values` that a model of `config` takes, with `labels` beside them.

    Args:
        config: Decides the size and the number of channels.
        processor: An image processor.
        images (`datasets.Dataset`): The column of images, and nothing else.
        column (`str`): Its name: pictures, or arrays of bytes.
        labels (`list`, *optional*): One for each image.

    Raises:
        DataError: An image cannot be decoded.
    """
    mode = {1: "L", 3: "RGB"}[config.num_channels]
    height, width = image_size(config)
    shape = (config.num_channels, height, width)

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        pictures = [_picture(image).convert(mode) for image in batch[column]]
        encoded = processor(pictures, size={"height": height, "width": width}, return_tensors="np")
        return {"pixel_values": np.asarray(encoded["pixel_values"], np.float32)}

    def decode(batch: dict[str, Any]) -> dict[str, Any]:
        rest = {name: values for name, values in batch.items() if name != column}
        return {name: torch.as_tensor(values) for name, values in {**rest, **encode(batch)}.items()}

    if isinstance(images.features[column], datasets.Array2D):
        images = images.with_format("numpy")
    if len(images) * 4 * math.prod(shape) > LARGEST_IN_MEMORY:
        rows = images if labels is None else images.add_column("labels", labels)
        return rows.with_transform(decode)
    features = datasets.Features({"pixel_values": datasets.Array3D(shape, "float32")})
    try:
        rows = images.map(encode, batched=True, batch_size=100, remove_columns=[column], features=features)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"every image must be readable: {error}") from error
    return (rows if labels is None else rows.add_column("labels", labels)).with_format("torch")


def _picture(image: Any) -> Any:
    return Image.fromarray(image.astype(np.uint8)) if isinstance(image, np.ndarray) else image


_BUILDERS: dict[str, Callable[..., tuple[datasets.Dataset, Callable]]] = {
    "ForSequenceClassification": _sequences,
    "ForTokenClassification": _tokens,
    "ForMaskedLM": _masked,
    "ForImageClassification": _images,
}


def _require(data: datasets.Dataset, *names: str) -> None:
    for name in names:
        if name not in data.column_names:
            raise DataError(f"the data must have a column {name!r}; got {', '.join(data.column_names)}")


def _require_text(data: datasets.Dataset, *names: str) -> None:
    _require(data, *names)
    for name in names:
        for row, value in enumerate(data[name][:]):
            if not isinstance(value, str):
                raise DataError(f"column {name!r} must hold text; got {value!r} in row {row}")


def longest_text(config: Any, tokenizer: Any, max_length: int | None, pair: bool = False) -> int:
    """Return the longest text in tokens: what is asked for, else what both the model and the tokenizer take.

    Raises:
        DataError: The model does not take what is asked for.
    """
    shortest, longest = tokenizer.num_special_tokens_to_add(pair) + 1, config.max_position_embeddings
    if max_length is not None and not shortest <= max_length <= longest:
        raise DataError(f"max_length must lie in [{shortest}, {longest}] for this model; got {max_length}")
    return max_length or max(shortest, min(longest, tokenizer.model_max_length))


def _labels(config: Any, data: datasets.Dataset, column: str) -> list:
    _require(data, column)
    known = _label_names(data.features[column])
    labels = []
    for row, value in enumerate(data[column][:]):
        try:
            labels.append(float(value) if is_regression(config) else _label_id(value, known, config))
        except (TypeError, ValueError) as error:
            raise DataError(f"row {row} of column {column!r} does not fit: {error}") from None
    return labels


def find_classes(data: datasets.Dataset, column: str) -> list[str]:
    """Return the names of the classes of a column of labels, or of lists of labels, in the order of their ids.

    Raises:
        DataError: There is no such column, or a label is missing.
    """
    _require(data, column)
    names = _label_names(data.features[column])
    if names is not None:
        return names
    values = data[column][:]
    found = set(chain.from_iterable(values) if isinstance(values[0], list) else values)
    if None in found:
        raise DataError(f"every row of column {column!r} must have a label; got None")
    return [str(_whole(value)) for value in sorted(found)]


def is_regression(config: Any) -> bool:
    """Return whether a config describes a head that predicts numbers."""
    return config.num_labels == 1 or config.problem_type == "regression"


def _label_names(feature: Any) -> list[str] | None:
    """Return the names of a column's classes, if it has any."""
    feature = getattr(feature, "feature", feature)
    return feature.names if isinstance(feature, datasets.ClassLabel) else None


def _whole(value: Any) -> Any:
    """Return truth values and whole floats as int, everything else as it is."""
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value


def _label_id(value: Any, names: list[str] | None, config: Any) -> int:
    """Return the model's id of a label: by name where the model knows a name of the data, else by number."""
    value = _whole(value)
    if names is not None and isinstance(value, int) and set(names) & set(config.label2id):
        value = names[value]
    if str(value) in config.label2id:  # classes found in a column of numbers are called by these numbers
        return config.label2id[str(value)]
    if isinstance(value, int) and 0 <= value < config.num_labels and not _numbered(config):
        return value
    raise DataError(f"a label must be one of {', '.join(map(str, config.label2id))}; got {value!r}")


def _numbered(config: Any) -> bool:
    return all(name.lstrip("-").isdigit() for name in config.label2id)
