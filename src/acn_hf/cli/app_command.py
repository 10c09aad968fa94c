"""The command `app`."""

import gc
import os
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from ..support.stopping import on_stop
from .base import command, console
from .options import Device

OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False"}
"""What gradio is told before it is imported: to report nothing."""


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
    for name, value in OFFLINE.items():
        os.environ.setdefault(name, value)
    from ..app.layout import build_app, gradio_package

    gradio_package()  # before anything takes long
    sources = [model] if other is None else [model, other]
    blocks = build_app(sources, exits=exits, examples=examples, device=device)
    with on_stop("the app has ended"):
        _serve(blocks, host, port, share)


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
