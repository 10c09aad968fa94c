"""A checkpoint that answers: its model with all depths, what it reads, and the policy of early exit beside it."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..conversion.loader import load_model
from ..data.pixels import PictureEncoder
from ..data.rows import is_regression, load_processor
from ..depth.cost import example_inputs
from ..depth.layers import layers_of
from ..depth.outputs import depth_outputs
from ..depth.self_check import check_by_example
from ..embeddings.loading import MODULES, load_sentence_transformer
from ..embeddings.reading import DepthReader
from ..exits.early_exit import check_fits
from ..exits.kept import KEPT_NAME, load_exits
from ..exits.policies import ExitPolicy
from ..report.record import RECORD_NAME, ReportRecord
from ..support.auto_classes import auto_class_for, task_of
from ..support.sentence_models import inner_model

CLASSES, LABELS, NUMBERS, TAGS, SIMILARITY = "classes", "labels", "numbers", "tags", "similarity"
"""What an answer is: one of several classes, several labels at once, numbers, a tag for each word, or how like each
other two texts are."""
READS = {
    "AutoModelForSequenceClassification": "texts",
    "AutoModelForTokenClassification": "texts",
    "AutoModelForImageClassification": "pictures",
}
"""The heads that the app has an answer of, and what they read."""


class UnsupportedError(ValueError):
    """A checkpoint whose answers the app cannot show."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model that answers at every depth. Nothing changes it, so several threads may ask it at once.

    Args:
        name (`str`): What it is called on the page.
        model (`PreTrainedModel` or `SentenceTransformer`): In eval mode.
        processor: Its tokenizer, or what makes pixel values of pictures.
        kind (`str`): What its answers are: `"classes"`, `"labels"`, `"numbers"`, `"tags"` or `"similarity"`.
        depths (`tuple[int, ...]`): Those that it has, ascending; the last one is full depth.
        policy (`ExitPolicy`, *optional*): Of early exit.
        record (`ReportRecord`, *optional*): Of the compression that it comes from.
    """

    name: str
    model: Any
    processor: Any
    kind: str
    depths: tuple[int, ...]
    policy: ExitPolicy | None = None
    record: ReportRecord | None = None
    tokenizing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    """Held while texts are cut into tokens: how long they may be stands in a place that all threads share."""

    @property
    def reads_pictures(self) -> bool:
        """Whether it answers to pictures, and not to texts."""
        return isinstance(self.processor, PictureEncoder)

    @property
    def asks(self) -> str:
        """What to do to be answered."""
        if self.kind == SIMILARITY:
            return "Type two texts"
        return "Drop a picture" if self.reads_pictures else "Type a text"

    @property
    def inner(self) -> Any:
        """The model of transformers."""
        return inner_model(self.model)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes, labels, tags or numbers, in the order of their ids."""
        if self.kind == SIMILARITY:
            return ("cosine similarity",)
        named = self.model.config.id2label or {}
        return tuple(str(named.get(number, number)) for number in range(self.model.config.num_labels))


def load_checkpoint(
    source: str | os.PathLike,
    *,
    name: str | None = None,
    exits: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
) -> Checkpoint:
    """Load a checkpoint that can answer, whole, with what lies beside it.

    Args:
        source (`str` or `os.PathLike`): A folder, or a name on the Hub: an ACN, any model of transformers with one
            stack of layers that classifies texts, pictures or words or predicts numbers, or a `SentenceTransformer`.
        name (`str`, *optional*): What it is called. Defaults to the name of the folder, or that on the Hub.
        exits (`str` or `os.PathLike`, *optional*): JSON file of an `ExitCalibration` or an `EarlyExitReport`. Defaults
            to `exits.json` beside the checkpoint, if it is there.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where it answers.

    Raises:
        DataError: No tokenizer or image processor lies beside it.
        DepthError: Its layers are not a plain stack, or the policy names a depth that it does not have.
        OSError: There is no checkpoint, or no file of the policy.
        TypeError: The policy does not fit its head.
        UnsupportedError: It has a head of which the app has no answer, or `exits` is of a `SentenceTransformer`, which
            has none.
        ValueError: A file beside it is damaged.
    """
    source = os.fspath(source)
    name = name or _name_of(source)
    if file_beside(source, MODULES) is not None:
        if exits is not None:
            raise UnsupportedError(f"early exit is for models that choose an answer; {source} is a SentenceTransformer")
        model = load_sentence_transformer(source, str(device))
        reader = DepthReader(model)
        return Checkpoint(name, model, model.tokenizer, SIMILARITY, reader.depths)
    model = load_model(source).to(device).eval()
    head = auto_class_for(type(model)) or ""
    if model.main_input_name != {"texts": "input_ids", "pictures": "pixel_values"}.get(READS.get(head, "")):
        task = task_of(head, model.main_input_name) or head or "another task"
        raise UnsupportedError(
            "the app answers with models that classify texts, pictures or words, predict numbers of them, or embed "
            f"texts (SentenceTransformer); {source} holds a {type(model).__name__}, which is for {task}"
        )
    processor = load_processor(model, source)
    if READS[head] == "pictures":
        processor = PictureEncoder.of(model.config, processor)
    depths = range(check_by_example(model), len(layers_of(model)) + 1)
    _warm_up(model)
    policy = _policy(source, exits)
    if policy is not None:
        check_fits(model, policy)
    found = file_beside(source, RECORD_NAME)
    record = None if found is None else ReportRecord.load(found)
    return Checkpoint(name, model, processor, _kind(head, model.config), tuple(depths), policy, record)


def load_checkpoints(
    sources: Sequence[str | os.PathLike],
    *,
    exits: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Checkpoint, ...]:
    """Load one checkpoint, or two that are asked the same.

    Args:
        sources (sequence of `str` or `os.PathLike`): See [`load_checkpoint`].
        exits (`str` or `os.PathLike`, *optional*): See [`load_checkpoint`]; of the first one.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`): Where they answer.

    Raises:
        UnsupportedError: One reads texts and the other pictures, or see [`load_checkpoint`], as of all other errors.
        ValueError: There are none, or more than two.
    """
    check_number(sources)
    named = [_name_of(os.fspath(source)) for source in sources]
    if len(set(named)) < len(named):  # two folders may be called the same
        named = [os.fspath(source) for source in sources]
    loaded = tuple(
        load_checkpoint(source, name=name, exits=None if place else exits, device=device)
        for place, (source, name) in enumerate(zip(sources, named, strict=True))
    )
    if len({one.reads_pictures for one in loaded}) > 1:
        reads = [f"{one.name} reads {'pictures' if one.reads_pictures else 'texts'}" for one in loaded]
        raise UnsupportedError(f"checkpoints side by side must read the same; {' and '.join(reads)}")
    return loaded


def check_number(sources: Sequence[str | os.PathLike]) -> None:
    """Raise `ValueError` unless there are one or two sources."""
    if isinstance(sources, (str, os.PathLike)) or not 1 <= len(sources) <= 2:
        given = sources if isinstance(sources, (str, os.PathLike)) else len(sources)
        raise ValueError(f"an app is of a list of one or two checkpoints; got {given}")


def file_beside(source: str, name: str) -> str | None:
    """Return where a file beside a checkpoint lies, in its folder or in the cache of the Hub; `None` if there is none.

    Args:
        source (`str`): A folder, or a name on the Hub.
        name (`str`): Of the file.
    """
    if Path(source).exists():
        path = Path(source, name)
        return str(path) if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return hf_hub_download(source, name)
    except (OSError, HFValidationError):  # no such file or repository, or no network: the model itself says which
        return None


def _name_of(source: str) -> str:
    return Path(source).absolute().name if Path(source).exists() else source


def _kind(head: str, config: Any) -> str:
    if head == "AutoModelForTokenClassification":
        return TAGS
    if is_regression(config):
        return NUMBERS
    return LABELS if config.problem_type == "multi_label_classification" else CLASSES


def _policy(source: str, exits: str | os.PathLike | None) -> ExitPolicy | None:
    path = file_beside(source, KEPT_NAME) if exits is None else exits
    return None if path is None else load_exits(Path(path)).policy


def _warm_up(model: Any) -> None:
    """Let the first pass do what upstream does once, before several threads ask."""
    with torch.no_grad():
        for _ in depth_outputs(model, example_inputs(model)):
            pass
