"""Scripts run as programs in this process: a process of its own would first import for seconds what is here already."""

import contextlib
import io
import runpy
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock


@dataclass(frozen=True)
class Done:
    """What a program printed, and the status it ended with."""

    returncode: int
    stdout: str
    stderr: str


def run_program(path: Path, *arguments: object) -> Done:
    """Run a script with arguments as `python path arguments` does."""
    printed, said, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", [str(path), *map(str, arguments)]),
        mock.patch.object(sys, "path", [str(path.parent), *sys.path]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")  # which are errors in tests only
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else int(left.code is not None)
    return Done(status, printed.getvalue(), said.getvalue())
