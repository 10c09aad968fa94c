"""The folder in which the stages of `acn-hf compress` lie until the job is done, and what is said of it."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from .options import check_writable

OURS = ("job.json", "command", "checkpoints", "answers-*", "tuned", "taught", "healed-*")
"""What a job makes in its folder."""


@dataclass(frozen=True)
class WorkFolder:
    """Where stages and checkpoints lie meanwhile.

    Args:
        path (`Path`): The folder.
        resume (`bool`): Whether a run that was stopped goes on.
    """

    path: Path
    resume: bool

    def check(self, places: list[str], out: Path, *, dry_run: bool) -> None:
        """Refuse a folder that is not ours alone, since it is removed when the job is done.

        One in which another run was stopped is refused too, unless this one goes on with it. Every process of this run
        asks before the first of them makes the folder.

        Args:
            places (`list[str]`): What is read, which must lie elsewhere.
            out (`Path`): What is written, as well.
            dry_run (`bool`): Whether nothing is done.
        """
        folder = self.path.resolve()
        for place in (str(out), *(place for place in places if Path(place).exists())):
            path = Path(place).resolve()
            if folder in (path, *path.parents):
                raise typer.BadParameter(f"--work-dir must hold nothing but stages; {place} is {folder} or in it")
        if folder.exists() and not folder.is_dir():
            raise typer.BadParameter(f"--work-dir must be a folder; {folder} is a file")
        is_used = folder.is_dir() and any(folder.iterdir())
        if is_used and not self.is_ours:
            raise typer.BadParameter(
                f"--work-dir must be new, or the one of a run that was stopped; {folder} is neither"
            )
        if is_used and self._holds_stages and not (self.resume or dry_run):
            raise typer.BadParameter(
                f"{self.path} holds the stages of a run that was stopped: --resume goes on with it, or remove it"
            )
        check_writable(self.path)

    @property
    def _holds_stages(self) -> bool:
        """Whether there is more than what a job writes when it begins, with which there is nothing to go on."""
        return {path.name for path in self.path.iterdir()} - {"command", "job.json"} != set()

    @property
    def is_ours(self) -> bool:
        """Whether a job began here."""
        return (self.path / "command").is_dir()

    def is_older_than(self, file: Path) -> bool:
        """Return whether nothing was written here after a file was; also where there is nothing."""
        end = file.stat().st_mtime_ns
        for folder, _, names in os.walk(self.path):  # another process may be removing it
            with suppress(FileNotFoundError):
                if any(Path(folder, name).stat().st_mtime_ns > end for name in names):
                    return False
        return True

    def begin(self, options: dict[str, Any], rows: dict[str, tuple[str, str]]) -> None:
        """Refuse to go on with another command than the one that began.

        Args:
            options (`dict`): The options that decide what comes out of the stages.
            rows (`dict[str, tuple[str, str]]`): What each of the data is called, and what tells it from others.
        """
        from ..modeling.full_disk import full_disk_named
        from ..support.processes import is_first_process
        from ..training.stages import Stages

        with full_disk_named(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if is_first_process() and not self.resume and not self._holds_stages:
                shutil.rmtree(self.path / "command", ignore_errors=True)
                (self.path / "job.json").unlink(missing_ok=True)
            Stages.begin(self.path / "command", self.resume, options, rows)

    @contextmanager
    def removed_if_empty(self) -> Iterator[None]:
        """Remove the folder again where the block ends with an error before there is anything to go on with."""
        from ..support.processes import is_first_process

        try:
            yield
        except BaseException:
            if is_first_process() and self.is_ours and not self._holds_stages:
                self.remove()
            raise

    def kept(self) -> str:
        """Return in words what is left when the command ends too early."""
        if not self.is_ours:
            return "nothing was written"
        return f"what is done lies in {self.path}; the same command with --resume goes on from there"

    def remove(self) -> None:
        """Remove what the job has made, and the folder if there is nothing else in it."""
        for pattern in OURS:
            for path in self.path.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()


@contextmanager
def on_full_disk(kept: Callable[[], str]) -> Iterator[None]:
    """Add to the error of a full disk what to do about it, and what is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.add_note(f"free space there; {kept()}")
        raise
