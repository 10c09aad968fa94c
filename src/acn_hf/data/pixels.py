"""From images of a data set to the pixel values that a model takes."""

import io
import math
from dataclasses import dataclass
from typing import Any, Self

import datasets
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from .idx import DataError

LARGEST_IN_MEMORY = 2**31
"""Bytes of pixels above which images are decoded when they are asked for, and not once."""


def image_fields(images: datasets.Dataset, column: str) -> dict[str, Any]:
    """Return the fields of a config that follow from images that are arrays; pictures may have any size."""
    feature = images.features.get(column)
    if not isinstance(feature, datasets.Array2D):
        return {}
    height, width = feature.shape
    return {"num_channels": 1, "image_size": height if height == width else [height, width]}


def image_size(config: Any) -> tuple[int, int]:
    """Return height and width of a model's images.

    Raises:
        DataError: They are no multiples of the patches.
    """
    (height, width), patches = _pair(config.image_size), _pair(config.patch_size)
    if min(patches) < 1 or height % patches[0] or width % patches[1]:
        raise DataError(f"patch_size must divide image_size, {config.image_size}; got {config.patch_size}")
    return height, width


def num_patches(config: Any) -> int:
    """Return the number of patches of an image."""
    (height, width), patches = image_size(config), _pair(config.patch_size)
    return height // patches[0] * (width // patches[1])


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def pixels(
    config: Any, processor: Any, images: datasets.Dataset, column: str, labels: list | None = None
) -> datasets.Dataset:
    """Turn images into the `pixel_values` that a model of `config` takes, with `labels` beside them.

    Args:
        config: Decides the number of channels and, but for a processor that crops, the size.
        processor: An image processor. One that makes images of that size, or crops them, does it in its own way.
        images (`datasets.Dataset`): The column of images, and nothing else.
        column (`str`): Its name: pictures, or arrays of bytes.
        labels (`list`, *optional*): One for each image.

    Raises:
        DataError: An image cannot be decoded, the model takes neither grey nor coloured images, or the processor makes
            images of several sizes of which none is the model's.
    """
    encoder = PictureEncoder.of(config, processor)

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        return {"pixel_values": encoder([_picture(image) for image in batch[column]])}

    def decode(batch: dict[str, Any]) -> dict[str, Any]:
        rest = {name: values for name, values in batch.items() if name != column}
        return {name: torch.as_tensor(values) for name, values in {**rest, **encode(batch)}.items()}

    if isinstance(images.features[column], datasets.Array2D):
        images = images.with_format("numpy")
    if len(images) * 4 * math.prod(encoder.shape) > LARGEST_IN_MEMORY:
        rows = images if labels is None else images.add_column("labels", labels)
        return rows.with_transform(decode)
    features = datasets.Features({"pixel_values": datasets.Array3D(encoder.shape, "float32")})
    try:
        rows = images.map(encode, batched=True, batch_size=100, remove_columns=[column], features=features)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"every image must be readable: {_first_broken(images, column)}{error}") from error
    return (rows if labels is None else rows.add_column("labels", labels)).with_format("torch")


@dataclass(frozen=True)
class PictureEncoder:
    """From pictures to the pixel values that a model takes.

    Args:
        processor: An image processor.
        mode (`str`): What pillow calls grey, `"L"`, or red, green and blue, `"RGB"`.
        shape (`tuple[int, int, int]`): Of the pixel values of one picture: channels, height, width.
        options (`dict`): What the processor must be told to make pictures of this size.
    """

    processor: Any
    mode: str
    shape: tuple[int, int, int]
    options: dict[str, Any]

    @classmethod
    def of(cls, config: Any, processor: Any) -> Self:
        """Return what makes pictures of the size and the channels that a config says; see [`pixels`].

        Raises:
            DataError: The model takes neither grey nor coloured images, or the processor makes images of several sizes
                of which none is the model's.
        """
        config = config_of_images(config)
        num_channels = getattr(config, "num_channels", 3)
        mode = {1: "L", 3: "RGB"}.get(num_channels)
        if mode is None:
            raise DataError(f"num_channels must be 1 or 3, grey or red, green and blue; got {num_channels}")
        height, width, options = _size(config, processor, mode)
        return cls(processor, mode, (num_channels, height, width), options)

    def __call__(self, pictures: list[Image.Image]) -> np.ndarray:
        """Return the pixel values of pictures, of shape `(num_pictures, channels, height, width)`."""
        converted = [picture.convert(self.mode) for picture in pictures]
        encoded = self.processor(converted, **self.options, return_tensors="np")
        return np.asarray(encoded["pixel_values"], np.float32)


def config_of_images(config: Any) -> Any:
    """Return the config that describes the images: that of a model, or of its part that sees."""
    if hasattr(config, "num_channels"):
        return config
    parts = (getattr(config, name, None) for name in type(config).sub_configs)
    return next((part for part in parts if hasattr(part, "num_channels")), config)


def _size(config: Any, processor: Any, mode: str) -> tuple[int, int, dict[str, Any]]:
    """Return the height and the width of the images of a model, and what its processor must be told to make them."""
    made = {
        np.asarray(processor([Image.new(mode, size)], return_tensors="np")["pixel_values"]).shape[-2:]
        for size in ((48, 32), (32, 48))
    }
    wanted = getattr(config, "image_size", None)
    crops = getattr(processor, "do_center_crop", False)  # models that learned from crops may take any size
    if len(made) == 1 and (crops or wanted is None or made == {_pair(wanted)}):
        height, width = made.pop()
        return height, width, {}
    if wanted is None:
        raise DataError("the image processor must make images of one size, since the config of the model names none")
    height, width = image_size(config)
    return height, width, {"size": {"height": height, "width": width}}


def _first_broken(images: datasets.Dataset, column: str) -> str:
    """Return where the first image stands that cannot be decoded: its file, or its row."""
    if not isinstance(images.features[column], datasets.Image):
        return ""
    for row, image in enumerate(images.with_format(None).cast_column(column, datasets.Image(decode=False))[column]):
        try:
            with Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as opened:
                opened.load()
        except (UnidentifiedImageError, OSError):
            return f"{image['path'] or f'row {row + 1}'}: "
    return ""


def _picture(image: Any) -> Any:
    return Image.fromarray(image.astype(np.uint8)) if isinstance(image, np.ndarray) else image
