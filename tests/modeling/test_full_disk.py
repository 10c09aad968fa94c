"""A full disk is said with the path, whatever a library says, and leaves nothing half-written."""

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest
from safetensors import SafetensorError

from acn_hf.modeling.checkpoint import written_beside
from acn_hf.modeling.full_disk import full_disk_named
from acn_hf.support.records import write_text
from acn_hf.training.finetuning import FinetuningError

WORDS = "No space left on device: "
Usage = namedtuple("Usage", "free")

SAID = {
    "python": OSError(errno.ENOSPC, "No space left on device"),
    "a quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
}
"""What is raised where a disk of 64 kB is full."""


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0))


@pytest.mark.parametrize("error", SAID.values(), ids=SAID)
def test_the_path_is_said_with_the_error(tmp_path, full, error):
    with pytest.raises(OSError, match=WORDS) as raised, full_disk_named(tmp_path / "there" / "model"):
        raise error
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "there" / "model"))
    assert raised.value.__cause__ is error


def test_what_another_error_hides_is_said_too(tmp_path):
    with pytest.raises(OSError, match=WORDS), full_disk_named(tmp_path):
        raise FinetuningError("the run ended") from SAID["python"]


def test_a_path_that_is_known_is_kept(tmp_path):
    with pytest.raises(OSError, match="'/elsewhere'"), full_disk_named(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere")


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), OSError(errno.EACCES, "Permission denied"), SAID["torch"]],
    ids=["value", "denied", "torch"],
)
def test_other_errors_are_left_alone(tmp_path, error):
    with pytest.raises(type(error)) as raised, full_disk_named(tmp_path):
        raise error
    assert raised.value is error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_files_that_do_not_fit_are_named(tmp_path, monkeypatch):
    target = tmp_path / "checkpoint"

    def save():
        with written_beside(target) as folder:
            (folder / "config.json").write_text("{}")
            Path("/dev/full").write_text("weights")

    with pytest.raises(OSError, match=f"{WORDS}'{target}'"):
        save()
    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda path, text, **how: write(Path("/dev/full"), text, **how))
    with pytest.raises(OSError, match=f"{WORDS}'{tmp_path / 'profile.json'}'"):
        write_text(tmp_path / "profile.json", "{}")
    assert not list(tmp_path.iterdir())
