"""Every card in `model_cards/` is what its record says, and every record has its card."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "model_cards"
RECORDS = sorted(FOLDER.glob("*.json"))


def rendered(record):
    specification = importlib.util.spec_from_file_location("render", FOLDER / "render.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.rendered(record)


def test_records_and_cards_go_together():
    assert RECORDS
    assert [path.stem for path in RECORDS] == sorted(path.stem for path in FOLDER.glob("*.md"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_the_card_is_that_of_the_record(record):
    assert record.with_suffix(".md").read_text(encoding="utf-8") == rendered(record)


@pytest.mark.parametrize("path", [*RECORDS, *sorted(FOLDER.glob("*.md"))], ids=lambda path: path.name)
def test_no_folder_of_the_machine_is_named(path):
    assert not [word for word in ("/home/", "/tmp/", "/work/", "/root/") if word in path.read_text(encoding="utf-8")]
