"""Where and with what a number was measured: a number travels with its circumstances."""

import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from .._version import __version__


def circumstances(folder: str | os.PathLike | None = ".") -> dict[str, Any]:
    """Return date, commit, versions and hardware.

    Args:
        folder (`str` or `os.PathLike`, *optional*): A folder of the working copy whose commit counts; `None` for a
            result of a user, whose working copy is not ours.
    """
    return {
        "date": date.today().isoformat(),
        **({} if folder is None else {"commit": commit_of(folder)}),
        "acn_hf": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def commit_of(folder: str | os.PathLike) -> str:
    """Return the commit of a working copy, with `+changes` if files that it tracks are changed; `unknown` elsewhere."""
    commit = _git(folder, "rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: str | os.PathLike, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()
