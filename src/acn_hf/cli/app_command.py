"""The command `app`."""

import gc
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..support.stopping import on_stop
from .base import command, console
from .options import Device


@command("app")
def app_command(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or Hub id, best a folder that `compress` wrote.")],
    other: Annotated[str | None, typer.Argument(help="Another one, shown beside it.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.", show_default="the first free one from 7860 on")
    ] = None,
    share: Annotated[bool, typer.Option("--share", help="Ask gradio for a public address, through its servers.")] = (
        False
    ),
    exits: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of an ExitCalibration or EarlyExitReport: where MODEL would leave.",
            show_default="exits.json beside it",
        ),
    ] = None,
    examples: Annotated[
        bool, typer.Option("--examples/--no-examples", help="Offer the examples of report.json beside MODEL.")
    ] = True,
    device: Device = "cpu",
) -> None:
    """Try a checkpoint in the browser: a text or a picture, and the answer at every depth with its time."""
    with (
        on_stop("the app has ended"),
        tempfile.TemporaryDirectory(prefix="acn-hf-app-") as dropped,  # what people drop goes when the app ends
        _environment(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=dropped),
    ):
        from ..app.layout import build_app, gradio_package

        gradio_package()  # before anything takes long
        sources = [model] if other is None else [model, other]
        blocks = build_app(sources, exits=exits, examples=examples, device=device)
        _serve(blocks, host, port, share)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that gradio reads, and put back what they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(blocks: Any, host: str, port: int | None, share: bool) -> None:
    """Serve the app until somebody stops the command."""
    try:
        blocks.launch(server_name=host, server_port=port, share=share, prevent_thread_lock=True, quiet=True)
        console.print(f"open {blocks.local_url} (Ctrl-C ends it)")
        if blocks.share_url:
            console.print(f"and from elsewhere {blocks.share_url}")
        _wait()
    finally:
        gc.freeze()  # else the process would look for garbage in all that was imported before it ends, for seconds
        if blocks.is_running:
            blocks.close(verbose=False)


def _wait() -> None:
    """Wait until a signal comes; wake up now and then, since it does not wake a waiting thread everywhere."""
    while not threading.Event().wait(1):
        pass
