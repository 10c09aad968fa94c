"""Commands that measure: `profile`, `bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from ..depth.profile import DepthProfile

from .base import Shown, command, console, shown, warn
from .embedding_options import AS_IT_IS, EmbeddingOptions
from .embedding_texts import texts_in
from .options import (
    DATA,
    ChoiceOptions,
    ConversionOptions,
    DataOptions,
    Device,
    Model,
    Overwrite,
    check_files,
    given,
)


@command("profile")
def profile_command(
    model: Model,
    data_options: DataOptions,
    choice: ChoiceOptions,
    conversion: ConversionOptions,
    embedding: EmbeddingOptions,
    data: Annotated[str | None, typer.Argument(help=f"{DATA} Only --evaluator measures without.")] = None,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file for the profile; the picture goes beside it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a metric at every depth with one pass over the data.

    With --embeddings the model is a SentenceTransformer, and each text is embedded once, for all depths.
    """
    _check_data(data, data_options, embedding)
    if out is not None:
        check_files(overwrite, out, out.with_suffix(".png"))
    if embedding.embeddings:
        embedding.check_others(choice, None, data_options, conversion)
        profile, how = _of_embeddings(model, data, data_options, choice, embedding, device)
    else:
        profile, how = _of_labels(model, str(data), data_options, choice, conversion, device)
    depth = profile.effective_depth(**how)
    console.print(str(profile))
    console.print(f"effective depth: {depth} of {profile.depths[-1]} (tolerance {how['tolerance']:g})")
    if out is not None:
        from ..depth.drawing import plot_depth_profile

        figure = plot_depth_profile(profile, depth=depth).figure
        profile.save(out)
        figure.savefig(out.with_suffix(".png"))


def _check_data(data: str | None, reading: DataOptions, embedding: EmbeddingOptions) -> None:
    """Refuse no data, and data or options of data where an evaluator has its own."""
    if embedding.evaluator is None:
        if data is None:
            raise typer.BadParameter("DATA must be given; only --evaluator measures without")
        return
    said = "DATA" if data is not None else next((f"--{name.replace('_', '-')}" for name in given(reading)), None)
    if said is not None:
        raise typer.BadParameter(f"{said} must not be given with --evaluator, which has texts of its own")


def _of_labels(
    model: str, data: str, reading: DataOptions, choice: ChoiceOptions, conversion: ConversionOptions, device: str
) -> "tuple[DepthProfile, dict[str, Any]]":
    """Return the profile of a model with a head, and how its depth is chosen."""
    asked = choice.of_labels()
    from ..conversion.loader import NotAnAcnError
    from ..data.tasks import usual_metric
    from ..depth.profile import measure_depth_profile
    from ..embeddings.loading import is_sentence_transformer

    try:
        network = conversion.load(model, device)
    except NotAnAcnError as error:
        if is_sentence_transformer(model):
            error.add_note("as a SentenceTransformer it is measured with --embeddings")
        raise
    rows, collate = reading.measured(network, conversion.load_processor(network, model), data)
    batches = _batches(rows, collate, reading)
    return measure_depth_profile(network, batches, metric=asked or usual_metric(network)), choice.how


def _of_embeddings(
    model: str, data: str | None, reading: DataOptions, choice: ChoiceOptions, embedding: EmbeddingOptions, device: str
) -> "tuple[DepthProfile, dict[str, Any]]":
    """Return the profile of a SentenceTransformer, and how its depth is chosen."""
    from ..compression.embeddings import TOLERANCE
    from ..depth.profile import DepthProfile
    from ..embeddings.evaluator_source import load_evaluator
    from ..embeddings.loading import load_sentence_transformer
    from ..embeddings.profile import measure_embedding_profile
    from ..embeddings.references import NEIGHBOURS

    how = choice.how
    if embedding.evaluator is not None:
        judge, metric, reference = load_evaluator(embedding.evaluator), choice.metric, "evaluator"
    else:
        assert data is not None, "refused before"
        rows = reading.read(data, reading.split, with_labels=False, with_blanks=False)
        judge, metric, reference = texts_in(reading.sample(rows), reading.columns, data), choice.metric, "self"
        metric = NEIGHBOURS if metric is None else metric
        how |= {"tolerance": TOLERANCE} if choice.tolerance is None else {}
    profile = measure_embedding_profile(
        load_sentence_transformer(model, device),
        judge,
        reference=reference,
        metric=metric,
        batch_size=reading.batch_size,
        greater_is_better=False if choice.lower_is_better else None,
    )
    assert isinstance(profile, DepthProfile), "no dimensions are asked for"
    return profile, how


@command("bench")
def bench_command(
    model: Model,
    conversion: ConversionOptions,
    depth: Annotated[
        list[int] | None, typer.Option(min=0, help="Measure this depth, and full depth; may be repeated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in a pass.")] = 1,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens in a text; defaults to 128, or what the model takes.")
    ] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Passes that are not timed.")] = 3,
    repeats: Annotated[int, typer.Option(min=2, help="Passes that are timed.")] = 20,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="Precision of the weights.")] = (
        "float32"
    ),
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="MODEL is a SentenceTransformer, which costs what all its modules do.")
    ] = False,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file for the costs.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure what every depth costs: parameters, bytes, FLOPs and latency, as ratios to full depth in one run."""
    if embeddings and conversion.convert:
        raise typer.BadParameter(f"--convert must not be given with --embeddings: {AS_IT_IS}")
    if out is not None:
        check_files(overwrite, out)
    import torch

    from ..depth.depth_cost import measure_depth_cost
    from ..embeddings.loading import is_sentence_transformer, load_sentence_transformer

    if embeddings:
        network = load_sentence_transformer(model, device)
    else:
        if is_sentence_transformer(model):
            warn("this is what the transformer costs alone; with --embeddings all modules of the model count")
        network = conversion.load(model, device, needs_head=False)
    network = network.to(getattr(torch, dtype))
    cost = measure_depth_cost(
        network,
        depths=depth or None,
        batch_size=batch_size,
        sequence_length=sequence_length,
        warmup=warmup,
        repeats=repeats,
        progress=lambda depths: shown(depths, "Measuring the cost"),
    )
    console.print(str(cost))
    if out is not None:
        cost.save(out)


def _batches(rows: Any, collate: Any, options: DataOptions) -> Shown:
    from torch.utils.data import DataLoader

    return Shown(DataLoader(rows, batch_size=options.batch_size, collate_fn=collate), "Measuring every depth")
