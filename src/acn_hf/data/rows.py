"""From a data set on disk or on the Hub to what a model takes, the same for training and for the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    ViTImageProcessorPil,
    default_data_collator,
)

from ..depth.metrics import IGNORED_LABEL
from .idx import DataError, is_idx_folder, read_idx_folder
from .labels import Classes, column_values, require
from .masking import MaskingCollator, PatchMaskingCollator, mask_images_once, mask_once, pack
from .pixels import image_size, num_patches, pixels
from .sound import load_feature_extractor

FILE_FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json", ".txt": "text"}
PREFERRED_SPLITS = ("validation", "test", "train")


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
    """Load a local CSV, TSV, Parquet, JSON or text file, a folder of images, of IDX files or of such files that are
    called train, validation and test, a saved data set, or a data set of the Hub.

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
        files = {split: file for split in PREFERRED_SPLITS for file in path.glob(f"{split}.*") if file_format(file)}
        if files:
            return datasets.DatasetDict({split: _load_file(file) for split, file in files.items()})
        return datasets.load_dataset("imagefolder", data_dir=str(path))
    if file_format(path) is None:
        raise DataError(f"a data file must end in {', '.join(FILE_FORMATS)}; got {path.name}")
    return _load_file(path)


def _load_file(path: Path) -> datasets.Dataset:
    options = {"sep": "\t"} if ".tsv" in path.suffixes else {}
    return datasets.load_dataset(file_format(path), data_files=str(path), split="train", **options)


def load_processor(model: PreTrainedModel, source: str) -> Any:
    """Load the tokenizer, image processor or feature extractor that lies beside a model.

    Raises:
        DataError: There is none, or it is that of another model.
    """
    if model.main_input_name == "pixel_values":
        return load_image_processor(source)
    if model.main_input_name in ("input_values", "input_features"):
        return load_feature_extractor(source)
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
    require_text(data, *names)
    longest = longest_text(model.config, tokenizer, max_length, pair=len(names) > 1)
    rows = data.with_format(None).map(
        lambda batch: tokenizer(*(batch[name] for name in names), truncation=True, max_length=longest),
        batched=True,
        remove_columns=data.column_names,
    )
    return rows.add_column("labels", labels), DataCollatorWithPadding(tokenizer)


def _tokens(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    require(data, columns.text, columns.label)
    longest, config = longest_text(model.config, tokenizer, max_length), model.config
    classes = Classes.of(config, data.features[columns.label])

    def encode(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
        for number, words in zip(rows, batch[columns.text], strict=True):
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise DataError(f"column {columns.text!r} must hold lists of words; got {words!r} in row {number}")
        encoded = tokenizer(batch[columns.text], is_split_into_words=True, truncation=True, max_length=longest)
        encoded["labels"] = []
        for number, labels in enumerate(batch[columns.label]):
            if len(labels or ()) != len(batch[columns.text][number]):
                raise DataError(f"every word must have a label; row {rows[number]} has {len(labels or ())} labels")
            ids = [classes.id_of(label) for label in labels]
            words = encoded.word_ids(number)
            is_first = [
                word is not None and word != before for word, before in zip(words, [None, *words], strict=False)
            ]
            encoded["labels"].append(
                [ids[word] if first else IGNORED_LABEL for word, first in zip(words, is_first, strict=True)]
            )
        return encoded

    rows = data.with_format(None).map(encode, batched=True, with_indices=True, remove_columns=data.column_names)
    return rows, DataCollatorForTokenClassification(tokenizer)


def _masked(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    require_text(data, columns.text)
    rows = pack(tokenizer, data, columns.text, longest_text(model.config, tokenizer, max_length))
    collate = MaskingCollator(tokenizer)
    return mask_once(rows, collate), collate


def _images(model: Any, processor: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    require(data, columns.image)
    labels = _labels(model.config, data, columns.label)
    rows = pixels(model.config, processor, data.select_columns([columns.image]), columns.image, labels=labels)
    return rows, default_data_collator


def _masked_images(model: Any, processor: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    require(data, columns.image)
    rows = pixels(model.config, processor, data.select_columns([columns.image]), columns.image)
    collate = PatchMaskingCollator(num_patches(model.config))
    return mask_images_once(rows, collate), collate


_BUILDERS: dict[str, Callable[..., tuple[datasets.Dataset, Callable]]] = {
    "ForSequenceClassification": _sequences,
    "ForTokenClassification": _tokens,
    "ForMaskedLM": _masked,
    "ForImageClassification": _images,
    "ForMaskedImageModeling": _masked_images,
}


def require_text(data: datasets.Dataset, *names: str) -> None:
    """Check that there are columns of these names, and that they hold text.

    Raises:
        DataError: There is one missing, or it holds something else.
    """
    require(data, *names)
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
    require(data, column)
    classes = Classes.of(config, data.features[column])
    labels = []
    for row, value in enumerate(column_values(data, column)):
        try:
            labels.append(float(value) if is_regression(config) else classes.id_of(value))
        except (TypeError, ValueError) as error:
            raise DataError(f"row {row} of column {column!r} does not fit: {error}") from None
    return labels


def is_regression(config: Any) -> bool:
    """Return whether a config describes a head that predicts numbers."""
    return config.num_labels == 1 or config.problem_type == "regression"
