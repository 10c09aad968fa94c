"""Records are written whole or not at all."""

from pathlib import Path

import pytest

from acn_hf.records import write_text


def test_a_file_is_replaced(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "one")
    write_text(tmp_path / "a" / "b.txt", "two")
    assert (tmp_path / "a" / "b.txt").read_text() == "two"
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "b.txt", "one")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "b.txt", "two")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["one"]


def test_a_file_is_as_readable_as_any_other(tmp_path):
    write_text(tmp_path / "b.txt", "one")
    (tmp_path / "other.txt").write_text("two")
    assert (tmp_path / "b.txt").stat().st_mode == (tmp_path / "other.txt").stat().st_mode
