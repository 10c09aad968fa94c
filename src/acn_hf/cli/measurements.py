"""Commands that measure: `profile`, `bench`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .base import Shown, command, console, shown
from .options import (
    ChoiceOptions,
    ConversionOptions,
    Data,
    DataOptions,
    Device,
    Model,
    Overwrite,
    check_files,
)


@command("profile")
def profile_command(
    model: Model,
    data: Data,
    data_options: DataOptions,
    choice: ChoiceOptions,
    conversion: ConversionOptions,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file for the profile; the picture goes beside it.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a metric at every depth with one pass over the data."""
    if out is not None:
        check_files(overwrite, out, out.with_suffix(".png"))
    asked = choice.of_labels()
    from ..data.tasks import usual_metric
    from ..depth.drawing import plot_depth_profile
    from ..depth.profile import measure_depth_profile

    network = conversion.load(model, device)
    rows, collate = data_options.measured(network, conversion.load_processor(network, model), data)
    batches = _batches(rows, collate, data_options)
    profile = measure_depth_profile(network, batches, metric=asked or usual_metric(network))
    depth = profile.effective_depth(**choice.how)
    console.print(str(profile))
    console.print(f"effective depth: {depth} of {profile.depths[-1]} (tolerance {choice.how['tolerance']:g})")
    if out is not None:
        figure = plot_depth_profile(profile, depth=depth).figure
        profile.save(out)
        figure.savefig(out.with_suffix(".png"))


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
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file for the costs.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure what every depth costs: parameters, bytes, FLOPs and latency, as ratios to full depth in one run."""
    if out is not None:
        check_files(overwrite, out)
    import torch

    from ..depth.depth_cost import measure_depth_cost

    network = conversion.load(model, device, needs_head=False).to(getattr(torch, dtype))
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
