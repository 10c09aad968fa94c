"""Commands about the package itself: `demo`, `env`."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from .._version import __version__
from .base import command, console
from .options import check_folder


@command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the model, the profile, the picture and the result.")] = Path(
        "acn-demo"
    ),
    epochs: Annotated[float, typer.Option(min=0.1, help="Training epochs.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the order of the images.")] = 0,
) -> None:
    """Train an AC-ViT on scikit-learn's digits, measure every depth, cut, save, reload and check (a minute)."""
    check_folder(out, overwrite=(out / "result.json").is_file())  # an earlier demo may be replaced
    from ..demo import run_demo

    summary = run_demo(out, num_epochs=epochs, seed=seed, progress=console.print)
    tested = summary["test_accuracy"]
    console.print(
        f"Test accuracy: {tested['full']:.3f} with {summary['full_depth']} layers, "
        f"{tested['reloaded']:.3f} with {summary['chosen_depth']}, reloaded from {out / 'compressed'}"
    )


@command("env")
def env_command() -> None:
    """Print what a problem report needs to say."""
    import torch
    from rich.table import Table

    table = Table("", "version")
    table.add_row("acn-hf", __version__)
    table.add_row("python", f"{platform.python_version()} ({platform.platform()})")
    for package in ("torch", "transformers", "datasets", "evaluate", "accelerate", "peft", "scikit-learn", "scipy"):
        table.add_row(package, metadata.version(package))
    table.add_row("accelerator", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    console.print(table)
