"""A checkpoint becomes another one: converted, or published."""

import os
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers import PreTrainedConfig, PreTrainedModel

from ..conversion import convert_back
from ..conversion.convert import from_residual, load_residual
from ..conversion.layouts import ConversionError, check_padding_side, layout_of
from ..conversion.loader import load_model
from ..conversion.timm_mixers import TimmMixer
from ..data.rows import DataError, load_processor
from ..embeddings.loading import is_sentence_transformer, load_sentence_transformer
from ..exits.kept import KEPT_NAME
from ..modeling.checkpoint import weight_files, written_beside
from .facts import CardFacts, collect
from .hub import push_files
from .model_card import write_into

RESULT_NAME = "result.json"
"""What `compress` found out."""
REPORT_FILES = ("report.html", "report.json")
"""The page of a result and its record, which show rows of the data."""
EVIDENCE_FILES = (RESULT_NAME, "compression.json", "depth_profile.json", "depth_profile.png", KEPT_NAME, *REPORT_FILES)
"""What was measured of a model that was in a folder before does not hold for another one. acn-hf 0.1 called the result
`compression.json`."""
PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.txt",
)
"""One of these lies beside every checkpoint that has a tokenizer or image processor."""
UNTRAINED = "has to be trained"
"""What the description of a conversion says if the result is of no use as it is."""


def convert_checkpoint(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    residual_scale: float | list[float] = 0.0,
    attention_residual: bool | None = None,
    readout: str = "auto",
    learn_residual_scale: bool = False,
    pooling: str | None = None,
    architecture: str | None = None,
    to_residual: bool = False,
    **facts: Any,
) -> CardFacts:
    """Write the ACN of a residual checkpoint, with its tokenizer or image processor and a model card.

    The files appear when all are complete. How the weights are taken over: [`from_residual`], and [`to_residual`] for
    the other direction.

    Args:
        source (`str` or `os.PathLike`): Folder or name on the Hub of a BERT or ViT, with any head or none, or of a
            Mixer that timm wrote; with `to_residual`, of an ACN of scale 1.
        folder (`str` or `os.PathLike`): The folder to write to.
        residual_scale (`float` or `list[float]`, *optional*, defaults to 0.0): See [`from_residual`].
        attention_residual (`bool`, *optional*): See [`from_residual`].
        readout (`"auto"` or `"sum"`, *optional*, defaults to `"auto"`): See [`from_residual`].
        learn_residual_scale (`bool`, *optional*, defaults to `False`): See [`from_residual`].
        pooling (`"cls"` or `"mean"`, *optional*): See [`from_residual`].
        architecture (`str`, *optional*): See [`from_residual`] and [`to_residual`].
        to_residual (`bool`, *optional*, defaults to `False`): Whether to write the model of transformers that an ACN of
            scale 1 computes, which needs no other argument but `architecture`.
        facts: What the card says besides; see [`write_model_card`].

    Returns:
        `CardFacts`: What the card says; `processor` is `None` if none lies beside the source.

    Raises:
        ConversionError: The weights do not map to an ACN, or the tokenizer pads texts on a side that they do not allow,
            or `folder` is `source`. With `to_residual`: the ACN does not compute what a model of transformers does.
        NotADirectoryError: `folder` or `source` is a file.
        NotAnAcnError: With `to_residual`: the checkpoint is not whole.
        OSError: There is no such checkpoint.
        StrictDataclassError: A field of the config is out of range.
        TypeError: A fact has a name that a card does not know, or, with `to_residual`, the checkpoint holds no ACN or
            another argument says how an ACN is made.

    Example:

    ```python
    >>> import tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification
    >>> from acn_hf import convert_checkpoint

    >>> config = BertConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     BertForSequenceClassification(config).save_pretrained(f"{folder}/bert")
    ...     facts = convert_checkpoint(f"{folder}/bert", f"{folder}/acn-bert", residual_scale=1.0)
    >>> facts.architecture, facts.is_residual
    ('AcnBertForSequenceClassification', True)

    ```
    """
    source, target = os.fspath(source), Path(folder)
    if Path(source).is_file():
        raise NotADirectoryError(f"a checkpoint must be a folder or a name on the Hub; {source} is a file")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise ConversionError(
            f"a converted model must lie beside what it was converted from, which stays; got {target} for both"
        )
    options = {
        "residual_scale": residual_scale,
        "attention_residual": attention_residual,
        "readout": readout,
        "learn_residual_scale": learn_residual_scale,
        "pooling": pooling,
    }
    if to_residual:
        given = [name for name, value in options.items() if value not in (None, False, 0.0, "auto")]
        if given:
            raise TypeError(
                f"to_residual=True makes no ACN, so {given[0]} must not be given; got {options[given[0]]!r}"
            )
        model, processor, description = _back(source, architecture)
    else:
        model, processor, description = _there(source, architecture, options)
    known = {
        "name": target.absolute().name,
        "base_model": None if Path(source).exists() else source,
        "description": description,
    }
    is_stale = weight_files(None)
    with written_beside(target, stale=lambda name: is_stale(name) or name in EVIDENCE_FILES) as beside:
        model.save_pretrained(beside)
        if processor is not None:
            processor.save_pretrained(beside)
        written = collect(beside, model, **{**known, **facts})
        write_into(beside, written, target, has_page=False)
    return written


def _there(source: str, architecture: str | None, options: dict[str, Any]) -> tuple[PreTrainedModel, Any, str]:
    """Return the ACN of a residual checkpoint, its processor, and what to say of it."""
    original, new = load_residual(source, architecture)
    model = from_residual(original, **options)
    if isinstance(original, TimmMixer):
        processor = original.image_processor()
    elif (processor := processor_beside(model, source)) is not None:
        check_padding_side(processor, type(original).__name__)
    return model, processor, _description(model, original, new)


def _back(source: str, architecture: str | None) -> tuple[PreTrainedModel, Any, str]:
    """Return the model of transformers in an ACN, its processor, and what to say of it."""
    acn = load_model(source, needs_head=False)
    model = convert_back.to_residual(acn, architecture=architecture)
    name = type(acn).__name__
    text = f"Converted from an `{name}` of residual scale 1, and computes what that computes; needs transformers alone."
    return model, processor_beside(acn, source), text


def processor_beside(model: PreTrainedModel, source: str) -> Any:
    """Return the tokenizer or image processor that lies beside a checkpoint, or `None` if none does.

    A vocabulary whose folder does not say which tokenizer it belongs to is none.

    Raises:
        DataError: What lies in the folder is that of another model, or cannot be read.
    """
    if Path(source).is_dir():
        there = [name for name in PROCESSOR_FILES if (Path(source) / name).is_file()]
        if there == ["vocab.txt"] and "model_type" not in PreTrainedConfig.get_config_dict(source)[0]:
            return None  # how it splits texts is said nowhere, and a guess would be silently wrong
        return load_processor(model, source) if there else None
    try:
        return load_processor(model, source)
    except DataError:  # on the Hub it shows only so that there is none
        return None


def _description(model: PreTrainedModel, original: Any, missing: list[str]) -> str:
    name = original.name if isinstance(original, TimmMixer) else type(original).__name__
    layout, kept = layout_of(name), model.state_dict()
    new = [weight for weight in map(layout.rename, missing) if weight in kept]
    if new:  # the checkpoint is that of another class
        name = (original.config.architectures or [name])[0]
        part = "pooler" if all("pooler." in weight for weight in new) else "head"
        new_part = f"new {part} ({', '.join(f'`{weight}`' for weight in new)})"
    config: Any = model.config
    scale = config.residual_scale
    if all(one == 1 for one in (scale if isinstance(scale, list) else [scale])) and config.readout == "auto":
        text = f"Converted from a `{name}`, and computes what that computes"
        text += f", but for its {new_part}, which is random and {UNTRAINED}." if new else "."
    else:
        text = f"Starts from the weights of a `{name}`, with other connections than these were trained with"
        text += f" and a {new_part}" if new else ""
        text += f": it {UNTRAINED} before it is of use."
    return text + (f" Texts must be padded on the {layout.padding_side}." if layout.padding_side else "")


def push_checkpoint(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
    create_pr: bool = False,
    replace_card: bool = False,
    report: bool = False,
    **facts: Any,
) -> CommitInfo:
    """Upload a checkpoint, or a SentenceTransformer, with its processor, card and evidence in one commit.

    The checkpoint is loaded first, so that none is uploaded that cannot be. Nothing else of the folder is uploaded: no
    state of a training, and no `training_args.bin`, which may hold a token.

    Args:
        folder (`str` or `os.PathLike`): The folder of the checkpoint; it is left as it is.
        repo_id (`str`): The repository; it is made if it does not exist.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str` or `bool`, *optional*): Defaults to the one of `hf auth login`.
        revision (`str`, *optional*): Branch to commit to; it is made if it does not exist.
        commit_message (`str`, *optional*, defaults to `"Upload model"`): First line of the commit.
        create_pr (`bool`, *optional*, defaults to `False`): Whether to open a pull request instead.
        replace_card (`bool`, *optional*, defaults to `False`): Whether the folder's `README.md` takes the place of the
            one that the repository has. If not, that one is kept, and what acn-hf says in it is brought up to date.
        report (`bool`, *optional*, defaults to `False`): Whether the page of the result and its record are uploaded
            too, if there are any. They show rows of the data to whoever may read the repository.
        facts: What the card says besides; see [`write_model_card`].

    Returns:
        `CommitInfo`: Of `huggingface_hub`.

    Raises:
        DepthError: The checkpoint lacks weights of some layer.
        HfHubHTTPError: The Hub refuses; the repository is as it was.
        NotADirectoryError: `folder` is no folder.
        NoSentenceTransformerError: A SentenceTransformer lacks weights of some layer.
        NotAnAcnError: It holds no ACN, or not all of its weights.
        OSError: It holds no checkpoint.
        TypeError: A fact has a name that a card does not know.

    Example:

    ```python
    >>> from acn_hf import push_checkpoint

    >>> push_checkpoint("no-such-folder", "someone/acn")
    Traceback (most recent call last):
    NotADirectoryError: the place to upload from must be a folder; no-such-folder is none

    ```
    """
    path = Path(folder)
    if not path.is_dir():
        raise NotADirectoryError(f"the place to upload from must be a folder; {path} is none")
    return push_files(
        path,
        repo_id,
        load_sentence_transformer(path, "cpu") if is_sentence_transformer(path) else load_model(path, needs_head=False),
        private=private,
        token=token,
        revision=revision,
        commit_message=commit_message,
        create_pr=create_pr,
        replace_card=replace_card,
        also=REPORT_FILES if report else (),
        facts=facts,
    )
