"""The command `compress`: from the checkpoint that somebody has to the small model that they want."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .base import command, console
from .compression_run import CompressionRun
from .embedding_options import EmbeddingOptions
from .embedding_run import EmbeddingRun
from .long_run import LongRun
from .options import (
    ChoiceOptions,
    ConversionOptions,
    Data,
    DataOptions,
    Depth,
    Device,
    FinetuningOptions,
    Overwrite,
    check_folder,
)
from .report import ReportOptions
from .teaching_options import LearningOptions, LimitOptions, TeachingOptions
from .work_folder import on_full_disk


@command("compress")
def compress_command(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint folder or Hub id, with the head of the task or without one; with --embeddings a "
            "SentenceTransformer."
        ),
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
    embedding: EmbeddingOptions,
    page: ReportOptions,
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
    trained without a teacher. With --embeddings a SentenceTransformer is cut where its embeddings are still like those
    of full depth; no labels are needed.
    """
    _check_one_choice(depth, choice, limits)
    shared: dict[str, Any] = {"source": model, "data": data, "out": out, "reading": data_options, "teaching": teaching}
    shared |= {"learning": learning, "device": device, "test": test, "test_split": test_split, "page": page}
    asked: dict[str, Any] = {**limits.given, "depth": depth}
    run: LongRun
    if embedding.embeddings:
        embedding.check_others(choice, test, data_options, teaching, conversion, finetuning)
        run, metric = EmbeddingRun(**shared, evaluator_source=embedding.evaluator), choice.metric
        asked |= {"greater_is_better": False} if choice.lower_is_better else {}
    else:
        run, metric = CompressionRun(**shared, conversion=conversion, finetuning=finetuning), choice.of_labels()
    run.check_apart()
    if teaching.resume and not overwrite and (done := run.done(depth)) is not None:
        console.print(done, end="\n" if done else "")
        return
    check_folder(out, overwrite, source=model)
    run.check_work_folder()
    page.check()
    asked |= {**choice.how, "tolerance": choice.tolerance}
    with on_full_disk(run.kept):
        run.read(strict=strict)
        if teaching.dry_run:
            from ..depth.choice import Choice
            from .plan import plan_of

            chosen = Choice(depth, limits.given, asked["tolerance"], choice.relative, choice.confidence)
            console.print(plan_of(run, depth, limits.given, chosen.searches(teaching.choose_healed)))
            return
        result = run.compress(metric=metric, strict=strict, **asked)
    if result is not None:  # else another process writes it
        _show(result)
        console.print(f"wrote {out}")


def _show(result: Any) -> None:
    """Print what came out."""
    from ..support.records import render

    console.print(render(result.depths_table()) if result.before is not None or result.healed else str(result.profile))
    if result.tradeoffs is not None:
        console.print(str(result.tradeoffs))
    console.print(str(result))
    if result.calmed is not None:
        console.print(f"Note: {result.calmed}.")


def _check_one_choice(depth: int | None, choice: ChoiceOptions, limits: LimitOptions) -> None:
    """Refuse several ways to choose a depth."""
    if depth is not None:
        choice.check_unused(depth)
    if not limits.given:
        return
    asked = [name for name in ("tolerance", "relative", "confidence") if getattr(choice, name) not in (None, False)]
    others = [*asked, *(["depth"] if depth is not None else [])]
    if others:
        value = f" {depth}" if others[0] == "depth" else ""
        limit = next(iter(limits.given)).replace("_", "-")
        raise typer.BadParameter(f"--{others[0]}{value} and --{limit} both choose the depth; give one of them")
