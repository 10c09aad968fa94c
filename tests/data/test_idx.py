"""IDX files: what is written is read, and files that are damaged or of another format are named."""

import gzip
import struct

import datasets
import numpy as np
import pytest

from acn_hf.data.files import load_data, load_splits
from acn_hf.data.idx import DataError, is_idx_folder, read_idx

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([2, 0, 1], np.uint8)


def write_idx(path, array):
    """Write an array of bytes as an IDX file, gzipped if its name ends so."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_split(folder, prefix, images, labels, suffix=".gz"):
    write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzipped"])
def folder(tmp_path, request):
    write_split(tmp_path, "train", IMAGES, LABELS, request.param)
    write_split(tmp_path, "t10k", IMAGES[:1], LABELS[:1], request.param)
    return tmp_path


def test_a_folder_is_read_with_its_splits(folder):
    splits = load_splits(str(folder))
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 3, "test": 1}
    rows = splits["train"]
    assert rows.with_format("numpy")["image"][:].tolist() == IMAGES.tolist()
    assert rows["label"][:] == [2, 0, 1]
    assert rows.features["label"] == datasets.ClassLabel(names=["0", "1", "2"])
    assert len(load_data(str(folder))) == 1  # what is not trained on, if there is any


def test_one_split_is_enough(tmp_path):
    write_split(tmp_path, "train", IMAGES, LABELS)
    assert len(load_data(str(tmp_path))) == 3


def test_other_folders_are_not_taken_for_idx(tmp_path):
    (tmp_path / "train-images.png").write_bytes(b"")
    assert not is_idx_folder(tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 10, 16, 40])
def test_a_truncated_file_is_named(tmp_path, kept):
    write_idx(tmp_path / "whole", IMAGES)
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:kept])
    with pytest.raises(DataError, match=r"cut must (be an IDX file|hold \d+ bytes)"):
        read_idx(tmp_path / "cut", 3)


def test_a_truncated_archive_is_named(tmp_path):
    write_idx(tmp_path / "whole.gz", IMAGES)
    (tmp_path / "cut.gz").write_bytes((tmp_path / "whole.gz").read_bytes()[:-12])
    with pytest.raises(DataError, match=r"cut\.gz cannot be decompressed"):
        read_idx(tmp_path / "cut.gz", 3)


def test_what_is_no_archive_is_named(tmp_path):
    (tmp_path / "file.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"file\.gz cannot be decompressed"):
        read_idx(tmp_path / "file.gz", 3)


@pytest.mark.parametrize("content", [b"a text, not an image", struct.pack(">4BI4f", 0, 0, 13, 1, 4, 1, 2, 3, 4)])
def test_another_format_is_named(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=r"must be an IDX file of unsigned bytes in 1 dimensions; it begins with"):
        read_idx(tmp_path / "file", 1)


def test_labels_in_place_of_images_are_named(tmp_path):
    write_split(tmp_path, "train", LABELS, LABELS)
    with pytest.raises(DataError, match="in 3 dimensions; it begins with 00 00 08 01"):
        load_data(str(tmp_path))


def test_every_image_needs_a_label(tmp_path):
    write_split(tmp_path, "train", IMAGES, LABELS[:2])
    with pytest.raises(DataError, match=r"must have a label; got 3 images and 2 labels"):
        load_data(str(tmp_path))


def test_missing_labels_are_named(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    with pytest.raises(DataError, match="there is no train-labels-idx1-ubyte"):
        load_data(str(tmp_path))


def test_an_empty_set_is_refused(tmp_path):
    write_split(tmp_path, "train", IMAGES[:0], LABELS[:0])
    with pytest.raises(DataError, match="must hold at least one example"):
        load_data(str(tmp_path))
