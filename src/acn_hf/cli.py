"""The command `acn-hf`: parses, calls one public function, prints."""

import functools
import os
import platform
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import datasets
import torch
import transformers
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader

from ._version import __version__
from .compress import compress
from .data import Columns, is_regression, load_data, load_processor, prepare
from .demo import run_demo
from .loading import load_model
from .metrics import METRICS
from .plots import plot_depth_profile
from .profile import measure_depth_profile

app = typer.Typer(
    name="acn-hf",
    help="Auto-Compressing Networks: measure every depth of a model in one pass, and cut it to the depth it needs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(markup=False, highlight=False, soft_wrap=True)
errors = Console(markup=False, highlight=False, soft_wrap=True, stderr=True)

Model = Annotated[str, typer.Argument(help="Checkpoint folder or Hub id of an ACN with a head.")]
Data = Annotated[str, typer.Argument(help="Hub name, CSV, TSV, Parquet or JSON file, image folder, or saved data set.")]
Name = Annotated[str | None, typer.Option(help="Configuration of a data set of the Hub.")]
Split = Annotated[str | None, typer.Option(help="Split to read; defaults to validation, else test, else train.")]
TextColumn = Annotated[str, typer.Option(help="Column of texts (or of word lists).")]
TextPairColumn = Annotated[str | None, typer.Option(help="Column of the second texts of pairs.")]
ImageColumn = Annotated[str, typer.Option(help="Column of images.")]
LabelColumn = Annotated[str, typer.Option(help="Column of labels.")]
MetricName = Annotated[str | None, typer.Option(help=f"One of {', '.join(METRICS)}. Defaults by the head.")]
Tolerance = Annotated[float, typer.Option(min=0.0, help="How much worse than full depth the metric may be.")]
Relative = Annotated[bool, typer.Option("--relative", help="The tolerance is a fraction of the full metric.")]
Confidence = Annotated[float | None, typer.Option(help="In (0, 1): a paired bootstrap must exclude a larger loss.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Examples in a batch.")]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Longest text in tokens.")]
MaxExamples = Annotated[int | None, typer.Option(min=1, help="Measure a fixed random sample of so many examples.")]
Device = Annotated[str | None, typer.Option(help="Where to run, e.g. cuda. Defaults to the CPU.")]


def _clear_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn every failure into one line and exit code 1; `--debug` shows the traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.BadParameter):
            raise
        except Exception as error:
            if _settings["debug"]:
                raise
            errors.print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", style="red")
            raise typer.Exit(1) from None

    return run


_settings = {"debug": False}


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"acn-hf {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    _settings["debug"] = debug
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()


@app.command("profile")
@_clear_errors
def profile_command(
    model: Model,
    data: Data,
    name: Name = None,
    split: Split = None,
    text_column: TextColumn = "text",
    text_pair_column: TextPairColumn = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    metric: MetricName = None,
    tolerance: Tolerance = 0.005,
    relative: Relative = False,
    confidence: Confidence = None,
    batch_size: BatchSize = 32,
    max_length: MaxLength = None,
    max_examples: MaxExamples = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the profile; the picture goes beside it.")] = None,
) -> None:
    """Measure a metric at every depth with one pass over the data."""
    _check_options(metric, confidence)
    if out is not None:
        _check_writable(out)
        if out.is_dir():
            raise typer.BadParameter(f"--out must be a file; {out} is a folder")
    columns = Columns(text_column, text_pair_column, image_column, label_column)
    network, _, batches = _load(model, data, name, split, columns, batch_size, max_length, max_examples, device)
    profile = measure_depth_profile(network, batches, metric=metric or _usual_metric(network))
    depth = profile.effective_depth(tolerance, relative=relative, confidence=confidence)
    console.print(str(profile))
    console.print(f"effective depth: {depth} of {profile.depths[-1]} (tolerance {tolerance:g})")
    if out is not None:
        figure = plot_depth_profile(profile, depth=depth).figure
        profile.save(out)
        figure.savefig(out.with_suffix(".png"))


@app.command("compress")
@_clear_errors
def compress_command(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Argument(help="New folder for the short checkpoint, its profile and the picture.")],
    name: Name = None,
    split: Split = None,
    text_column: TextColumn = "text",
    text_pair_column: TextPairColumn = None,
    image_column: ImageColumn = "image",
    label_column: LabelColumn = "label",
    metric: MetricName = None,
    tolerance: Tolerance = 0.005,
    relative: Relative = False,
    confidence: Confidence = None,
    batch_size: BatchSize = 32,
    max_length: MaxLength = None,
    max_examples: MaxExamples = None,
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Find the smallest depth that does the task, and write the model cut there: a checkpoint with its model card."""
    _check_options(metric, confidence)
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"the target must be a folder; {out} is a file")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise typer.BadParameter(f"the target folder must be empty; {out} is not (--overwrite writes into it)")
    _check_writable(out)
    columns = Columns(text_column, text_pair_column, image_column, label_column)
    network, processor, batches = _load(model, data, name, split, columns, batch_size, max_length, max_examples, device)
    result = compress(
        network,
        batches,
        metric=metric or _usual_metric(network),
        tolerance=tolerance,
        relative=relative,
        confidence=confidence,
    )
    result.save_pretrained(out, processor=processor, **_origin(model, data, split))
    console.print(str(result.profile))
    console.print(str(result))
    console.print(f"wrote {out}")


@app.command("demo")
@_clear_errors
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the model, the profile, the picture and the result.")] = Path(
        "acn-demo"
    ),
    epochs: Annotated[float, typer.Option(min=0.1, help="Training epochs.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the order of the images.")] = 0,
) -> None:
    """Train an AC-ViT on scikit-learn's digits, measure every depth, cut, save, reload and check (a minute)."""
    summary = run_demo(out, num_epochs=epochs, seed=seed, progress=console.print)
    tested = summary["test_accuracy"]
    console.print(
        f"Test accuracy: {tested['full']:.3f} with {summary['full_depth']} layers, "
        f"{tested['reloaded']:.3f} with {summary['chosen_depth']}, reloaded from {out / 'compressed'}"
    )
    console.print(f"Picture: {out / 'depth_profile.png'}")


@app.command("env")
@_clear_errors
def env_command() -> None:
    """Print what a problem report needs to say."""
    table = Table("", "version")
    table.add_row("acn-hf", __version__)
    table.add_row("python", f"{platform.python_version()} ({platform.platform()})")
    for package in ("torch", "transformers", "datasets", "evaluate", "accelerate", "peft", "scikit-learn", "scipy"):
        table.add_row(package, metadata.version(package))
    table.add_row("accelerator", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    console.print(table)


def _check_options(metric: str | None, confidence: float | None) -> None:
    if metric is not None and metric not in METRICS:
        raise typer.BadParameter(f"metric must be one of {', '.join(METRICS)}; got {metric!r}")
    if confidence is not None and not 0 < confidence < 1:
        raise typer.BadParameter(f"confidence must lie in (0, 1); got {confidence}")


def _check_writable(target: Path) -> None:
    """Refuse a place that cannot be written to before anything is measured."""
    folder = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    if folder != target and not folder.is_dir():
        raise typer.BadParameter(f"{target} cannot be made; {folder} is a file")
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{target} cannot be written; {folder} is read-only")


def _load(
    source: str,
    data: str,
    name: str | None,
    split: str | None,
    columns: Columns,
    batch_size: int,
    max_length: int | None,
    max_examples: int | None,
    device: str | None,
) -> tuple[Any, Any, Iterable[dict[str, Any]]]:
    """Return the model, its tokenizer or image processor, and batches that show their progress."""
    network = load_model(source).to(device or "cpu")
    processor = load_processor(network, source)
    rows = load_data(data, name=name, split=split)
    if max_examples is not None:
        rows = rows.shuffle(seed=0).select(range(min(max_examples, len(rows))))
    rows, collate = prepare(network, processor, rows, columns, max_length=max_length)
    loader: Any = DataLoader(rows, batch_size=batch_size, collate_fn=collate)
    return network, processor, track(loader, description="Measuring every depth", console=console, transient=True)


def _usual_metric(network: Any) -> str:
    if type(network).__name__.endswith(("ForMaskedLM", "ForMaskedImageModeling")):
        return "loss"
    return "mse" if is_regression(network.config) else "accuracy"


def _origin(model: str, data: str, split: str | None) -> dict[str, Any]:
    """Return what a card says of where model and data come from: names, and ids on the Hub, but no folders."""
    is_local = Path(data).exists()
    return {
        "base_model": None if Path(model).exists() else model,
        "dataset": Path(data).name if is_local else data,
        "dataset_id": None if is_local else data,
        "split": split,
    }


def main() -> None:
    """Run the command line."""
    app()
