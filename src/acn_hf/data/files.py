"""Data sets of files, of folders and of the Hub, with what has to be known to say later where a row stands."""

import codecs
import csv
import gzip
import itertools
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import datasets

from ..modeling.full_disk import full_disk_named
from .idx import DataError, is_idx_folder, read_idx_folder
from .squad import flattened

FILE_FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json", ".txt": "text"}
PREFERRED_SPLITS = ("validation", "test", "train")
SEPARATORS = (",", ";", "\t", "|")
"""What stands between the columns of files that are called CSV."""

QUOTES = ": a text that holds the separator must stand in quotes, or another separator be given (--separator)"


def load_data(
    source: str,
    *,
    name: str | None = None,
    split: str | Sequence[str] | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> datasets.Dataset:
    """Load a local CSV, TSV, Parquet, JSON or text file, a folder of images, of IDX files or of such files that are
    called train, validation and test, a saved data set, or a data set of the Hub.

    Args:
        source (`str`): A path, or a name on the Hub. A text file holds one text a line; every file may be gzipped.
        name (`str`, *optional*): Which configuration of a data set of the Hub.
        split (`str` or sequence of `str`, *optional*): Which; of several the first that exists. Defaults to
            `validation`, `test`, `train`.
        separator (`str`, *optional*): Between the columns of a CSV file. By default a comma, in TSV a tab, or what its
            first two rows show instead; see [`separator_of`].
        encoding (`str`, *optional*): Of a CSV, JSON or text file. Defaults to UTF-8.

    Raises:
        DataError: There is no such split, the format is not known, or the data set is empty or not of this format.
        OSError: The data cannot be read.
    """
    loaded = load_splits(source, name=name, separator=separator, encoding=encoding)
    wanted = ((split,) if isinstance(split, str) else split) or PREFERRED_SPLITS
    known = [one for one in wanted if one in loaded]
    if not known:
        raise DataError(f"split must be one of {', '.join(loaded)}; got {split!r}")
    return not_empty(loaded[known[0]], source)


def load_splits(
    source: str, *, name: str | None = None, separator: str | None = None, encoding: str | None = None
) -> dict[str, datasets.Dataset]:
    """Load every split of a data set; what is not divided is called `train`.

    Args:
        source (`str`): See [`load_data`].
        name (`str`, *optional*): See [`load_data`].
        separator (`str`, *optional*): See [`load_data`].
        encoding (`str`, *optional*): See [`load_data`].

    Raises:
        DataError: The format is not known, or the data do not have it.
        OSError: The data cannot be read.
    """
    path = Path(source)
    if file_format(path) and not path.exists():
        raise DataError(f"there must be a file {source}; there is none")
    how = {key: value for key, value in {"separator": separator, "encoding": encoding}.items() if value is not None}
    if how and not (path.is_file() or _files_in(path)):
        raise DataError(f"{' and '.join(how)} are for CSV, JSON and text files; {source} holds none")
    try:
        with full_disk_named(datasets.config.HF_DATASETS_CACHE):
            loaded = _load_local(path, how) if path.exists() else datasets.load_dataset(source, name)
    except (datasets.exceptions.DatasetGenerationError, datasets.exceptions.DatasetNotFoundError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source} cannot be read as a data set: {error.__cause__ or error}") from error
    return dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}


def not_empty(data: datasets.Dataset, source: str) -> datasets.Dataset:
    """Return `data` if it holds anything.

    Raises:
        DataError: It does not.
    """
    if len(data) == 0:
        raise DataError(f"the data must hold at least one example; {source} is empty")
    return data


def file_format(path: Path) -> str | None:
    """Return what `datasets` calls the format of a file, by its name, gzipped or not."""
    return FILE_FORMATS.get(Path(path.stem).suffix if path.suffix == ".gz" else path.suffix)


def _load_local(path: Path, how: dict[str, str]) -> Any:
    if path.is_dir():
        if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
            return datasets.load_from_disk(str(path))
        if is_idx_folder(path):
            return read_idx_folder(path)
        if files := _files_in(path):
            return datasets.DatasetDict({split: load_file(file, how) for split, file in files.items()})
        return datasets.load_dataset("imagefolder", data_dir=str(path))
    if file_format(path) is None:
        raise DataError(f"a data file must end in {', '.join(FILE_FORMATS)}; got {path.name}")
    return load_file(path, how)


def _files_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that are called as splits are."""
    return {split: file for split in PREFERRED_SPLITS for file in folder.glob(f"{split}.*") if file_format(file)}


def load_file(path: Path, how: dict[str, str]) -> datasets.Dataset:
    """Load one file, and note in its info how it was read.

    Args:
        path (`Path`): Its name says its format.
        how (`dict[str, str]`): `separator` and `encoding`, where they are not the usual ones.

    Raises:
        DataError: It is empty, or not of this format.
    """
    kind = check_options(path, how)
    try:
        if kind in ("csv", "json", "text"):
            _check_beginning(path, kind, how)
        options = reader_options(path, how)
        with full_disk_named(datasets.config.HF_DATASETS_CACHE):
            data = flattened(datasets.load_dataset(kind, data_files=str(path), split="train", **options))
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise _not_decoded(path, how, error.__cause__) from error
        hint = QUOTES if kind == "csv" and "Expected" in str(error.__cause__) else ""
        raise DataError(
            f"{path} cannot be read as a data set: {str(error.__cause__ or error).strip()}{hint}"
        ) from error
    except UnicodeDecodeError as error:
        raise _not_decoded(path, how, error) from error
    data.info.download_checksums = {str(path): {"num_bytes": path.stat().st_size, "checksum": None, **how}}
    return data


def reader_options(path: Path, how: dict[str, str]) -> dict[str, str]:
    """Return what `datasets.load_dataset` is told of a file besides its format."""
    options = {"encoding": how["encoding"]} if "encoding" in how else {}
    return {**options, "sep": separator_of(path, how)} if file_format(path) == "csv" else options


def separator_of(path: Path, how: dict[str, str]) -> str:
    """Return what stands between the columns of a CSV or TSV file.

    If nobody says it, it is the usual one, a comma or in TSV a tab. Where the header has one cell by that, or another
    number of them than the row below, it is the only other one by which both have the same number, if there is one.
    """
    usual = usual_separator(path)
    if "separator" in how:
        return how["separator"]
    if _fits(path, how, usual):
        return usual
    others = [one for one in SEPARATORS if one != usual and _fits(path, how, one)]
    return others[0] if len(others) == 1 else usual


def usual_separator(path: Path) -> str:
    """Return what stands between the columns of a file that is called so."""
    return "\t" if ".tsv" in path.suffixes else ","


def _fits(path: Path, how: dict[str, str], separator: str) -> bool:
    """Return whether the header and the first row have the same number of cells, two or more."""
    try:
        with closing(_records(path, {**how, "separator": separator})) as records:
            numbers = [len(record) for _, record in itertools.islice(records, 2)]
    except csv.Error:
        return False
    return len(numbers) == 2 and numbers[0] == numbers[1] > 1


def open_text(path: Path, how: dict[str, str]) -> Any:
    """Open a file of text, gzipped or not, with the ends of its lines as they stand there."""
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding=how.get("encoding", "utf-8-sig"), newline="")


def check_options(path: Path, how: dict[str, str]) -> str | None:
    """Return the format of a file, if what it is to be read with is for this format.

    Raises:
        DataError: It is not.
    """
    kind = file_format(path)
    if "separator" in how and (kind != "csv" or len(how["separator"]) != 1):
        raise DataError(f"a separator is one character, of a CSV file; got {how['separator']!r} for {path}")
    if "encoding" in how:
        if kind == "parquet":
            raise DataError(f"an encoding is for CSV, JSON and text files; got {how['encoding']!r} for {path}")
        try:
            "".encode(how["encoding"])
        except LookupError:
            raise DataError(f"an encoding must be one that Python knows, as latin-1; got {how['encoding']!r}") from None
    return kind


def _check_beginning(path: Path, kind: str, how: dict[str, str]) -> None:
    """Refuse a file without rows, and one whose first lines show another separator."""
    with open_text(path, how) as file:
        first = next((line for line in file if line.strip()), None)
    if first is None:
        raise DataError(f"the data must hold at least one example; {path} is empty")
    if kind != "csv":
        return
    _check_separator(path, first.strip(), how)
    with suppress(csv.Error), closing(_records(path, how)) as records:
        _check_cells(path, [record for _, record in itertools.islice(records, 2)])


def _check_separator(path: Path, first: str, how: dict[str, str]) -> None:
    separator = separator_of(path, how)
    if separator in first:
        return
    rule = f"the columns of {path} must be separated by {separator!r}; its first line is {first!r}"
    if "separator" in how:
        if any(_fits(path, how, one) for one in SEPARATORS):
            raise DataError(f"{rule}: leave the separator out, and that of each file is found (no --separator)")
        return
    if other := next((one for one in SEPARATORS if one in first), None):
        shown = {"\t": "$'\\t'"}.get(other, f"'{other}'")
        raise DataError(f"{rule}: give the separator that it has (--separator {shown})")


def _check_cells(path: Path, records: list[list[str]]) -> None:
    if len(records) < 2:
        raise DataError(f"the data must hold at least one example; {path} holds a header and no row below it")
    expected, found = map(len, records)
    if found > expected:  # pandas would take the first cell for the number of the row, and say nothing
        raise DataError(f"every row of {path} must have {expected} cells, as its header; the first has {found}{QUOTES}")


def _not_decoded(path: Path, how: dict[str, str], error: UnicodeDecodeError) -> DataError:
    marks = {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
    says_utf16 = "encoding" not in how and error.object[:2] in marks
    hint = "utf-16, as its first bytes say" if says_utf16 else "latin-1, or cp1252 for files of Windows"
    return DataError(
        f"{path} must be text in {how.get('encoding', 'UTF-8')}; {error.reason} at byte {error.start}: give the "
        f"encoding that it has (--encoding {hint})"
    )


def _records(path: Path, how: dict[str, str]) -> Generator[tuple[int, list[str]]]:
    """Yield the number of its first line, from 1, and the cells of each record of a CSV file, its header included."""
    with open_text(path, how) as file:
        reader, last = csv.reader(file, delimiter=separator_of(path, how)), 0
        for record in reader:
            if len(record) > 1 or "".join(record).strip():  # pandas passes over what is blank
                yield last + 1, record
            last = reader.line_num


def first_lines(path: Path, how: dict[str, str]) -> list[int] | None:
    """Return the number of the first line of each row of a file, counted from 1, or `None` where rows have none.

    Args:
        path (`Path`): A CSV, JSON-lines or text file.
        how (`dict[str, str]`): See [`load_file`].
    """
    kind = file_format(path)
    if kind == "csv":
        try:
            return [line for line, _ in _records(path, how)][1:]
        except csv.Error:
            return None
    with open_text(path, how) as file:
        lines = [(number, line.strip()) for number, line in enumerate(file, start=1)]
    if kind == "text":
        return [number for number, _ in lines]
    lines = [(number, line) for number, line in lines if line]
    return None if kind != "json" or not lines or lines[0][1].startswith("[") else [number for number, _ in lines]
