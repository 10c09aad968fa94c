"""All that a page shows, in one record, from which it can be made again."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from .._version import __version__
from ..exits.calibration import ExitCalibration
from ..exits.report import EarlyExitReport
from ..support.records import Record
from .answers import Answers, Measurements
from .band import losses_of
from .chosen_examples import IN_A_LIST, ChosenExamples, choose_examples
from .class_figures import ClassFigures, class_figures
from .figures import Figures
from .residuals import Residuals, residuals_of
from .rows import shown_rows

RECORD_NAME = "report.json"
"""What lies beside a page, so that it can be made again."""
RESULTS = ("result.json", "compression.json")
"""What a result is called, and what acn-hf 0.1 called it."""


class Measured(Protocol):
    """What a page reads of a `CompressionResult`."""

    @property
    def measurements(self) -> Measurements | None: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class ReportRecord(Record):
    """All that a page shows.

    Args:
        name (`str`): The title.
        figures (`Figures`): Those of `result.json`.
        losses (`dict[int, tuple[float, float]]`): What each depth loses against full depth, as it was, lies between
            these, with 95% confidence; what it gains is a loss below 0.
        classes (`ClassFigures`, *optional*): Of classifiers.
        residuals (`Residuals`, *optional*): Of models that predict numbers.
        examples (`ChosenExamples`, *optional*): What is shown of the data.
        exits (`dict`, *optional*): What a policy of early exit does; an [`EarlyExitReport`] or [`ExitCalibration`].
        command (`str`, *optional*): The command that made the result.
        absent (`dict[str, str]`): Why there is no part of these names.
        version (`str`): Of acn_hf.

    Raises:
        ValueError: A part is of other depths than the profile.
    """

    _records: ClassVar[dict[str, type[Record]]] = {
        "figures": Figures,
        "classes": ClassFigures,
        "residuals": Residuals,
        "examples": ChosenExamples,
    }

    name: str
    figures: Figures
    losses: dict[int, tuple[float, float]]
    classes: ClassFigures | None
    residuals: Residuals | None
    examples: ChosenExamples | None
    exits: dict[str, Any] | None
    command: str | None
    absent: dict[str, str]
    version: str

    def __post_init__(self) -> None:
        depths = set(self.figures.profile.depths)
        parts: dict[str, Iterable[int]] = {"losses": self.losses}
        parts |= {name: part.at for name in ("classes", "residuals") if (part := getattr(self, name)) is not None}
        if self.examples is not None:
            parts |= {"lost": self.examples.lost, "gained": self.examples.gained}
        for name, part in parts.items():
            if not set(part) <= depths:
                raise ValueError(f"{name} must be of the depths {sorted(depths)}; got {sorted(part)}")
        if not isinstance(self.name, str) or not isinstance(self.absent, dict):
            raise ValueError(f"a report must have a name and say what is absent; got {self.name!r}, {self.absent!r}")

    @classmethod
    def of(
        cls,
        result: Measured,
        *,
        name: str = "Compression",
        rows: Any = None,
        processor: Any = None,
        columns: Any = None,
        examples: int = IN_A_LIST,
        exits: EarlyExitReport | ExitCalibration | None = None,
        command: str | None = None,
    ) -> Self:
        """Return what a page shows of a result; see [`CompressionResult.report`]."""
        if isinstance(examples, bool) or not isinstance(examples, int) or examples < 0:
            raise ValueError(f"examples must be a whole number >= 0; got {examples!r}")
        figures = Figures.from_dict(result.to_dict())
        answers = None if result.measurements is None else result.measurements.answers()
        chosen = None
        if answers is not None and answers.is_by_example:
            chosen = choose_examples(answers, shown_rows(rows, processor, columns, answers.num_examples), examples)
        losses = {} if answers is None else losses_of(answers)
        if losses and figures.interval is not None:  # what the result says of the chosen depth holds
            losses[figures.depth] = figures.interval
        classes = None if answers is None else class_figures(answers)
        residuals = None if answers is None else residuals_of(answers)
        parts = {"classes": classes or residuals, "examples": chosen, "losses": losses, "texts": rows}
        return cls(
            name=name,
            figures=figures,
            losses=losses,
            classes=classes,
            residuals=residuals,
            examples=chosen,
            exits=None if exits is None else exit_figures(exits),
            command=command,
            absent=_absent(parts, figures, answers, examples),
            version=__version__,
        )

    @classmethod
    def of_folder(cls, folder: str | os.PathLike) -> Self:
        """Return the record in a folder, or what can be said by `result.json` alone.

        Raises:
            FileNotFoundError: There is neither.
            ValueError: The file is damaged.
        """
        path = Path(folder)
        if (path / RECORD_NAME).is_file():
            return cls.load(path / RECORD_NAME)
        for name in RESULTS:
            if (path / name).is_file():
                figures = Figures.load(path / name)
                why = f"it was made of {name}, which holds no examples; acn-hf compress --report keeps what is needed"
                absent = dict.fromkeys(("classes", "examples", "losses"), why)
                return cls(path.absolute().name, figures, {}, None, None, None, None, None, absent, __version__)
        raise FileNotFoundError(
            f"a report is made of {RECORD_NAME}, of result.json, or of the trainer_state.json of a run; {path} holds "
            "none of them"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that JSON can hold, whose own keys are text."""
        return {**super().to_dict(), "losses": {str(depth): list(ends) for depth, ends in self.losses.items()}}

    @classmethod
    def _values(cls, fields: dict[str, Any]) -> dict[str, Any]:
        losses = {int(depth): (float(low), float(high)) for depth, (low, high) in fields["losses"].items()}
        return {**super()._values(fields), "losses": losses}


def is_result(folder: Path) -> bool:
    """Return whether a folder holds the result of a compression."""
    return any((folder / name).is_file() for name in (RECORD_NAME, *RESULTS))


def exit_figures(exits: EarlyExitReport | ExitCalibration) -> dict[str, Any]:
    """Return what a page shows of a policy of early exit."""
    counts = list(exits.exit_counts) if isinstance(exits, EarlyExitReport) else None
    return {
        "policy": str(exits.policy),
        "accuracy": exits.accuracy,
        "full_depth_accuracy": exits.full_depth_accuracy,
        "mean_depth": exits.mean_depth,
        "num_examples": exits.num_examples,
        "exit_counts": counts,
    }


def _absent(parts: dict[str, Any], figures: Figures, answers: Answers | None, examples: int) -> dict[str, str]:
    """Return for each part that is not there why it is not."""
    metric = figures.profile.metric
    why = {}
    if answers is None:
        why = dict.fromkeys(
            ("classes", "examples", "losses"), "the result holds no answers to single examples, as it was measured"
        )
    elif answers.kind is None:
        reason = (
            f"{metric} is made of losses, so single answers are not kept"
            if answers.metric.needs == "loss"
            else "the answers of this task are neither a few classes nor numbers"
        )
        why = {"classes": f"there is nothing to say of single classes: {reason}", "examples": reason}
    elif answers.kind in ("choices", "answers"):
        why["classes"] = f"there is nothing to say of single classes: {answers.kind} are not the same in every example"
    elif not answers.is_by_example:
        why["examples"] = f"{metric} counts words, and does not say of which text; entity_f1 does"
    if examples == 0:
        why["examples"] = "none was asked for"
    if parts["losses"] == {}:
        why.setdefault("losses", "the examples are too few for a band of confidence")
    if parts["texts"] is None and parts["examples"] is not None:
        why["texts"] = "rows are named by their numbers: report(path, rows=...) was not given the texts or pictures"
    if figures.tradeoffs is None:
        why["costs"] = "latency and megabytes were measured of the whole and of the short model alone"
    return why
