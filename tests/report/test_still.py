"""The still picture of a page: a PNG in the light colours of the page, where there is no matplotlib."""

import dataclasses
import sys

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from acn_hf import truncate
from acn_hf.report import ReportRecord
from tests.support.families import by_name
from tests.support.reported import result

IMAGES = by_name("vit-ForImageClassification")


@pytest.mark.slow  # writes a page and draws a picture
def test_a_page_brings_its_picture_where_there_is_no_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    made = result(depths=3)
    made = dataclasses.replace(made, model=truncate(IMAGES.build(), made.depth))
    made.save_pretrained(tmp_path / "with", report=ReportRecord.of(made))
    html = MarkdownIt().render((tmp_path / "with" / "README.md").read_text().split("\n---\n", 1)[1])
    assert '<a href="report.html"><img src="depth_profile.png" alt="accuracy at every depth" /></a>' in html
    picture = Image.open(tmp_path / "with" / "depth_profile.png").convert("RGB")
    colours = {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}
    assert max(colours, key=colours.get) == (255, 255, 255)
    assert {(0x0A, 0x58, 0xCA), (0x1B, 0x1F, 0x24)} <= colours.keys(), "the line and the ink of page.css"
    made.save_pretrained(tmp_path / "without")
    assert not (tmp_path / "without" / "depth_profile.png").exists()
