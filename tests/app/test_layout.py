"""The app as gradio has it, without a browser: what it offers, what it refuses, and how it is launched."""

import inspect
import re
import sys

import pytest
from PIL import EpsImagePlugin, Image

from acn_hf.app import build_app, pictures
from acn_hf.app.answers import RefusedQuestionError
from acn_hf.report import ReportRecord
from acn_hf.report.rows import PARTS, picture_of
from tests.support.asked import picture, write
from tests.support.reported import result, rows

gradio = pytest.importorskip("gradio")


def components(blocks, kind):
    return [one for one in blocks.blocks.values() if type(one).__name__ == kind]


def asked(blocks, *given):
    """Return what the app answers, one entry each time: what it refuses, and what each card shows."""
    function = next(one for one in blocks.fns.values() if one.name == "respond")
    assert function.concurrency_limit == 2
    answers = list(function.fn(*given))
    assert {len(one) for one in answers} == {len(function.outputs)}
    return [[one[1]["value"], *one[2:]] for one in answers]


def record_of(rows_of_data):
    return ReportRecord.of(result(number=len(rows_of_data)), rows=rows_of_data, name="Reviews")


@pytest.fixture
def folder(build, tmp_path):
    return write("bert", tmp_path / "film", build)


def test_it_answers_and_then_says_how_long_it_takes(folder):
    first, second = asked(build_app([folder]), "good film", "")
    assert first[0] == second[0] == ""
    assert "is being measured" in first[1]
    assert "is being measured" not in second[1]
    assert " ms" in second[1]


def test_two_answer_side_by_side(folder, build, tmp_path):
    blocks = build_app([folder, write("labels", tmp_path / "other", build)])
    assert blocks.title == "film and other at every depth"
    _, last = asked(blocks, "good film", "")
    assert 'aria-label="film"' in last[1]
    assert 'aria-label="other"' in last[2]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "There is no text yet"),
        (None, "There is no text yet"),
        ("a" * 1_048_576, "A text may have 100,000 characters at most, and this one has 1,048,576."),
    ],
    ids=["empty", "none", "a megabyte"],
)
def test_a_text_is_refused_with_a_sentence(folder, given, sentence):
    (refused,) = asked(build_app([folder]), given, "")
    assert sentence in refused[0]
    assert 'role="alert"' in refused[0]
    assert "answers here" in refused[1]


def test_a_file_that_is_no_picture_is_refused_with_a_sentence(build, tmp_path):
    picture().save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    contents = {"cut.png": whole[: len(whole) // 2], "text.png": b"no picture", "empty.png": b""}
    contents["vector.svg"] = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    blocks = build_app([write("vit", tmp_path / "model", build)])
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        (refused,) = asked(blocks, {"path": str(tmp_path / name)})
        assert "This file is no picture that can be read" in refused[0], name
        assert str(tmp_path) not in refused[0]


@pytest.mark.parametrize(("most", "sentence"), [(300, "24 × 16"), (150, "many more"), (100, "many more")])
def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch, most, sentence):
    """Also where pillow itself refuses to open it, or warns."""
    picture().save(tmp_path / "whole.png")
    monkeypatch.setattr(pictures, "MOST_PIXELS", most)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000 if most == 300 else most)
    with pytest.raises(RefusedQuestionError, match=f"may have {most} pixels at most, and this one has {sentence}"):
        pictures.open_picture(tmp_path / "whole.png")


def test_what_a_file_is_called_does_not_matter(build, tmp_path):
    picture().save(tmp_path / "whole.png")
    blocks = build_app([write("vit", tmp_path / "model", build)])
    assert len(asked(blocks, {"path": str(tmp_path / "whole.png"), "orig_name": "no.txt"})) == 2
    (refused,) = asked(blocks, None)
    assert "There is no picture yet" in refused[0]


def test_a_picture_that_is_a_program_is_not_run(tmp_path, monkeypatch):
    run = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **options: run.append(given))
    picture().convert("RGB").save(tmp_path / "program.png", format="EPS")
    with pytest.raises(RefusedQuestionError, match="choose a PNG, JPEG, WebP or GIF"):
        pictures.open_picture(tmp_path / "program.png")
    assert run == []


@pytest.mark.parametrize("format", pictures.FORMATS)
def test_pictures_of_these_formats_are_opened(tmp_path, format):
    picture().convert("RGB").save(tmp_path / "picture", format=format)
    assert pictures.open_picture(tmp_path / "picture").size == picture().size


def test_a_picture_is_turned_upright(build, tmp_path):
    blocks = build_app([write("vit", tmp_path / "model", build)])
    given = picture(30, 20)
    exif = given.getexif()
    exif[0x0112] = 6  # lies on its side
    given.save(tmp_path / "side.png", exif=exif)
    _, last = asked(blocks, {"path": str(tmp_path / "side.png")})
    assert "a picture of 20 × 30 pixels" in last[1]


# --- examples


def test_texts_of_the_record_are_offered(folder):
    data = [{"text": f"Review {number}"} for number in range(60)]
    record_of(data).save(folder / "report.json")
    (offered,) = components(build_app([folder]), "Dataset")
    assert len(offered.samples) == 12
    assert all(text.startswith("Review ") and second == "" for text, second in offered.samples)
    record = ReportRecord.load(folder / "report.json")
    first = record.examples.examples[record.examples.lost[record.figures.depth].shown[0]]
    assert offered.samples[0] == [first.text, ""]
    assert components(build_app([folder], examples=False), "Dataset") == []


def test_pairs_of_the_record_fill_in_two_texts(folder):
    record_of([{"text": f"one{PARTS}two {number}"} for number in range(60)]).save(folder / "report.json")
    (offered,) = components(build_app([folder]), "Dataset")
    assert all(text == "one" and second.startswith("two ") for text, second in offered.samples)


def test_pictures_of_the_record_are_offered(build, tmp_path):
    folder = write("vit", tmp_path / "model", build)
    record_of([{"image": picture()}] * 60).save(folder / "report.json")
    (offered,) = components(build_app([folder]), "Dataset")
    assert 1 <= len(offered.samples) <= 12
    assert picture_of(picture()).startswith("data:image/png")
    record_of(rows()).save(folder / "report.json")  # texts are no examples of pictures
    assert components(build_app([folder]), "Dataset") == []


# --- how it is launched


def test_it_is_launched_without_anything_from_elsewhere(folder, monkeypatch):
    given = {}
    signature = inspect.signature(gradio.Blocks.launch)

    def launch(self, *args, **options):
        given.update(signature.bind(self, *args, **options).arguments)

    launch.__signature__ = signature
    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    blocks = build_app([folder])
    blocks.launch()
    assert blocks.analytics_enabled is False
    assert given["share"] is given["ssr_mode"] is given["mcp_server"] is False
    assert "server_name" not in given  # 127.0.0.1 alone, on a Space what that needs
    assert ".acn" in given["css"]
    theme = given["theme"]
    assert re.findall(r"https?://(?!www\.w3\.org/)|@import", theme._get_theme_css()) == []  # names of SVG are no places
    assert theme._stylesheets == []
    blocks.launch(share=True, server_name="0.0.0.0")
    assert (given["share"], given["server_name"]) == (True, "0.0.0.0")


@pytest.mark.parametrize("concurrency", [0, True, 1.5])
def test_how_many_are_answered_at_a_time(folder, concurrency):
    with pytest.raises(ValueError, match=f"concurrency must be a whole number >= 1; got {concurrency}"):
        build_app([folder], concurrency=concurrency)


def test_without_the_extra_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"the app needs gradio: pip install 'acn-hf\[app\]'"):
        build_app([folder])
