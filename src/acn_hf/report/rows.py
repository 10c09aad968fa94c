"""What a row of the data looks like: a text that is cut where it is long, or a small picture."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..data.rows import Columns

LONGEST_TEXT = 600
"""Characters of a text that are shown."""
LARGEST_PICTURE = 96
"""Pixels of the longer side of a picture that is shown."""

PARTS = "\n⁂\n"
"""Between two texts of one row."""
Shown = Callable[[int], dict[str, Any]]
"""From the number of a row to what is shown of it: a `text`, a `picture`, or nothing; of word lists also `words`."""


def shown_rows(rows: Any, processor: Any, columns: Columns | None, number: int) -> Shown:
    """Return the function from the number of a row to what is shown of it.

    Args:
        rows (`datasets.Dataset` or sequence of `dict`, *optional*): Those that were measured, in their order, with
            texts or images, or as the model takes them.
        processor (*optional*): Tokenizer that turns tokens into a text, where there is no other.
        columns (`Columns`, *optional*): Names of the columns that are read.
        number (`int`): How many there must be.

    Raises:
        ValueError: There are fewer or more.
    """
    if rows is None:
        return lambda row: {}
    if len(rows) != number:
        raise ValueError(f"rows must be those that were measured, in the same order, {number:,}; got {len(rows):,}")
    named = columns or Columns()
    return lambda row: _shown(rows[row], processor, named)


def _shown(row: dict[str, Any], processor: Any, columns: Columns) -> dict[str, Any]:
    if isinstance(row.get(columns.image), Image.Image):
        return {"picture": picture_of(row[columns.image])}
    if row.get("pixel_values") is not None and np.ndim(row["pixel_values"]) == 3:
        return {"picture": picture_of(_from_pixels(np.asarray(row["pixel_values"], dtype=float)))}
    words = row.get(columns.text)
    if isinstance(words, (list, tuple)):
        return {"text": text_of(words), "words": list(map(str, words))}
    names = (columns.text, columns.text_pair, columns.question, columns.context)
    texts = [text for text in map(row.get, filter(None, names)) if isinstance(text, str)]
    if texts:
        return {"text": PARTS.join([*map(text_of, texts), *_choices(row, columns)])}
    if row.get("input_ids") is not None and hasattr(processor, "decode"):
        return {"text": text_of(processor.decode(row["input_ids"], skip_special_tokens=True))}
    return {}


def _choices(row: dict[str, Any], columns: Columns) -> list[str]:
    """Return the choices of a row, with the numbers by which an answer names them."""
    found = row.get(columns.choices)
    found = found["text"] if isinstance(found, dict) else found
    if found is None:
        ends = {name.removeprefix(columns.choices): name for name in row if name.startswith(columns.choices)}
        found = [row[ends[end]] for end in sorted(filter(str.isdigit, ends), key=int)]
    return ["\n".join(f"choice {place}: {text_of(choice)}" for place, choice in enumerate(found))] if found else []


def text_of(value: str | Sequence[str]) -> str:
    """Return a text, or words, cut where it is long, at the end of a word if there is one near."""
    text = value if isinstance(value, str) else " ".join(map(str, value))
    if len(text) <= LONGEST_TEXT:
        return text
    cut = text[:LONGEST_TEXT]
    end = cut.rfind(" ", LONGEST_TEXT - 40)
    return f"{cut[:end] if end > 0 else cut} …"


def picture_of(image: Image.Image) -> str:
    """Return a small copy of a picture as an address that holds it."""
    small = image.convert("RGB")
    small.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    kind = "PNG" if max(small.size) <= 32 else "JPEG"  # of few pixels every one counts
    stream = io.BytesIO()
    small.save(stream, kind, optimize=True, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _from_pixels(pixels: np.ndarray) -> Image.Image:
    """Return the picture that a model sees, `(channels, height, width)`, in its own range of brightness."""
    channels = np.moveaxis(pixels, 0, -1)
    low, high = channels.min(), channels.max()
    scaled = (channels - low) / (high - low if high > low else 1.0)
    array = (255 * scaled).round().astype(np.uint8)
    return Image.fromarray(array[..., :3] if array.shape[-1] >= 3 else array[..., 0])
