"""Arguments and groups of options that several commands share, each said once."""

import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..depth.metrics import METRICS, ProfileError, resolve_metric
from .base import errors, warn

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel

    from ..data.rows import Columns

_data = functools.partial(typer.Option, rich_help_panel="Data")
_choice = functools.partial(typer.Option, rich_help_panel="Choice of the depth")
_conversion = functools.partial(typer.Option, rich_help_panel="Residual checkpoints")
_finetuning = functools.partial(typer.Option, rich_help_panel="Fine-tuning")


def _scales(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"must be a number or numbers between commas; got {text!r}") from None


Model = Annotated[str, typer.Argument(help="Checkpoint folder or Hub id.")]
DATA = "Hub name, CSV, TSV, Parquet, JSON or text file, image folder, or saved data set."
Data = Annotated[str, typer.Argument(help=DATA)]
Device = Annotated[str, typer.Option(help="Where to run, e.g. cuda.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over what is there.")]
Depth = Annotated[int | None, typer.Option(min=0, help="Cut at this depth.")]
SCALES = "In [0, 1], one number or one a layer: 1 computes what the checkpoint computes, 0 is the ACN, to be trained."
residual_scale_option = functools.partial(typer.Option, parser=_scales, metavar="NUMBER[,NUMBER...]", show_default="1")


@dataclass(frozen=True)
class DataOptions:
    """Which rows are read, and how."""

    name: Annotated[str | None, _data(help="Configuration of a data set of the Hub.")] = None
    split: Annotated[str | None, _data(help="Split to read; defaults to validation, else test, else train.")] = None
    text_column: Annotated[str, _data(help="Column of texts (or of word lists).")] = "text"
    text_pair_column: Annotated[str | None, _data(help="Column of the second texts of pairs.")] = None
    image_column: Annotated[str, _data(help="Column of images.")] = "image"
    label_column: Annotated[
        str, _data(help="Column of labels, of lists of several, or with commas the columns of the classes.")
    ] = "label"
    question_column: Annotated[str, _data(help="Column of questions.")] = "question"
    context_column: Annotated[str, _data(help="Column of the texts that questions or choices are about.")] = "context"
    answers_column: Annotated[str, _data(help="Column of answers: of SQuAD, or texts.")] = "answers"
    choices_column: Annotated[
        str, _data(help="Column of lists of choices, or what numbered columns begin with: ending for ending0, ...")
    ] = "choices"
    batch_size: Annotated[int, _data(min=1, help="Examples in a batch.")] = 32
    max_length: Annotated[int | None, _data(min=1, help="Longest text in tokens.")] = None
    max_examples: Annotated[int | None, _data(min=1, help="Measure a fixed random sample of so many examples.")] = None
    separator: Annotated[
        str | None,
        _data(
            help="Character between the columns of all CSV files.",
            show_default="a comma, in TSV a tab, or what the header of each file shows",
        ),
    ] = None
    encoding: Annotated[
        str | None, _data(help="Encoding of CSV, JSON and text files, e.g. latin-1.", show_default="UTF-8")
    ] = None
    incomplete: Annotated[
        Literal["skip", "refuse"],
        _data(
            help="Rows without text, image or label: skip leaves them out and says how many, refuse ends the command. "
            "In CSV files NA, null and the like are empty too."
        ),
    ] = "skip"

    def measured(self, model: "PreTrainedModel", processor: Any, source: str) -> "tuple[datasets.Dataset, Callable]":
        """Return the rows to measure on, and the function that makes a batch of them."""
        from ..data.tasks import reads_labels

        rows = self.sample(self.read(source, self.split, with_labels=reads_labels(model)))
        return self.prepared(model, processor, rows, source)

    def sample(self, rows: "datasets.Dataset") -> "datasets.Dataset":
        """Return the rows to measure on, of all that were read."""
        if self.max_examples is None:
            return rows
        return rows.shuffle(seed=0).select(range(min(self.max_examples, len(rows))))

    def read(
        self,
        source: str,
        split: str | Sequence[str] | None = None,
        *,
        with_labels: bool = True,
        with_blanks: bool | None = None,
    ) -> "datasets.Dataset":
        """Return the rows of a data set that are complete, and say how many are not; see [`complete_rows`]."""
        from ..data.checks import complete_rows, require_inputs
        from ..data.files import load_data
        from ..data.idx import DataError
        from ..data.places import named

        rows = load_data(source, name=self.name, split=split, separator=self.separator, encoding=self.encoding)
        self._say_separator(rows)
        with named(source):
            require_inputs(rows, self.columns)
        rows, left_out = complete_rows(rows, self.columns, with_labels=with_labels, with_blanks=with_blanks)
        if left_out is not None:
            if self.incomplete == "refuse":
                raise DataError(f"every row must be complete (--incomplete skip leaves others out); {left_out}")
            warn(f"{source}: {left_out}")
        return rows

    def _say_separator(self, rows: "datasets.Dataset") -> None:
        """Say what stands between the columns of a file, where it is not what its name lets expect."""
        from ..data.files import file_format, separator_of, usual_separator
        from ..data.places import file_of

        path = file_of(rows)
        if self.separator is not None or path is None or file_format(path) != "csv":
            return
        found = separator_of(path, {} if self.encoding is None else {"encoding": self.encoding})
        if found != usual_separator(path):
            errors.print(f"{path}: its columns are separated by {found!r}")

    def prepared(
        self,
        model: "PreTrainedModel",
        processor: Any,
        rows: "datasets.Dataset",
        source: str,
        *,
        is_trained_on: bool = False,
    ) -> Any:
        """Return rows as the model takes them, with the function that makes a batch, and say which texts are cut."""
        from ..data.checks import cut_texts
        from ..data.places import named
        from ..data.rows import prepare

        with named(source):
            prepared, collate = prepare(
                model, processor, rows, self.columns, max_length=self.max_length, is_trained_on=is_trained_on
            )
        cut = cut_texts(model, processor, rows, self.columns, prepared, max_length=self.max_length)
        if cut is not None:
            errors.print(f"{source}: {cut}")
        return prepared, collate

    @property
    def columns(self) -> "Columns":
        """The names of the columns to read."""
        from ..data.rows import Columns

        return Columns(
            text=self.text_column,
            text_pair=self.text_pair_column,
            image=self.image_column,
            label=self.label_column,
            question=self.question_column,
            context=self.context_column,
            answers=self.answers_column,
            choices=self.choices_column,
        )


@dataclass(frozen=True)
class ChoiceOptions:
    """What is measured, and which depth is good enough."""

    metric: Annotated[
        Any,
        _choice(
            parser=str,
            metavar="METRIC",
            help=f"One of {', '.join(METRICS)}; or your own: metric.py:function or module:function. "
            "Defaults by the head.",
        ),
    ] = None
    lower_is_better: Annotated[bool, _choice("--lower-is-better", help="Your own metric is good when it is low.")] = (
        False
    )
    tolerance: Annotated[
        float | None, _choice(min=0.0, help="How much worse than full depth the metric may be.", show_default="0.005")
    ] = None
    relative: Annotated[bool, _choice("--relative", help="The tolerance is a fraction of the full metric.")] = False
    confidence: Annotated[float | None, _choice(help="In (0, 1): a paired bootstrap must exclude a larger loss.")] = (
        None
    )

    def __post_init__(self) -> None:
        if self.lower_is_better and self.metric in METRICS:
            raise typer.BadParameter(f"--lower-is-better is for a metric of your own; {self.metric} is known")
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise typer.BadParameter(f"confidence must lie in (0, 1); got {self.confidence}")

    def of_labels(self) -> Any:
        """Return the metric that was asked for, of predictions and labels; `None` if none was."""
        if self.metric is None:
            if self.lower_is_better:
                raise typer.BadParameter("--lower-is-better is for --metric, which must be given too")
            return None
        try:
            return resolve_metric(self.metric, False if self.lower_is_better else None)
        except ProfileError as error:
            raise typer.BadParameter(str(error)) from None

    def check_unused(self, depth: int) -> None:
        """Refuse what would choose a depth where one is given."""
        asked = [name for name in ("tolerance", "relative", "confidence") if getattr(self, name) not in (None, False)]
        if asked:
            raise typer.BadParameter(f"--depth {depth} leaves nothing to choose; --{asked[0]} must not be given")

    @property
    def how(self) -> dict[str, Any]:
        """The arguments of `DepthProfile.effective_depth`."""
        tolerance = 0.005 if self.tolerance is None else self.tolerance
        return {"tolerance": tolerance, "relative": self.relative, "confidence": self.confidence}


@dataclass(frozen=True)
class ConversionOptions:
    """Whether the checkpoint is that of a residual network."""

    convert: Annotated[
        bool, _conversion("--convert", help="Take a plain BERT or ViT checkpoint for the ACN that it can be.")
    ] = False
    residual_scale: Annotated[
        Any, residual_scale_option(help=f"With --convert. {SCALES}", rich_help_panel="Residual checkpoints")
    ] = None

    def __post_init__(self) -> None:
        if self.residual_scale is not None and not self.convert:
            raise typer.BadParameter("--residual-scale is for --convert, which must be given too")

    def load(self, source: str, device: str = "cpu", *, needs_head: bool = True) -> Any:
        """Load a checkpoint, converted if that was asked for."""
        from ..conversion.loader import load_model

        scale = scale_or_exact(self.residual_scale) if self.convert else None
        return load_model(source, residual_scale=scale, needs_head=needs_head).to(device)

    def load_processor(self, model: "PreTrainedModel", source: str) -> Any:
        """Load the tokenizer or image processor of a checkpoint that was loaded from `source`."""
        from ..conversion.convert import saved_as
        from ..conversion.layouts import check_padding_side
        from ..data.rows import load_processor

        processor = load_processor(model, source)
        if self.convert:
            check_padding_side(processor, saved_as(source))
        return processor


@dataclass(frozen=True)
class FinetuningOptions:
    """Whether and how the model is fine-tuned after it is cut."""

    finetune: Annotated[
        str | None, _finetuning(help="Data to train the cut model on; the same columns as DATA.", metavar="TRAIN_DATA")
    ] = None
    finetune_split: Annotated[str | None, _finetuning(help="Split to train on.", show_default="train")] = None
    finetune_epochs: Annotated[
        float | None, _finetuning(min=0.0, help="How often each example is seen.", show_default="3")
    ] = None
    finetune_batch_size: Annotated[int | None, _finetuning(min=1, help="Examples in a step.", show_default="32")] = None

    def __post_init__(self) -> None:
        asked = given(self)
        if asked and self.finetune is None:
            raise typer.BadParameter(f"--{asked[0].replace('_', '-')} is for --finetune, which must be given too")

    @property
    def train_split(self) -> str:
        """The split to train on."""
        return self.finetune_split or "train"

    @property
    def epochs(self) -> float:
        """How often each example is seen."""
        return 3.0 if self.finetune_epochs is None else self.finetune_epochs


def given(group: Any) -> list[str]:
    """Return the names of those options of a group that are not what they are by default."""
    return [field.name for field in fields(group) if getattr(group, field.name) != field.default]


def check_apart(option: str, trained: str, trained_split: str, measured: str, split: str | None) -> None:
    """Refuse to measure on what is trained on, as far as that can be seen from the paths."""
    if _same_place(trained, measured) and (Path(measured).is_file() or split == trained_split):
        raise typer.BadParameter(f"{option} must train on other data than those it is measured on; got {measured}")


def scale_or_exact(numbers: list[float] | None) -> float | list[float]:
    """Return the residual scale that was asked for: one number, one a layer, or by default the exact one."""
    numbers = numbers or [1.0]
    return numbers[0] if len(numbers) == 1 else numbers


def check_folder(target: Path, overwrite: bool, source: str | None = None) -> None:
    """Refuse a folder that cannot be written to, that holds something, or that is `source`, before anything is done."""
    if source is not None and _same_place(target, source):
        raise typer.BadParameter(f"the target must be another folder than the source; {target} is {source}")
    if target.exists() and not target.is_dir():
        raise typer.BadParameter(f"the target must be a folder; {target} is a file")
    check_writable(target)
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise typer.BadParameter(f"the target folder must be empty; {target} is not (--overwrite writes into it)")


def _same_place(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths lead to the same place, however they are written."""
    return Path(one).resolve() == Path(other).resolve()


def check_files(overwrite: bool, *targets: Path) -> None:
    """Refuse files that cannot be written, or that are there, before anything is done."""
    for target in targets:
        if target.is_dir():
            raise typer.BadParameter(f"--out must be a file; {target} is a folder")
        check_writable(target)
        if target.exists() and not overwrite:
            raise typer.BadParameter(f"{target} is there already (--overwrite writes over it)")


def check_is_folder(folder: Path, what: str) -> None:
    """Refuse a place that is no folder, before anything that takes long is imported."""
    if not folder.is_dir():
        raise typer.BadParameter(f"{what} must be a folder; {folder} is none")


def check_writable(target: Path) -> None:
    """Refuse a place that cannot be written to, as far as can be seen by making something there and removing it."""
    if target.is_symlink() and not target.exists():
        raise typer.BadParameter(f"{target} cannot be made; it is a link to {target.readlink()}, which is not there")
    folder = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    if folder != target and not folder.is_dir():
        raise typer.BadParameter(f"{target} cannot be made; {folder} is a file")
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{target} cannot be written; {folder} is read-only")
    folder = folder if folder.is_dir() else folder.absolute().parent
    try:
        with tempfile.TemporaryDirectory(dir=folder):
            pass
    except OSError as error:  # some folders say that they can be written to, as /proc does to root
        raise typer.BadParameter(
            f"{target} cannot be written; nothing can be made in {folder}: {error.strerror}"
        ) from None
