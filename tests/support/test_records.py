"""Records are written whole or not at all, and what is none is refused by its name."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest

from acn_hf.support.records import Record, write_text


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


def kinds(kind=Record):
    """Return all kinds of records of the package."""
    found = [one for child in kind.__subclasses__() for one in (child, *kinds(child))]
    return [one for one in found if one.__module__.startswith("acn_hf.")]


@pytest.mark.parametrize("text", ["", "null", "3", "[]", "[1]", '"a"', '{"": 1}', "{"])
@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_what_is_no_record_is_named(kind, text, tmp_path):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ValueError, match=f"record.json holds no {kind.__name__}: "):
        kind.load(tmp_path / "record.json")


@pytest.mark.parametrize("value", [None, 3, [3], [None], [[None]], {}, {"a": 1}, "a"], ids=str)
@pytest.mark.parametrize("kind", list(filter(dataclasses.is_dataclass, kinds())), ids=lambda kind: kind.__name__)
def test_records_of_other_values_are_read_or_refused(kind, value, tmp_path):
    fields = {field.name: value for field in dataclasses.fields(kind) if field.init}
    (tmp_path / "record.json").write_text(json.dumps(fields))
    with contextlib.suppress(ValueError):
        kind.load(tmp_path / "record.json")
