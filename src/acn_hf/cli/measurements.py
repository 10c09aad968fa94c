"""Commands that measure: `profile`, `compress`, `bench`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from ..compress import CompressionResult

from .base import Shown, command, console, errors, shown
from .options import (
    ChoiceOptions,
    ConversionOptions,
    Data,
    DataOptions,
    Depth,
    Device,
    FinetuningOptions,
    Model,
    Overwrite,
    check_files,
    check_folder,
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
    from ..data.tasks import usual_metric
    from ..depth.profile import measure_depth_profile
    from ..plots import plot_depth_profile

    network = conversion.load(model, device)
    rows, collate = data_options.measured(network, conversion.load_processor(network, model), data)
    batches = _batches(rows, collate, data_options)
    profile = measure_depth_profile(network, batches, metric=choice.metric or usual_metric(network))
    depth = profile.effective_depth(**choice.how)
    console.print(str(profile))
    console.print(f"effective depth: {depth} of {profile.depths[-1]} (tolerance {choice.how['tolerance']:g})")
    if out is not None:
        figure = plot_depth_profile(profile, depth=depth).figure
        profile.save(out)
        figure.savefig(out.with_suffix(".png"))


@command("compress")
def compress_command(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Argument(help="New folder for the short checkpoint, its profile and the picture.")],
    data_options: DataOptions,
    choice: ChoiceOptions,
    conversion: ConversionOptions,
    finetuning: FinetuningOptions,
    depth: Depth = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Find the smallest depth that does the task, and write the model cut there: a checkpoint with its model card.

    With --finetune the cut model is trained before it is measured again and written.
    """
    if depth is not None:
        choice.check_unused(depth)
    finetuning.check_apart(data, data_options.split)
    check_folder(out, overwrite, source=model)
    from ..compress import compress
    from ..data.tasks import usual_metric
    from ..training.finetuning import finetuning_arguments

    network = conversion.load(model, device)
    processor = conversion.load_processor(network, model)
    rows, collate = data_options.measured(network, processor, data)
    facts = _origin(model, data, data_options.split)
    options: dict[str, Any] = {"metric": choice.metric or usual_metric(network), "depth": depth, **choice.how}
    with tempfile.TemporaryDirectory() as scratch:
        if finetuning.finetune is not None:
            arguments = finetuning_arguments(
                scratch, network.device, show_progress=errors.is_terminal, **finetuning.how
            )
            trained = data_options.trained(network, processor, finetuning.finetune, finetuning.train_split)
            options["finetune"] = _finetune(arguments, *trained)
            name = _name(finetuning.finetune)
            facts |= {"training": arguments, "description": f"Fine-tuned on {name} ({finetuning.train_split})."}
        result = compress(network, _batches(rows, collate, data_options), **options)
    result.save_pretrained(out, processor=processor, **facts)
    console.print(str(result.profile))
    console.print(str(result))
    console.print(f"wrote {out}")
    if _is_worse(result):
        metric, cut = result.profile.metric, result.profile.value_at(result.depth)
        warning = f"warning: fine-tuning made it worse: {metric} {cut:.4f} as cut, {result.finetuned:.4f} fine-tuned"
        errors.print(warning, style="yellow")


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


def _finetune(arguments: "TrainingArguments", rows: Any, collate: Any) -> Any:
    from ..training.finetuning import quiet_trainer

    def finetune(short: Any) -> "Trainer":
        console.print(f"Fine-tuning {short.config.num_hidden_layers} layers on {len(rows)} examples")
        return quiet_trainer(short, arguments, rows, collate)

    return finetune


def _is_worse(result: "CompressionResult") -> bool:
    """Return whether fine-tuning did harm."""
    if result.finetuned is None:
        return False
    gain = result.finetuned - result.profile.value_at(result.depth)
    return gain < 0 if result.profile.greater_is_better else gain > 0


def _name(source: str) -> str:
    return Path(source).name if Path(source).exists() else source


def _origin(model: str, data: str, split: str | None) -> dict[str, Any]:
    """Return what a card says of where model and data come from: names, and ids on the Hub, but no folders."""
    return {
        "base_model": None if Path(model).exists() else model,
        "dataset": _name(data),
        "dataset_id": None if Path(data).exists() else data,
        "split": split,
    }
