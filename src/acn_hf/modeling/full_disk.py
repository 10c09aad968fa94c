"""A disk that is full: what libraries raise then does not say where."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 65536
"""Bytes that are free on a disk below which it counts as full."""


@contextmanager
def full_disk_named(path: str | os.PathLike) -> Iterator[None]:
    """Raise an `OSError` that says `path`, whatever a library raises in this block because a disk is full.

    Raises:
        OSError: The disk is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_full_disk(error, Path(path)):
            raise
        named = getattr(error, "filename", None) or str(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), named) from error


def _is_of_full_disk(error: BaseException, path: Path) -> bool:
    """Return whether an error is that of a full disk: safetensors says so in words alone, and torch not at all."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
        return True
    if isinstance(error, RuntimeError) and "inline_container" in str(error):
        place = next((one for one in (path, *path.absolute().parents) if one.exists()), path)
        return shutil.disk_usage(place).free < BLOCK
    return error.__cause__ is not None and _is_of_full_disk(error.__cause__, path)
