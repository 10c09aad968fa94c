"""Images and labels in IDX files, plain or gzipped, as MNIST and the data sets made after it are published."""

import gzip
import zlib
from pathlib import Path

import datasets
import numpy as np

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 8


class DataError(ValueError):
    """A data set that cannot be read, or that does not fit a model."""


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder holds the images of at least one split."""
    return any(_find(folder, images) for images, _ in FILES.values())


def read_idx_folder(folder: Path) -> datasets.DatasetDict:
    """Read the splits of a folder, `train` and `test` (the files whose names begin with `t10k`).

    Args:
        folder (`Path`): Holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the like, plain or gzipped.

    Returns:
        `datasets.DatasetDict`: Columns `image`, arrays of bytes of shape `(height, width)`, and `label`.

    Raises:
        DataError: A file is missing, truncated, or of another format, or images and labels differ in number.
    """
    splits = {}
    for split, (images_name, labels_name) in FILES.items():
        images_file, labels_file = _find(folder, images_name), _find(folder, labels_name)
        if images_file is None and labels_file is None:
            continue
        if images_file is None or labels_file is None:
            missing = labels_name if labels_file is None else images_name
            raise DataError(f"{folder} must hold images and labels of a split; there is no {missing}")
        splits[split] = (read_idx(images_file, 3), read_idx(labels_file, 1))
        if len(splits[split][0]) != len(splits[split][1]):
            count = f"{len(splits[split][0])} images and {len(splits[split][1])} labels"
            raise DataError(f"every image of {images_file} must have a label; got {count}")
    num_classes = 1 + max(int(labels.max(initial=0)) for _, labels in splits.values())
    return datasets.DatasetDict({split: _rows(*arrays, num_classes) for split, arrays in splits.items()})


def read_idx(path: Path, num_dimensions: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes.

    Args:
        path (`Path`): Gzipped if its name ends in `.gz`.
        num_dimensions (`int`): Number of dimensions that the array must have.

    Raises:
        DataError: The file is truncated, or of another format.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be decompressed: {error}") from error
    if content[:4] != bytes([0, 0, UNSIGNED_BYTE, num_dimensions]):
        raise DataError(
            f"{path} must be an IDX file of unsigned bytes in {num_dimensions} dimensions; "
            f"it begins with {content[:4].hex(' ') or 'nothing'}"
        )
    start = 4 + 4 * num_dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:start].ljust(start - 4, b"\0"), ">u4"))
    expected = start + int(np.prod(shape))
    if len(content) != expected:
        raise DataError(f"{path} must hold {expected} bytes for an array of shape {shape}; it holds {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _rows(images: np.ndarray, labels: np.ndarray, num_classes: int) -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Array2D(images.shape[1:], "uint8"),
            "label": datasets.ClassLabel(names=[str(index) for index in range(num_classes)]),
        }
    )
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
