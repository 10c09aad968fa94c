"""What is shown of a row: a text that is not too long, or a small picture."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from acn_hf.data.rows import Columns
from acn_hf.report.rows import LARGEST_PICTURE, LONGEST_TEXT, picture_of, shown_rows, text_of


def shown(row, processor=None, columns=None):
    return shown_rows([row], processor, columns, 1)(0)


def opened(address):
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "a film", "label": 1}, {"text": "a film"}),
        ({"text": ["a", "film"]}, {"text": "a film", "words": ["a", "film"]}),
        ({"question": "who", "context": "a film"}, {"text": "who\n⁂\na film"}),
        ({"context": "a", "choices": ["b", "c"]}, {"text": "a\n⁂\nchoice 0: b\nchoice 1: c"}),
        ({"context": "a", "choices": {"text": ["b"], "label": ["A"]}}, {"text": "a\n⁂\nchoice 0: b"}),
        ({"context": "a", "choices1": "c", "choices0": "b"}, {"text": "a\n⁂\nchoice 0: b\nchoice 1: c"}),
        ({"input_ids": [1, 2]}, {}),
        ({"label": 1}, {}),
    ],
)
def test_a_text(row, expected):
    assert shown(row) == expected


def test_a_pair_of_texts_and_columns_of_other_names():
    columns = Columns(text="premise", text_pair="hypothesis")
    assert shown({"premise": "one", "hypothesis": "two"}, columns=columns) == {"text": "one\n⁂\ntwo"}


def test_tokens_with_a_tokenizer():
    class Tokenizer:
        def decode(self, ids, skip_special_tokens):
            return f"{ids} {skip_special_tokens}"

    assert shown({"input_ids": [3, 4]}, Tokenizer()) == {"text": "[3, 4] True"}


def test_a_long_text_is_cut_between_words():
    text = text_of("word " * 1000)
    assert text.endswith("word …")
    assert len(text) <= LONGEST_TEXT + 2
    assert len(text_of("x" * 5000)) == LONGEST_TEXT + 2


def test_a_picture_is_small():
    picture = opened(shown({"image": Image.effect_noise((800, 600), 50)})["picture"])
    assert picture.size == (LARGEST_PICTURE, 72)
    assert len(picture_of(Image.effect_noise((4000, 4000), 50))) < 20_000


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_a_picture_of_any_mode(mode):
    assert opened(picture_of(Image.new(mode, (8, 8)))).size == (8, 8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_as_a_model_takes_them(channels):
    pixels = torch.zeros(channels, 6, 5)
    pixels[:, 2, 3] = 1.5
    pixels[:, 0, 0] = -1.0
    seen = np.asarray(opened(shown({"pixel_values": pixels})["picture"]))
    assert seen.shape == (6, 5, 3)
    assert seen[2, 3, 0] == 255
    assert seen[0, 0, 0] == 0
    assert seen[1, 1, 0] == 102


def test_rows_of_another_number_are_refused():
    with pytest.raises(ValueError, match="must be those that were measured, in the same order, 2; got 1"):
        shown_rows([{}], None, None, 2)
