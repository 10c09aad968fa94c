"""From a data set on disk or on the Hub to what a model takes, the same for training and for the command line."""

from collections.abc import Callable
from dataclasses import dataclass
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

from ..depth import cost
from ..depth.metrics import IGNORED_LABEL
from ..modeling.full_disk import full_disk_named
from .choices import choice_rows
from .idx import DataError
from .labels import Classes, column_values, number_of, read_at, require
from .masking import MaskingCollator, PatchMaskingCollator, mask_images_once, mask_once, pack
from .pixels import image_size, num_patches, pixels
from .places import RowError, placed
from .questions import question_rows
from .several_labels import has_several_labels, label_vectors
from .sound import load_feature_extractor

ANY_LENGTH = 512
"""Tokens in a text where neither model nor tokenizer says how many there may be."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read.

    Args:
        text (`str`, *optional*, defaults to `"text"`): Texts, or lists of words for token classification.
        text_pair (`str`, *optional*): Second texts of pairs.
        image (`str`, *optional*, defaults to `"image"`): Images.
        label (`str`, *optional*, defaults to `"label"`): Labels: names, ids or numbers; where a text has several, lists
            of them. Of choices, which one is right.
        question (`str`, *optional*, defaults to `"question"`): Questions about texts.
        context (`str`, *optional*, defaults to `"context"`): Texts that questions are about, or that choices follow.
        answers (`str`, *optional*, defaults to `"answers"`): Answers to questions; see [`question_rows`].
        choices (`str`, *optional*, defaults to `"choices"`): Lists of choices, or what the names of several columns
            begin with: `ending` for `ending0`, `ending1` and so on.
    """

    text: str = "text"
    text_pair: str | None = None
    image: str = "image"
    label: str = "label"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    choices: str = "choices"


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
    if tokenizer.pad_token is None:  # the mask hides what fills a text up, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
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
    model: PreTrainedModel,
    processor: Any,
    data: datasets.Dataset,
    columns: Columns,
    *,
    max_length: int | None = None,
    is_trained_on: bool = False,
    **options: Any,
) -> tuple[datasets.Dataset, Callable]:
    """Turn a data set into what a model takes.

    What is read are texts or images, and labels: names, ids or numbers. For a masked language model, texts are joined
    and cut into blocks of the longest length, and the same block gets the same masks at every measurement. For
    questions and choices see [`question_rows`] and [`choice_rows`].

    Args:
        model (`PreTrainedModel`): Its head decides what is read: a classifier of sequences, tokens or images, a masked
            language model, or one that answers questions or chooses.
        processor: Its tokenizer or image processor.
        data (`datasets.Dataset`): Rows of texts or images.
        columns (`Columns`): Which columns to read.
        max_length (`int`, *optional*): Longest text in tokens. Defaults to what the tokenizer and the model take.
        is_trained_on (`bool`, *optional*, defaults to `False`): Whether tokens or patches are hidden anew whenever a
            batch is made, by the function that makes it, and not once; [`EpochOfMasks`] tells it the epoch.
        options: For questions, `overlap` and `longest_answer` of [`question_rows`].

    Returns:
        The rows, and the function that makes a batch of them.

    Raises:
        DataError: A column is missing, a label is not one of the model's, an image cannot be decoded, or the command
            line does not know the head.
    """
    for suffix, build in _BUILDERS.items():
        if type(model).__name__.endswith(suffix):
            if is_trained_on and build in (_masked, _masked_images):
                options["hides_once"] = False
            with full_disk_named(datasets.config.HF_DATASETS_CACHE), placed(data):
                return build(model, processor, data, columns, max_length, **options)
    raise DataError(
        f"the command line measures {', '.join(_BUILDERS)}; "
        f"for {type(model).__name__} use measure_depth_profile in Python"
    )


def _sequences(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    names = [columns.text, *([columns.text_pair] if columns.text_pair else [])]
    labels = _labels(model.config, data, columns.label)
    require_text(data, *names)
    longest = longest_text(model, tokenizer, max_length, pair=len(names) > 1)
    rows = data.with_format(None).map(
        lambda batch: tokenizer(*(batch[name] for name in names), truncation=True, max_length=longest),
        batched=True,
        remove_columns=data.column_names,
    )
    return rows.add_column("labels", labels), DataCollatorWithPadding(tokenizer)


def _tokens(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    require(data, columns.text, columns.label)
    longest, config = longest_text(model, tokenizer, max_length), model.config
    classes = Classes.of(config, data.features[columns.label])

    def encode(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
        for number, words in zip(rows, batch[columns.text], strict=True):
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise RowError(number, f"column {columns.text!r} must hold lists of words; got {words!r}")
        texts = with_spaces(tokenizer, batch[columns.text])
        encoded = tokenizer(texts, is_split_into_words=True, truncation=True, max_length=longest)
        encoded["labels"] = []
        for number, labels in enumerate(batch[columns.label]):
            num_words, num_labels = len(batch[columns.text][number]), len(labels or ())
            if num_labels != num_words:
                rule = f"every word must have a label; got {num_labels} labels for {num_words} words"
                raise RowError(rows[number], rule)
            ids = [read_at(rows[number], columns.label, classes.id_of, label) for label in labels]
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


def with_spaces(tokenizer: Any, texts: list[list[str]]) -> list[list[str]]:
    """Return lists of words, with the spaces between them where the words need these to become the tokens of a text."""
    in_text, without, within = (
        tokenizer(words, is_split_into_words=not isinstance(words, str), add_special_tokens=False)["input_ids"]
        for words in ("a a", ["a", "a"], ["a", " a"])
    )
    if without == in_text or within != in_text:
        return texts
    return [[*words[:1], *(f" {word}" for word in words[1:])] for words in texts]


def _masked(
    model: Any,
    tokenizer: Any,
    data: datasets.Dataset,
    columns: Columns,
    max_length: int | None,
    hides_once: bool = True,
) -> Any:
    require_text(data, columns.text)
    rows = pack(tokenizer, data, columns.text, longest_text(model, tokenizer, max_length))
    collate = MaskingCollator(tokenizer)
    return mask_once(rows, collate) if hides_once else rows, collate


def _images(model: Any, processor: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    require(data, columns.image)
    labels = _labels(model.config, data, columns.label)
    rows = pixels(model.config, processor, data.select_columns([columns.image]), columns.image, labels=labels)
    return rows, default_data_collator


def _masked_images(
    model: Any,
    processor: Any,
    data: datasets.Dataset,
    columns: Columns,
    max_length: int | None,
    hides_once: bool = True,
) -> Any:
    require(data, columns.image)
    rows = pixels(model.config, processor, data.select_columns([columns.image]), columns.image)
    collate = PatchMaskingCollator(num_patches(model.config))
    return mask_images_once(rows, collate) if hides_once else rows, collate


def _questions(
    model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None, **options: Any
) -> Any:
    require_text(data, columns.question, columns.context)
    window = longest_text(model, tokenizer, max_length, pair=True)
    names = {name: getattr(columns, name) for name in ("question", "context", "answers")}
    return question_rows(tokenizer, data, window=window, **names, **options)


def _choices(model: Any, tokenizer: Any, data: datasets.Dataset, columns: Columns, max_length: int | None) -> Any:
    texts = [name for name in (columns.context, columns.question) if name in data.column_names] or [columns.context]
    require_text(data, *texts)
    longest = longest_text(model, tokenizer, max_length, pair=True)
    return choice_rows(tokenizer, data, texts=texts, choices=columns.choices, label=columns.label, longest=longest)


_BUILDERS: dict[str, Callable[..., tuple[datasets.Dataset, Callable]]] = {
    "ForSequenceClassification": _sequences,
    "ForTokenClassification": _tokens,
    "ForQuestionAnswering": _questions,
    "ForMultipleChoice": _choices,
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
    with placed(data):
        for name in names:
            for row, value in enumerate(data[name][:]):
                if not isinstance(value, str):
                    raise RowError(row, f"column {name!r} must hold text; got {value!r}")


def longest_text(model: PreTrainedModel, tokenizer: Any, max_length: int | None, pair: bool = False) -> int:
    """Return the longest text in tokens: what is asked for, else what both the model and the tokenizer take.

    Where neither says it, it is 512.

    Raises:
        DataError: The model does not take what is asked for.
    """
    shortest, most = tokenizer.num_special_tokens_to_add(pair) + 1, cost.longest_text(model)
    longest = min(tokenizer.model_max_length, max_length or ANY_LENGTH) if most is None else most
    if max_length is not None and not shortest <= max_length <= longest:
        raise DataError(f"max_length must lie in [{shortest}, {longest}] for this model; got {max_length}")
    return max_length or max(shortest, min(longest, tokenizer.model_max_length))


def _labels(config: Any, data: datasets.Dataset, column: str) -> list:
    if has_several_labels(config):
        return label_vectors(config, data, column)
    require(data, column)
    read = number_of if is_regression(config) else Classes.of(config, data.features[column]).id_of
    return [read_at(row, column, read, value) for row, value in enumerate(column_values(data, column))]


def is_regression(config: Any) -> bool:
    """Return whether a config describes a head that predicts numbers."""
    return config.num_labels == 1 or config.problem_type == "regression"
