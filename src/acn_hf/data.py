"""From a data set on disk or on the Hub to what a model takes, for the command line."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import UnidentifiedImageError
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

from .metrics import IGNORED_LABEL

FILE_FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}
PREFERRED_SPLITS = ("validation", "test", "train")


class DataError(ValueError):
    """A data set that cannot be read, or that does not fit a model."""


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
    """Load a local CSV, TSV, Parquet or JSON file, a folder of images, a saved data set, or a data set of the Hub.

    Args:
        source (`str`): A path, or a name on the Hub.
        name (`str`, *optional*): Which configuration of a data set of the Hub.
        split (`str`, *optional*): Defaults to the first that exists of `validation`, `test`, `train`.

    Raises:
        DataError: There is no such split, the format is not known, or the data set is empty.
        OSError: The data cannot be read.
    """
    path = Path(source)
    if path.suffix in FILE_FORMATS and not path.exists():
        raise DataError(f"there must be a file {source}; there is none")
    try:
        loaded = _load_local(path) if path.exists() else datasets.load_dataset(source, name)
    except (datasets.exceptions.DatasetGenerationError, datasets.exceptions.DatasetNotFoundError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} cannot be read as a data set: {error.__cause__ or error}") from error
    if isinstance(loaded, datasets.DatasetDict):
        known = [wanted for wanted in ((split,) if split else PREFERRED_SPLITS) if wanted in loaded]
        if not known:
            raise DataError(f"split must be one of {', '.join(loaded)}; got {split!r}")
        loaded = loaded[known[0]]
    if len(loaded) == 0:
        raise DataError(f"the data must hold at least one example; {source} is empty")
    return loaded


def _load_local(path: Path) -> Any:
    if path.is_dir():
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            return datasets.load_from_disk(str(path))
        return datasets.load_dataset("imagefolder", data_dir=str(path))
    if path.suffix not in FILE_FORMATS:
        raise DataError(f"a data file must end in {', '.join(FILE_FORMATS)}; got {path.name}")
    options = {"sep": "\t"} if path.suffix == ".tsv" else {}
    return datasets.load_dataset(FILE_FORMATS[path.suffix], data_files=str(path), **options)


def load_processor(model: PreTrainedModel, source: str) -> Any:
    """Load the tokenizer or image processor that lies beside a model.

    Raises:
        DataError: There is none, or it is that of another model.
    """
    is_image = model.main_input_name == "pixel_values"
    kind = "image processor" if is_image else "tokenizer"
    try:
        processor = _image_processor(source) if is_image else AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"{source} must hold the {kind} of the model: {error}") from error
    if not is_image:
        if not set(processor.get_vocab()) - set(processor.all_special_tokens):
            raise DataError(f"{source} must hold the {kind} of the model: its vocabulary is empty")
        if len(processor) > model.config.vocab_size:
            raise DataError(
                f"{source} must hold the {kind} of the model: it has {len(processor)} tokens "
                f"and the model {model.config.vocab_size}"
            )
    return processor


def _image_processor(source: str) -> Any:
    try:
        return AutoImageProcessor.from_pretrained(source)
    except ImportError:  # the oldest release wants torchvision for its Auto class, though not for this processor
        return ViTImageProcessorPil.from_pretrained(source)


def prepare(
    model: PreTrainedModel, processor: Any, data: datasets.Dataset, columns: Columns, *, max_length: int | None = None
) -> tuple[datasets.Dataset, Callable]:
    """Turn a data set into what a model takes.

    Args:
        model (`PreTrainedModel`): Its head decides what is read: a classifier of sequences, tokens or images, or
            a masked language model.
        processor: Its tokenizer or image processor.
        data (`datasets.Dataset`): Rows of texts or images.
        columns (`Columns`): Which columns to read.
        max_length (`int`, *optional*): Longest text in tokens. Defaults to what the model takes.

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
    longest = _longest(model, tokenizer, max_length, pair=len(names) > 1)
    rows = data.map(
        lambda batch: tokenizer(*(batch[name] for name in names), truncation=True, max_length=longest),
        batched=True,
        remove_columns=data.column_names,
    )
    return rows.add_column("labels", labels), DataCollatorWithPadding(tokenizer)


def _tokens(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    _require(data, columns.text, columns.label)
    longest, config = _longest(model, tokenizer, max_length), model.config
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
    longest = _longest(model, tokenizer, max_length)
    rows = data.map(
        lambda batch: tokenizer(batch[columns.text], truncation=True, max_length=longest),
        batched=True,
        remove_columns=data.column_names,
    )
    mask = DataCollatorForLanguageModeling(tokenizer)

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):  # the same text gets the same masks at every measurement
            torch.manual_seed(zlib.crc32(bytes(str([row["input_ids"] for row in batch]), "ascii")))
            return mask(batch)

    return rows, collate


def _images(model: Any, processor: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    _require(data, columns.image)
    labels = _labels(model.config, data, columns.label)
    mode = {1: "L", 3: "RGB"}[model.config.num_channels]
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        pixels = [image.convert(mode) for image in batch[columns.image]]
        return {
            "pixel_values": processor(pixels, size={"height": height, "width": width}, return_tensors="np")[
                "pixel_values"
            ]
        }

    images = data.select_columns([columns.image])
    try:
        rows = images.map(encode, batched=True, batch_size=100, remove_columns=[columns.image])
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"every image must be readable: {error}") from error
    return rows.add_column("labels", labels).with_format("torch"), default_data_collator


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
        for row, value in enumerate(data[name]):
            if not isinstance(value, str):
                raise DataError(f"column {name!r} must hold text; got {value!r} in row {row}")


def _longest(model: PreTrainedModel, tokenizer: Any, max_length: int | None, pair: bool = False) -> int:
    shortest, longest = tokenizer.num_special_tokens_to_add(pair) + 1, model.config.max_position_embeddings
    if max_length is not None and not shortest <= max_length <= longest:
        raise DataError(f"max_length must lie in [{shortest}, {longest}] for this model; got {max_length}")
    return max_length or longest


def _labels(config: Any, data: datasets.Dataset, column: str) -> list:
    _require(data, column)
    known = _label_names(data.features[column])
    labels = []
    for row, value in enumerate(data[column]):
        try:
            labels.append(float(value) if is_regression(config) else _label_id(value, known, config))
        except (TypeError, ValueError) as error:
            raise DataError(f"row {row} of column {column!r} does not fit: {error}") from None
    return labels


def is_regression(config: Any) -> bool:
    """Return whether a config describes a head that predicts numbers."""
    return config.num_labels == 1 or config.problem_type == "regression"


def _label_names(feature: Any) -> list[str] | None:
    """Return the names of a column's classes, if it has any."""
    feature = getattr(feature, "feature", feature)
    return feature.names if isinstance(feature, datasets.ClassLabel) else None


def _label_id(value: Any, names: list[str] | None, config: Any) -> int:
    """Return the model's id of a label: by name where the model knows a name of the data, else by number."""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if names is not None and isinstance(value, int) and set(names) & set(config.label2id):
        value = names[value]
    if isinstance(value, str) and value in config.label2id:
        return config.label2id[value]
    if isinstance(value, int) and 0 <= value < config.num_labels:
        return value
    raise DataError(f"a label must be one of {', '.join(map(str, config.label2id))}; got {value!r}")
