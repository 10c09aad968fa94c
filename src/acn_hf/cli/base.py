"""What every command shares: its errors are one line, and its groups of options are written once.

No file of this folder imports torch or transformers before a command has something to do for them: help and wrong usage
answer at once.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from wrapt import register_post_import_hook

from .._version import __version__
from ..support.stopping import EXIT_CODE, stopped

app = typer.Typer(
    name="acn-hf",
    help="Auto-Compressing Networks: measure every depth of a model in one pass, and cut it to the depth it needs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(markup=False, highlight=False, soft_wrap=True)
errors = Console(markup=False, highlight=False, soft_wrap=True, stderr=True)
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
    register_post_import_hook(_silence_transformers, "transformers")
    register_post_import_hook(_silence_datasets, "datasets")


def _silence_transformers(_transformers: Any) -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _silence_datasets(datasets: Any) -> None:
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command.

    A parameter whose type is a dataclass is a group of options: each of its fields becomes an option, and the function
    is given the group. Every failure becomes one line, with its notes, and exit code 1; `--debug` shows the traceback.
    So does Ctrl-C, with exit code 130 and what [`on_stop`] has added to it.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
        groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}

        @functools.wraps(function)
        def run(**values: Any) -> None:
            try:
                for name, kind in groups.items():
                    values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
                function(**values)
            except (typer.Exit, typer.BadParameter):
                raise
            except KeyboardInterrupt as stop:
                if errors.is_terminal:
                    errors.print()  # the cursor stands behind ^C, or behind a progress bar
                errors.print(stopped(stop), style="yellow")
                raise typer.Exit(EXIT_CODE) from None
            except Exception as error:
                if _settings["debug"]:
                    raise
                said = "; ".join([str(error), *getattr(error, "__notes__", [])])
                errors.print(f"error: {type(error).__name__}: {' '.join(said.split())}", style="red")
                raise typer.Exit(1) from None

        parameters = [
            option
            for parameter in signature.parameters.values()
            for option in (_options(groups[parameter.name]) if parameter.name in groups else [parameter])
        ]
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return app.command(name)(run)

    return register


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(field.name, kind, default=field.default, annotation=hints[field.name])
        for field in dataclasses.fields(group)
    ]


class Shown:
    """Batches that show how many of them are read, as often as they are read.

    Args:
        batches (iterable): Of known length.
        description (`str`): What is done with them.
    """

    def __init__(self, batches: Any, description: str) -> None:
        self.batches, self.description = batches, description

    def __iter__(self) -> Iterator[Any]:
        return iter(shown(self.batches, self.description))


def warn(text: str) -> None:
    """Say what a user should know although it is no error."""
    errors.print(f"warning: {text}", style="yellow")


def shown(items: Any, description: str) -> Iterable[Any]:
    """Return the items, while a progress bar shows on a terminal how many of them were taken."""
    if not console.is_terminal:
        return items
    from rich.progress import track

    return track(items, description=description, console=console, transient=True)
