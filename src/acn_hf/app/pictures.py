"""Pictures as people give them: opened, turned upright, or refused."""

import os

from PIL import Image, ImageOps

from .answers import RefusedQuestionError

MOST_PIXELS = 50_000_000
"""Of a picture; opened it takes four bytes of each."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is opened; others that pillow knows are programs (EPS, which it gives to another program) or links to more."""
NO_PICTURE = "This file is no picture that can be read: choose a PNG, JPEG, WebP or GIF."


def open_picture(path: str | os.PathLike) -> Image.Image:
    """Return the picture in a file, as it is meant to be looked at.

    Args:
        path (`str` or `os.PathLike`): The file; what it is called does not matter.

    Raises:
        RefusedQuestionError: It holds no picture that can be read, or one of too many pixels.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise _too_large(f"{width:,} × {height:,}")
            picture.load()
            return ImageOps.exif_transpose(picture) or picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("many more") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what pillow raises of damaged files
        if isinstance(error, RefusedQuestionError):
            raise
        raise RefusedQuestionError(NO_PICTURE) from None


def _too_large(size: str) -> RefusedQuestionError:
    return RefusedQuestionError(f"A picture may have {MOST_PIXELS:,} pixels at most, and this one has {size}.")
