"""The command `report`, and the options of the page that `compress` writes."""

import functools
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .base import command, console
from .options import Overwrite, check_files, check_is_folder

if TYPE_CHECKING:
    from ..compression.result import CompressionResult
    from ..data.rows import Columns
    from ..report.record import ReportRecord

_page = functools.partial(typer.Option, rich_help_panel="Page")


@dataclass(frozen=True)
class ReportOptions:
    """Whether a page is written, and what it shows of the data."""

    report: Annotated[
        bool, _page("--report", help="Write report.html too: every depth with its costs, classes and examples.")
    ] = False
    report_examples: Annotated[
        int | None,
        _page(min=0, help="Examples in a list of the page; 0 shows none of the data.", show_default="10"),
    ] = None

    def __post_init__(self) -> None:
        if self.report_examples is not None and not self.report:
            raise typer.BadParameter("--report-examples is for --report, which must be given too")

    def check(self) -> None:
        """Refuse a page that could not be written for want of a package, before anything takes long."""
        if self.report:
            from ..report.page import check_packages

            check_packages()

    def save(self, result: "CompressionResult", folder: Path, rows: Any, columns: "Columns", **saved: Any) -> None:
        """Write a short model with its evidence and its page; the model is written also where its page cannot be.

        Args:
            result (`CompressionResult`): Of this command.
            folder (`Path`): Where it is written; its name is the title.
            rows (`datasets.Dataset`): What was measured, as it was read.
            columns (`Columns`): What its columns are called.
            saved: Passed on to `result.save_pretrained`.
        """
        if not self.report:
            result.save_pretrained(folder, **saved)
            return
        try:
            result.save_pretrained(folder, report=self._record(result, rows, columns, folder.absolute().name), **saved)
        except Exception as error:
            result.save_pretrained(folder, **saved)
            error.add_note(f"without its page, the model lies in {folder}")
            raise

    def add_to(self, folder: Path) -> str | None:
        """Write the page of a result that is there already, if it is asked for, and say so; or say why it cannot be.

        Args:
            folder (`Path`): That of the result.
        """
        page, record = folder / "report.html", folder / "report.json"
        if not self.report or page.is_file():
            return None
        if not record.is_file():
            return (
                "There is no page: it shows answers to single examples, which are kept with --report alone. "
                f"`acn-hf report {folder}` makes one without them, of result.json; --overwrite does it all again."
            )
        self.check()
        from ..publishing.model_card import write_model_card
        from ..report.page import write_report
        from ..report.record import ReportRecord

        write_report(page, ReportRecord.load(record))
        write_model_card(folder)  # which links to it
        return f"wrote {page}, of {record.name}"

    def _record(self, result: "CompressionResult", rows: Any, columns: "Columns", name: str) -> "ReportRecord":
        """Return what the page of a result shows."""
        from ..report.chosen_examples import IN_A_LIST
        from ..report.record import ReportRecord

        return ReportRecord.of(
            result,
            rows=rows,
            columns=columns,
            name=name,
            command=shlex.join(["acn-hf", *sys.argv[1:]]),
            examples=IN_A_LIST if self.report_examples is None else self.report_examples,
        )


@command("report")
def report_command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder that `acn-hf compress` wrote, best with --report; or the output folder of a Trainer, whose "
            "log holds depth profiles."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The HTML file.", show_default="report.html in FOLDER")] = None,
    name: Annotated[str | None, typer.Option(help="Title.", show_default="the name of FOLDER")] = None,
    exits: Annotated[
        Path | None,
        typer.Option(help="JSON file of an EarlyExitReport or an ExitCalibration, which the page of a result shows."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Which metric of the log of a run, as the log calls it: eval_accuracy.",
            show_default="the one measured most often",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the page of a result again, from report.json, or from result.json alone, which holds no examples.

    Of the output folder of a Trainer it writes the page of the run: every depth over the steps, layers that left.
    """
    check_is_folder(folder, "the result")
    target = folder / "report.html" if out is None else out
    check_files(overwrite, target)
    from ..report.page import write_report
    from ..report.record import is_result
    from ..report.run_folder import logs_in

    if is_result(folder) or not logs_in(folder):
        _refuse(metric, "--metric", "the log of a run", folder)
        write_report(target, _result(folder, name, exits))
    else:
        from ..report.run_log import RunLog

        _refuse(exits, "--exits", "the result of a compression", folder)
        write_report(target, RunLog.of_folder(folder, metric=metric, name=name))
    console.print(f"wrote {target}")


def _refuse(value: Any, option: str, what: str, folder: Path) -> None:
    """Refuse an option that says nothing of what a folder holds."""
    if value is not None:
        raise typer.BadParameter(f"{option} is for {what}, and {folder} holds none")


def _result(folder: Path, name: str | None, exits: Path | None) -> "ReportRecord":
    """Return what the page of the result in a folder shows."""
    from ..exits.kept import load_exits
    from ..report.record import ReportRecord, exit_figures

    record = ReportRecord.of_folder(folder)
    if name is not None:
        record = replace(record, name=name)
    return record if exits is None else replace(record, exits=exit_figures(load_exits(exits)))
