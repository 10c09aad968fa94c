"""From the paths of a command line to the arguments of `compress`, and its result to a folder."""

import functools
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..compression.result import CompressionResult
    from ..training.finetuning import Finetune
    from ..training.stage_trainer import StageSettings

from .base import Shown, console, errors, shown, warn
from .compression_data import fingerprint, name_of, origin, shared_in, story, untaught_in, with_split
from .options import ConversionOptions, DataOptions, FinetuningOptions, check_apart
from .progress import counted, shown_training
from .report import ReportOptions
from .teaching_options import LearningOptions, TeachingOptions
from .work_folder import WorkFolder

TUNING_EPOCHS = 2.0
TEST_SPLITS = ("test", "validation", "train")
"""Of them the first that there is."""
MASKED_BATCH = 8
"""Blocks in a step of masked language models, which have as many logits for a token as their vocabulary has words."""
STAGES = {
    "tune": "Fine-tuning {}",
    "teach": "Teaching every depth of {}",
    "heal": "Healing {}",
    "finetune": "Fine-tuning {}",
}
"""What a progress bar says of each stage."""


@dataclass
class CompressionRun:
    """What `acn-hf compress` was asked for, and what it read.

    Args:
        source (`str`): The checkpoint.
        data (`str`): What the depth is chosen on.
        out (`Path`): Where the short one is written.
        reading, conversion, teaching, finetuning, learning: Groups of options.
        device (`str`): Where it is trained and measured.
        test, test_split (`str`, *optional*): Data on which nothing is chosen, and their split.
        page (`ReportOptions`): Whether a page is written.
    """

    source: str
    data: str
    out: Path
    reading: DataOptions
    conversion: ConversionOptions
    teaching: TeachingOptions
    finetuning: FinetuningOptions
    learning: LearningOptions
    device: str
    test: str | None = None
    test_split: str | None = None
    page: ReportOptions = field(default_factory=ReportOptions)
    network: Any = None
    processor: Any = None
    collate: Any = None
    rows: dict[str, Any] = field(default_factory=dict)
    raw: Any = None
    """What is measured, as it was read."""
    facts: dict[str, Any] = field(default_factory=dict)
    new_weights: list[str] = field(default_factory=list)
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
    def epochs(self) -> dict[str, float]:
        """Epochs of each stage that is trained."""
        if self.finetuning.finetune is not None:
            return {"finetune": self.finetuning.epochs}
        if self.teaching.teach is None:
            return {}
        asked = self.teaching.epochs
        tuning = asked["tune"] if asked["tune"] is not None else TUNING_EPOCHS * bool(self.new_weights)
        return {name: number for name, number in {**asked, "tune": tuning}.items() if number}

    @property
    def soft_labels(self) -> float:
        """Share of what the teacher says in the loss."""
        from ..training.teaching import SOFT_LABELS

        return SOFT_LABELS if self.teaching.soft_labels is None else self.teaching.soft_labels

    @property
    def num_depths(self) -> int | None:
        """Depths beside full depth that are taught in a step; `None` for all."""
        return 1 if self._is_masked else None

    @property
    def _is_masked(self) -> bool:
        from ..data.tasks import reads_labels

        return not reads_labels(self.network)

    @property
    def places(self) -> dict[str, tuple[str, Any]]:
        """Where the data that were given lie, with the split of them, or the splits of which the first is read."""
        train, split = self.teaching.teach, self.teaching.split
        if train is None:
            train, split = self.finetuning.finetune, self.finetuning.train_split
        given: dict[str, tuple[str | None, Any]] = {
            "train": (train, split),
            "data": (self.data, self.reading.split),
            "test": (self.test, self.test_split or TEST_SPLITS),
        }
        return {name: (source, split) for name, (source, split) in given.items() if source is not None}

    @property
    def sources(self) -> dict[str, str]:
        """What model and data are called."""
        named = {"model": name_of(self.source)}
        if self.teaching.teacher is not None:
            named["teacher"] = name_of(self.teaching.teacher)
        return named | {name: with_split(source, split) for name, (source, split) in self.places.items()}

    def done(self, depth: int | None) -> str | None:
        """Return in words that there is nothing left to do, if the target holds what came out of this job already.

        What the job left in its folder is removed, as at its end. A process that is not the first has nothing to say.

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
        if self.work.is_ours and not self.teaching.keep_work:
            self.work.remove()
        what_else = "Other options are not compared; --overwrite does it again."
        return f"The job is done: its result, {cut}, lies in {self.out}. ({what_else})"

    def kept(self) -> str:
        """Return in words what is left when the command ends too early."""
        return "nothing was written" if self.teaching.teach is None else self.work.kept()

    def check_apart(self) -> None:
        """Refuse ways of training that do not go together, and to measure on what is trained on."""
        self.learning.check_used("train" in self.places)
        given = {"--teach": self.teaching.teach, "--finetune": self.finetuning.finetune}
        if None not in given.values():
            raise typer.BadParameter("--teach and --finetune both train the cut model; give one of them")
        for option, source in given.items():
            if source is not None:
                check_apart(option, source, self.places["train"][1], self.data, self.reading.split)

    def check_work_folder(self) -> None:
        """Refuse a folder for the stages that is not ours alone; who trains in one go has none."""
        if self.teaching.teach is None:
            return
        teacher = [] if self.teaching.teacher is None else [self.teaching.teacher]
        places = [self.source, *teacher, *(source for source, _ in self.places.values())]
        self.work.check(places, self.out, dry_run=self.teaching.dry_run)
        if self.teaching.resume and not self.work.is_ours:
            console.print(f"There is nothing to go on with in {self.work.path}, so everything is done from the start")

    def read(self, *, strict: bool) -> None:
        """Load checkpoint and data, and say what there is to do."""
        from ..support.processes import is_first_process, join_processes

        if self.device == "cuda" and "LOCAL_RANK" in os.environ:
            self.device = f"cuda:{os.environ['LOCAL_RANK']}"
        join_processes(cpu=self.device == "cpu")
        if not is_first_process():
            console.quiet = errors.quiet = True
        rows: dict[str, Any] = {}
        if "train" in self.places:  # the head follows from them
            rows["train"] = self.reading.read(*self.places["train"])
        self._load(rows.get("train"))
        for name, (source, split) in self.places.items():
            if name != "train":
                rows[name] = self.reading.read(source, split, with_labels=not self._is_masked)
        rows["data"] = self.reading.sample(rows["data"])
        self.raw = rows["data"]
        self._doubt(shared_in(rows, self.reading.columns), strict)
        if self._is_masked and self.reading.max_length is None and self.teaching.teach is not None:
            from ..depth.cost import usual_length

            self.reading = replace(self.reading, max_length=usual_length(self.network))
        for name, part in rows.items():
            self.rows[name], self.collate = self.reading.prepared(
                self.network, self.processor, part, self.places[name][0], is_trained_on=name == "train"
            )
        self._doubt(untaught_in(self.network, self.rows), strict)
        self.facts |= origin(self.source, self.data, self.reading.split)
        self.facts["test_data"] = None if self.test is None else with_split(self.test, self.test_split)

    def _load(self, train: Any) -> None:
        """Load the checkpoint; to be taught, with the head that follows from the training data."""
        from transformers import set_seed

        set_seed(self.seed)
        if self.teaching.teach is None or self.conversion.convert:
            self.network = self.conversion.load(self.source, self.device)
        else:
            from ..data.heads import load_for_task
            from ..data.places import named
            from ..data.tasks import find_task

            with named(self.places["train"][0]):
                task = find_task(train, self.reading.columns, asked=self.teaching.task)
            if task.name == "masked-image-modeling":
                raise typer.BadParameter("nothing is said of masked patches that --teach could teach; see --finetune")
            network, self.new_weights = load_for_task(self.source, task)
            self.network = network.to(self.device)
            console.print(f"There is to learn: {task.description}")
            if self.new_weights and self.teaching.tune_epochs == 0 and self.teaching.teacher is None:
                raise typer.BadParameter("--tune-epochs 0 leaves the new head as it is, random, and it would teach")
            if self.new_weights:
                console.print(f"The head is new, so the model is fine-tuned first: {', '.join(self.new_weights)}")
        self.processor = self.conversion.load_processor(self.network, self.source)
        if self.epochs and self.network.dtype.itemsize < 4:
            console.print(f"The checkpoint holds {self.network.dtype}; it is trained and written in float32")
            self.network = self.network.float()

    def _doubt(self, doubts: Iterable[str], strict: bool) -> None:
        """Warn of what is wrong with the data, or refuse them."""
        from ..data.idx import DataError

        for doubt in doubts:
            if strict:
                raise DataError(f"--strict refuses data about which there are doubts: {doubt}")
            self.doubts.append(doubt)
            warn(doubt)

    def _begin(self, settings: "StageSettings") -> None:
        """Refuse to go on with another command than the one that began."""
        epochs = {"--tune-epochs": "tune", "--teach-epochs": "teach", "--heal": "heal"}
        options = {
            "--seed": self.seed,
            "--learning-rate": settings.learning_rate,
            "--train-batch-size": settings.batch_size,
            "--precision": "bf16" if settings.bf16 else "float32",
            **{option: self.epochs.get(stage, 0.0) for option, stage in epochs.items()},
            "--soft-labels": self.soft_labels,
            "--no-calm": "given" if self.teaching.no_calm else None,
            "--max-length": self.reading.max_length,
        }
        rows = {
            name: (f"{self.sources[name]} (or how it is read)", fingerprint(self.rows[name]))
            for name in ("train", "data")  # nothing depends on the test data
        }
        self.work.begin(options, rows)

    def settings(self) -> "StageSettings":
        """Return how the stages are trained."""
        from ..training.stage_trainer import StageSettings

        rate = self.learning.learning_rate
        batch_size = self.teaching.train_batch_size or (MASKED_BATCH if self._is_masked else 32)
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

    def makers(self, settings: "StageSettings") -> dict[str, "Finetune"]:
        """Return a function from a model to its Trainer for each stage that teaches or is taught before."""
        rows, collate = self.rows["train"], self.collate
        return {
            name: self._shown(name, functools.partial(settings.maker, name, epochs, rows, collate))
            for name, epochs in self.epochs.items()
        }

    def _shown(self, name: str, maker: Any) -> "Finetune":
        """Return a function from a model to its Trainer that shows how far it is."""

        def make_trainer(model: Any) -> Any:
            from ..data.masking import EpochOfMasks
            from ..depth.layers import layers_of
            from ..support.wrappers import unwrap

            shows = shown_training(STAGES[name].format(counted(len(layers_of(unwrap(model))), "layer")))
            return maker([shows, EpochOfMasks(self.collate)] if self._is_masked else [shows])(model)

        return make_trainer

    def _finetune(self, scratch: str) -> "Finetune":
        from ..training.finetuning import finetuning_arguments, quiet_trainer

        how = {
            "num_epochs": self.finetuning.finetune_epochs,
            "learning_rate": self.learning.learning_rate,
            "batch_size": self.finetuning.finetune_batch_size,
            "seed": self.learning.seed,
            "bf16": self.learning.uses_bf16(self.network.device),
        }
        given: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
        arguments = finetuning_arguments(scratch, self.network.device, **given)
        self.facts["training"] = arguments

        def maker(callbacks: list[Any]) -> Any:
            return lambda model: quiet_trainer(model, arguments, self.rows["train"], self.collate, callbacks)

        return self._shown("finetune", maker)

    def _batches(self, name: str, description: str) -> Shown:
        from torch.utils.data import DataLoader

        return Shown(DataLoader(self.rows[name], self.reading.batch_size, collate_fn=self.collate), description)

    def _teacher(self) -> Any:
        """Return the model that teaches, if it is another one."""
        from ..conversion.loader import load_model
        from ..data.labels import is_unnamed, label_ids

        if self.teaching.teacher is None:
            return None
        teacher = load_model(self.teaching.teacher).to(self.network.device)
        ours, theirs = label_ids(self.network.config), label_ids(teacher.config)
        is_named = not all(map(is_unnamed, ours)) and not all(map(is_unnamed, theirs))
        if len(ours) != len(theirs) or (is_named and ours != theirs):
            raise ValueError(
                f"the teacher must have the classes of the model, {_named(ours)}; {self.teaching.teacher} has "
                f"{_named(theirs)}"
            )
        return teacher

    def compress(self, *, metric: str | None, **asked: Any) -> "CompressionResult | None":
        """Do it, write what came out, and return it; `None` in a process that is not the first."""
        from ..compress import compress
        from ..data.tasks import usual_metric
        from ..modeling.full_disk import full_disk_named
        from ..support.processes import is_first_process
        from ..support.stopping import on_stop

        asked |= {"metric": metric or usual_metric(self.network), "costs": self.page.report}
        if "test" in self.rows:
            asked["test"] = self._batches("test", "Testing")
        with tempfile.TemporaryDirectory() as scratch:
            if self.teaching.teach is not None:
                settings = self.settings()
                self._begin(settings)
                asked |= self.makers(settings)
                asked |= {"work_dir": self.work.path, "resume": self.teaching.resume, "teacher": self._teacher()}
                asked |= {"num_depths": self.num_depths, "soft_labels": self.soft_labels}
                asked |= {"choose_healed": self.teaching.choose_healed, "calm": not self.teaching.no_calm}
            elif self.finetuning.finetune is not None:
                asked["finetune"] = self._finetune(scratch)
            with full_disk_named(self.work.path), on_stop(self.kept), self.work.removed_if_empty():
                result = compress(
                    self.network, self._batches("data", "Measuring every depth"), progress=shown, note=warn, **asked
                )
        if not is_first_process():
            return None
        result = replace(result, doubts=(*self.doubts, *result.doubts), sources=self.sources)
        if "train" in self.places:
            done = {
                name: number for name, number in self.epochs.items() if name != "heal" or result.finetuned is not None
            }
            self.facts["description"] = story(done, self.sources["train"], self.sources.get("teacher"))
        with on_stop(self.kept):
            self.page.save(result, self.out, self.raw, self.reading.columns, processor=self.processor, **self.facts)
        if self.teaching.teach is not None and not self.teaching.keep_work:
            self.work.remove()
        return result


def _named(classes: dict[str, int]) -> str:
    return ", ".join(f"{number}: {name}" for name, number in sorted(classes.items(), key=lambda item: item[1]))
