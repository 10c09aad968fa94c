"""Options of `acn-hf compress --teach`: who teaches, on what, how long, and how a run goes on that was stopped."""

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import torch

from .options import given

_teaching = functools.partial(typer.Option, rich_help_panel="Teaching")
_run = functools.partial(typer.Option, rich_help_panel="Long runs")
_limit = functools.partial(typer.Option, rich_help_panel="Choice of the depth")

MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9}


def _count(text: str) -> float:
    """Return the number that a text says, as 20M or 1.5B."""
    number, factor = (text[:-1], MULTIPLES[text[-1].upper()]) if text[-1:].upper() in MULTIPLES else (text, 1.0)
    try:
        return float(number) * factor
    except ValueError:
        raise typer.BadParameter(f"must be a number, as 20M or 20000000; got {text!r}") from None


@dataclass(frozen=True)
class LimitOptions:
    """What the short model may cost."""

    max_latency_ms: Annotated[
        float | None,
        _limit(min=0.0, help="The best depth that takes so many milliseconds for one example here."),
    ] = None
    max_parameters: Annotated[
        Any, _limit(parser=_count, metavar="NUMBER", help="The best depth of so many parameters, e.g. 20M.")
    ] = None
    max_mb: Annotated[float | None, _limit(min=0.0, help="The best depth whose weights have so many megabytes.")] = None

    @property
    def given(self) -> dict[str, float]:
        """The limits that were given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class LearningOptions:
    """How a model is trained, by whom ever."""

    learning_rate: Annotated[
        float | None,
        _teaching(min=0.0, help="The highest; it falls to 0.", show_default="1e-4, with --finetune 5e-5"),
    ] = None
    seed: Annotated[
        int | None,
        _teaching(min=0, help="Of a new head, of the order of the examples and of dropout.", show_default="0"),
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bf16"] | None,
        _teaching(help="Of the passes; auto is bf16 where the machine computes with it.", show_default="auto"),
    ] = None

    def check_used(self, trains: bool) -> None:
        """Refuse them where nothing is trained."""
        asked = given(self)
        if asked and not trains:
            option = asked[0].replace("_", "-")
            raise typer.BadParameter(f"--{option} is for --teach or --finetune, one of which must be given too")

    def uses_bf16(self, device: "torch.device") -> bool:
        """Return whether passes are computed in bfloat16."""
        import torch

        if self.precision in ("float32", "bf16"):
            return self.precision == "bf16"
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        # Without such instructions a CPU computes bfloat16 more slowly than float32.
        asked = [getattr(torch.cpu, f"_is_{kind}_supported", None) for kind in ("avx512_bf16", "amx_tile")]
        return device.type == "cpu" and any(ask is not None and ask() for ask in asked)


@dataclass(frozen=True)
class TeachingOptions:
    """Whether and how every depth is taught before one is chosen, and healed when it is cut."""

    teach: Annotated[
        str | None,
        _teaching(help="Data to train on; the same columns as DATA. Every depth is taught.", metavar="TRAIN"),
    ] = None
    teach_split: Annotated[str | None, _teaching(help="Split to train on.", show_default="train")] = None
    task: Annotated[
        str | None,
        _teaching(help="What there is to learn, where the columns of TRAIN do not say it, e.g. regression."),
    ] = None
    tune_epochs: Annotated[
        float | None,
        _teaching(min=0.0, help="Epochs of plain fine-tuning at first.", show_default="2 for a new head, else 0"),
    ] = None
    teach_epochs: Annotated[
        float | None, _teaching(min=0.0, help="Epochs in which every depth is taught.", show_default="4")
    ] = None
    heal: Annotated[
        float | None,
        _teaching(
            min=0.0,
            help="Epochs in which a cut model is trained by the same teacher.",
            show_default="2; of embeddings as many as --teach-epochs",
        ),
    ] = None
    choose_healed: Annotated[
        bool | None,
        _teaching(
            "--choose-healed/--choose-taught",
            help="Whether smaller depths are cut and healed too, as long as they are good enough then.",
            show_default="choose-healed, unless a depth, a limit or a confidence is given",
        ),
    ] = None
    teacher: Annotated[
        str | None,
        _teaching(help="Checkpoint that teaches, also a larger one.", show_default="MODEL itself, fine-tuned"),
    ] = None
    soft_labels: Annotated[
        float | None,
        _teaching(
            min=0.01,
            max=1.0,
            help="Share of the teacher's answers in the loss; the rest are labels.",
            show_default="0.5",
        ),
    ] = None
    no_calm: Annotated[
        bool,
        _teaching(
            "--no-calm",
            help="Leave massive activations in the copy, where they keep lower depths from telling examples apart.",
        ),
    ] = False
    train_batch_size: Annotated[int | None, _teaching(min=1, help="Examples in a step.", show_default="32")] = None
    dry_run: Annotated[
        bool, _run("--dry-run", help="Say what would be done and how long it would take, by a few steps of each kind.")
    ] = False
    resume: Annotated[bool, _run("--resume", help="Go on where the same command was stopped.")] = False
    work_dir: Annotated[
        Path | None, _run(help="Where stages and checkpoints lie meanwhile.", show_default="OUT.work")
    ] = None
    keep_work: Annotated[bool, _run("--keep-work", help="Leave them there when it is done.")] = False
    checkpoint_every: Annotated[
        int | None, _run(min=1, help="Steps between checkpoints.", show_default="a tenth of a stage")
    ] = None

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) not in (None, False)]
        if given and self.teach is None:
            raise typer.BadParameter(f"--{given[0].replace('_', '-')} is for --teach, which must be given too")

    @property
    def split(self) -> str:
        """The split to train on."""
        return self.teach_split or "train"

    @property
    def epochs(self) -> dict[str, float | None]:
        """Epochs of each stage; `None` of fine-tuning where it depends on the head."""
        return {
            "tune": self.tune_epochs,
            "teach": 4.0 if self.teach_epochs is None else self.teach_epochs,
            "heal": 2.0 if self.heal is None else self.heal,
        }
