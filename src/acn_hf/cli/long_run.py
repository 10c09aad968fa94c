"""What every run of `acn-hf compress` shares: what its data are called, the folder of its stages, and how it ends."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from ..compression.result import CompressionResult
    from ..training.stage_trainer import StageSettings

from .base import console, errors, warn
from .compression_data import fingerprint, name_of, story, with_split
from .options import DataOptions, check_apart
from .report import ReportOptions
from .teaching_options import LearningOptions, TeachingOptions
from .work_folder import WorkFolder

TEST_SPLITS = ("test", "validation", "train")
"""Of them the first that there is."""


@dataclass(kw_only=True)
class LongRun(ABC):
    """What `acn-hf compress` was asked for, and what it read.

    Args:
        source (`str`): The checkpoint.
        data (`str`): What the depth is chosen on.
        out (`Path`): Where the short one is written.
        reading, teaching, learning: Groups of options.
        device (`str`): Where it is trained and measured.
        test, test_split (`str`, *optional*): Data on which nothing is chosen, and their split.
        page (`ReportOptions`): Whether a page is written.
    """

    source: str
    data: str
    out: Path
    reading: DataOptions
    teaching: TeachingOptions
    learning: LearningOptions
    device: str
    test: str | None = None
    test_split: str | None = None
    page: ReportOptions = field(default_factory=ReportOptions)
    network: Any = None
    rows: dict[str, Any] = field(default_factory=dict)
    raw: Any = None
    """What is measured, as it was read, if a page can show it."""
    facts: dict[str, Any] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    """About the data, those that were told."""

    @property
    def seed(self) -> int:
        """Of a new head, and of every training."""
        return self.learning.seed or 0

    @property
    def work(self) -> WorkFolder:
        """Where stages and checkpoints lie meanwhile."""
        usual = self.out.absolute().with_name(f"{self.out.absolute().name}.work")
        return WorkFolder(self.teaching.work_dir or usual, self.teaching.resume)

    @property
    @abstractmethod
    def epochs(self) -> dict[str, float]:
        """Epochs of each stage that is trained."""

    @property
    def places(self) -> dict[str, tuple[str, Any]]:
        """Where the data that were given lie, with the split of them, or the splits of which the first is read."""
        train, split = self.training_data
        given: dict[str, tuple[str | None, Any]] = {
            "train": (train, split),
            "data": (self.data, self.reading.split),
            "test": (self.test, self.test_split or TEST_SPLITS),
        }
        return {name: (source, split) for name, (source, split) in given.items() if source is not None}

    @property
    def training_data(self) -> tuple[str | None, str]:
        """What is trained on, if anything is, and its split."""
        return self.teaching.teach, self.teaching.split

    @property
    def sources(self) -> dict[str, str]:
        """What model and data are called."""
        named = {"model": name_of(self.source)}
        if self.teaching.teacher is not None:
            named["teacher"] = name_of(self.teaching.teacher)
        return named | {name: with_split(source, split) for name, (source, split) in self.places.items()}

    def done(self, depth: int | None) -> str | None:
        """Return in words that there is nothing left to do, if the target holds what came out of this job already.

        A page that is asked for and is not there is written, or it is said why it cannot be. What the job left in its
        folder is removed, as at its end. A process that is not the first has nothing to say.

        Args:
            depth (`int`, *optional*): The depth that is asked for.
        """
        path = self.out / "result.json"
        try:
            found = json.loads(path.read_text())
            is_this = found["sources"] == self.sources and depth in (None, found["depth"])
            cut = f"depth {found['depth']} of {found['profile']['depths'][-1]}"
        except (KeyError, OSError, TypeError, ValueError):  # of another kind, or there is none
            return None
        if not is_this or not self.work.is_older_than(path):  # another job was begun since
            return None
        if os.environ.get("RANK", "0") != "0":
            return ""
        page = self.page.add_to(self.out)
        if self.work.is_ours and not self.teaching.keep_work:
            self.work.remove()
        what_else = "Other options are not compared; --overwrite does it again."
        said = f"The job is done: its result, {cut}, lies in {self.out}. ({what_else})"
        return said if page is None else f"{said}\n{page}"

    def kept(self) -> str:
        """Return in words what is left when the command ends too early."""
        return "nothing was written" if self.teaching.teach is None else self.work.kept()

    def check_apart(self) -> None:
        """Refuse ways of training that do not go together, and to measure on what is trained on."""
        self.learning.check_used("train" in self.places)
        source, split = self.training_data
        if source is not None:
            option = "--teach" if source == self.teaching.teach else "--finetune"
            check_apart(option, source, split, self.data, self.reading.split)

    def check_work_folder(self) -> None:
        """Refuse a folder for the stages that is not ours alone; who trains in one go has none."""
        if self.teaching.teach is None:
            return
        teacher = [] if self.teaching.teacher is None else [self.teaching.teacher]
        places = [self.source, *teacher, *(source for source, _ in self.places.values())]
        self.work.check(places, self.out, dry_run=self.teaching.dry_run)
        if self.teaching.resume and not self.work.is_ours:
            console.print(f"There is nothing to go on with in {self.work.path}, so everything is done from the start")

    @abstractmethod
    def read(self, *, strict: bool) -> None:
        """Load checkpoint and data, and say what there is to do."""

    @abstractmethod
    def compress(self, *, metric: Any, **asked: Any) -> "CompressionResult | None":
        """Do it, write what came out, and return it; `None` in a process that is not the first."""

    @abstractmethod
    def train_a_little(self, settings: "StageSettings", name: str, depth: int, callback: "TrainerCallback") -> None:
        """Train a copy of the model that is cut at a depth as a stage does, and throw it away."""

    def join(self) -> None:
        """Find the other processes of this run, if there are some; only the first of them says anything."""
        from ..support.processes import is_first_process, join_processes

        if self.device == "cuda" and "LOCAL_RANK" in os.environ:
            self.device = f"cuda:{os.environ['LOCAL_RANK']}"
        join_processes(cpu=self.device == "cpu")
        if not is_first_process():
            console.quiet = errors.quiet = True

    def in_float32(self) -> None:
        """Train no weights of 16 bits."""
        from ..support.sentence_models import inner_model

        dtype = inner_model(self.network).dtype
        if self.epochs and dtype.itemsize < 4:
            console.print(f"The checkpoint holds {dtype}; it is trained and written in float32")
            self.network = self.network.float()

    def doubt(self, doubts: Iterable[str], strict: bool) -> None:
        """Warn of what is wrong with the data, or refuse them."""
        from ..data.idx import DataError

        for doubt in doubts:
            if strict:
                raise DataError(f"--strict refuses data about which there are doubts: {doubt}")
            self.doubts.append(doubt)
            warn(doubt)

    def begin(self, settings: "StageSettings", **others: Any) -> None:
        """Refuse to go on with another command than the one that began.

        Args:
            settings (`StageSettings`): How every stage is trained.
            others: Further options that decide what comes out of the stages, by their names without hyphens.
        """
        epochs = {"--tune-epochs": "tune", "--teach-epochs": "teach", "--heal": "heal"}
        options = {
            "--seed": self.seed,
            "--learning-rate": settings.learning_rate,
            "--train-batch-size": settings.batch_size,
            "--precision": "bf16" if settings.bf16 else "float32",
            **{option: self.epochs.get(stage, 0.0) for option, stage in epochs.items()},
            **{f"--{name.replace('_', '-')}": value for name, value in others.items()},
        }
        rows: dict[str, tuple[str, str]] = {
            name: (f"{self.sources[name]} (or how it is read)", fingerprint(self.rows[name]))
            for name in ("train", "data")  # nothing depends on the test data
            if name in self.rows
        }
        self.work.begin(options, rows)

    def settings(self, batch_size: int = 32) -> "StageSettings":
        """Return how the stages are trained.

        Args:
            batch_size (`int`, *optional*, defaults to 32): Examples in a step, if nobody says it.
        """
        from ..training.stage_trainer import StageSettings

        rate = self.learning.learning_rate
        batch_size = self.teaching.train_batch_size or batch_size
        return StageSettings(
            self.work.path / "checkpoints",
            self.network.device,
            learning_rate=1e-4 if rate is None else rate,
            batch_size=batch_size,
            eval_batch_size=2 * batch_size,
            seed=self.seed,
            bf16=self.learning.uses_bf16(self.network.device),
            checkpoint_every=self.teaching.checkpoint_every,
            resume=self.teaching.resume,
        )

    def written(self, result: "CompressionResult", processor: Any = None) -> "CompressionResult | None":
        """Write what came out, remove what the stages left, and return it with what is known of the data.

        Args:
            result (`CompressionResult`): What came out; `None` is returned in a process that is not the first.
            processor (*optional*): Tokenizer or image processor.
        """
        from ..support.processes import is_first_process
        from ..support.stopping import on_stop

        if not is_first_process():
            return None
        result = replace(result, doubts=(*self.doubts, *result.doubts), sources=self.sources)
        if "train" in self.places:
            done = {
                name: number
                for name, number in self.epochs.items()
                if {"heal": result.finetuned, "teach": result.before}.get(name, number) is not None
            }
            self.facts["description"] = story(done, self.sources["train"], self.sources.get("teacher"))
        with on_stop(self.kept):
            self.page.save(result, self.out, self.raw, self.reading.columns, processor=processor, **self.facts)
        if self.teaching.teach is not None and not self.teaching.keep_work:
            self.work.remove()
        return result
