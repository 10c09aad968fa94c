"""The command `compress`: from the checkpoint that somebody has to the small model that they want."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .base import command, console
from .compression_run import CompressionRun
from .options import (
    ChoiceOptions,
    ConversionOptions,
    Data,
    DataOptions,
    Depth,
    Device,
    FinetuningOptions,
    Overwrite,
    check_apart,
    check_folder,
)
from .teaching_options import LearningOptions, LimitOptions, TeachingOptions
from .work_folder import on_full_disk


@command("compress")
def compress_command(
    model: Annotated[
        str, typer.Argument(help="Checkpoint folder or Hub id, with the head of the task or without one.")
    ],
    data: Data,
    out: Annotated[Path, typer.Argument(help="New folder for the short checkpoint, its profile and the picture.")],
    data_options: DataOptions,
    choice: ChoiceOptions,
    limits: LimitOptions,
    teaching: TeachingOptions,
    conversion: ConversionOptions,
    finetuning: FinetuningOptions,
    learning: LearningOptions,
    depth: Depth = None,
    test: Annotated[
        str | None, typer.Option(help="Data on which nothing is chosen; full and short model are measured on them.")
    ] = None,
    test_split: Annotated[str | None, typer.Option(help="Their split.", show_default="test, else validation")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what would only be warned about.")] = False,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Find the smallest depth that does the task, and write the model cut there: a checkpoint with its model card.

    With --teach the model teaches every depth of its own copy first, and what is cut off is made good for by the same
    teacher. A model without a head for the task gets one, and is fine-tuned before. With --finetune the cut model is
    trained without a teacher.
    """
    if depth is not None:
        choice.check_unused(depth)
    _check_one_choice(depth, choice, limits)
    learning.check_used(teaching.teach is not None or finetuning.finetune is not None)
    if teaching.teach is not None and finetuning.finetune is not None:
        raise typer.BadParameter("--teach and --finetune both train the cut model; give one of them")
    if finetuning.finetune is not None:
        check_apart("--finetune", finetuning.finetune, finetuning.train_split, data, data_options.split)
    if teaching.teach is not None:
        check_apart("--teach", teaching.teach, teaching.split, data, data_options.split)
    check_folder(out, overwrite, source=model)
    run = CompressionRun(
        model, data, out, data_options, conversion, teaching, finetuning, learning, device, test, test_split
    )
    if teaching.teach is not None:
        run.check_work_folder()
    with on_full_disk(run.kept):
        run.read(strict=strict)
    if teaching.dry_run:
        from .plan import plan_of

        searches = (
            depth is None and not limits.given and choice.confidence is None and teaching.choose_healed is not False
        )
        console.print(plan_of(run, depth, searches))
        return
    asked: dict[str, Any] = {**choice.how, **limits.given, "depth": depth, "strict": strict}
    if limits.given:
        asked["tolerance"] = None
    from ..support.records import render

    with on_full_disk(run.kept):
        result = run.compress(metric=choice.metric, **asked)
    if result is None:  # another process writes it
        return
    console.print(render(result.depths_table()) if result.before is not None or result.healed else str(result.profile))
    if result.tradeoffs is not None:
        console.print(str(result.tradeoffs))
    console.print(str(result))
    if result.calmed is not None:
        console.print(f"Note: {result.calmed}.")
    console.print(f"wrote {out}")


def _check_one_choice(depth: int | None, choice: ChoiceOptions, limits: LimitOptions) -> None:
    """Refuse limits beside what else chooses a depth."""
    if not limits.given:
        return
    asked = [name for name in ("tolerance", "relative", "confidence") if getattr(choice, name) not in (None, False)]
    others = [*asked, *(["depth"] if depth is not None else [])]
    if others:
        value = f" {depth}" if others[0] == "depth" else ""
        limit = next(iter(limits.given)).replace("_", "-")
        raise typer.BadParameter(f"--{others[0]}{value} and --{limit} both choose the depth; give one of them")
