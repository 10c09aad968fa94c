"""Arguments of the example scripts that say which data are read."""

from dataclasses import dataclass, field, fields
from typing import Literal

from ..data.rows import Columns


@dataclass
class FileArguments:
    """How files of data are read, and what is done with rows that lack something."""

    separator: str | None = field(
        default=None,
        metadata={"help": "Character between the columns of CSV files; defaults to a comma, in TSV to a tab."},
    )
    encoding: str | None = field(
        default=None, metadata={"help": "Encoding of CSV, JSON and text files, as latin-1; defaults to UTF-8."}
    )

    incomplete: Literal["skip", "refuse"] = field(
        default="skip",
        metadata={
            "help": "Rows without text, image or label: skip leaves them out and says how many, refuse ends the run. "
            "In CSV files NA, null and the like are empty too."
        },
    )

    @property
    def how_files_are_read(self) -> dict[str, str]:
        """What `load_data` is told besides."""
        given = {"separator": self.separator, "encoding": self.encoding}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def columns(self) -> Columns:
        """The names of the columns to read, as far as a script has a choice."""
        given = {name: getattr(self, f"{name}_column_name", None) for name in (one.name for one in fields(Columns))}
        return Columns(**{name: value for name, value in given.items() if value is not None})


@dataclass
class DataArguments(FileArguments):
    """Which data are read: a data set with its splits, or one file a split."""

    dataset_name: str | None = field(
        default=None,
        metadata={"help": "A data set of the Hub, a folder of images or of IDX files, or a saved data set."},
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of a data set of the Hub."})
    train_file: str | None = field(default=None, metadata={"help": "CSV, TSV, JSON or Parquet file, or image folder."})
    validation_file: str | None = field(default=None, metadata={"help": "The same for validation."})
    test_file: str | None = field(default=None, metadata={"help": "The same for a test, with --do_predict."})
    train_split: str = field(default="train", metadata={"help": "Name of the split to train on."})
    validation_split: str = field(default="validation", metadata={"help": "Name of the split to evaluate on."})
    test_split: str = field(default="test", metadata={"help": "Name of the split to test on, with --do_predict."})
    num_held_out: int | None = field(
        default=None,
        metadata={
            "help": "Hold out the last so many training examples for validation; in data sorted by class these are of "
            "one class."
        },
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on the first so many examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many examples."})
    label_column_name: str = field(default="label", metadata={"help": "Column of the labels."})


@dataclass
class TextDataArguments(DataArguments):
    """Which texts are read, and how long they may be."""

    text_column_name: str = field(default="text", metadata={"help": "Column of the texts."})
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Longest text in tokens; defaults to what the tokenizer and the model take."}
    )


@dataclass
class ImageDataArguments(DataArguments):
    """Which images are read."""

    image_column_name: str = field(default="image", metadata={"help": "Column of the images."})
