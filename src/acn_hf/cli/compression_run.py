"""From the paths of a command line to the arguments of `compress`, and its result to a folder."""

import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ..compression_result import CompressionResult
    from ..data.tasks import Task
    from ..training.finetuning import Finetune
    from ..training.stage_trainer import StageSettings

from .base import Shown, console, errors, shown
from .options import ConversionOptions, DataOptions, FinetuningOptions
from .progress import shown_training
from .teaching_options import LearningOptions, TeachingOptions

TUNING_EPOCHS = 2.0
STAGES = {
    "tune": "Fine-tuning {} layers",
    "teach": "Teaching every depth of {} layers",
    "heal": "Healing {} layers",
    "finetune": "Fine-tuning {} layers",
}
"""What a progress bar says of each stage."""


@dataclass
class CompressionRun:
    """What `acn-hf compress` was asked for, and what it read.

    Args:
        source (`str`): The checkpoint.
        out (`Path`): Where the short one is written.
        reading, conversion, teaching, finetuning, learning: Groups of options.
        device (`str`): Where it is trained and measured.
    """

    source: str
    out: Path
    reading: DataOptions
    conversion: ConversionOptions
    teaching: TeachingOptions
    finetuning: FinetuningOptions
    learning: LearningOptions
    device: str
    network: Any = None
    processor: Any = None
    collate: Any = None
    rows: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    new_weights: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """Of a new head, and of every training."""
        return self.learning.seed or 0

    @property
    def work_dir(self) -> Path:
        """Where stages and checkpoints lie meanwhile."""
        return self.teaching.work_dir or self.out.absolute().with_name(f"{self.out.absolute().name}.work")

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

    def read(self, data: str, test: str | None, test_split: str | None, *, strict: bool) -> None:
        """Load checkpoint and data, and say what there is to do."""
        from ..support.processes import is_first_process, join_processes

        if self.device == "cuda" and "LOCAL_RANK" in os.environ:
            self.device = f"cuda:{os.environ['LOCAL_RANK']}"
        join_processes(cpu=self.device == "cpu")
        if not is_first_process():
            console.quiet = errors.quiet = True
        train = self._training_rows()
        self._load(train)
        raw = {"train": train, "data": self.reading.load(data, self.reading.split, sample=True)}
        if test is not None:
            raw["test"] = self.reading.load(test, test_split, preferred=("test", "validation", "train"))
        self._check_apart({name: rows for name, rows in raw.items() if rows is not None}, strict)
        for name, rows in raw.items():
            if rows is not None:
                self.rows[name], self.collate = self.reading.prepare(self.network, self.processor, rows)
        self.facts |= origin(self.source, data, self.reading.split)

    def _training_rows(self) -> Any:
        if self.teaching.teach is not None:
            return self.reading.load(self.teaching.teach, self.teaching.split)
        if self.finetuning.finetune is not None:
            return self.reading.load(self.finetuning.finetune, self.finetuning.train_split)
        return None

    def _load(self, train: Any) -> None:
        """Load the checkpoint; to be taught, with the head that follows from the training data."""
        from transformers import set_seed

        set_seed(self.seed)
        if self.teaching.teach is None or self.conversion.convert:
            self.network = self.conversion.load(self.source, self.device)
        else:
            from ..data.heads import load_for_task
            from ..data.tasks import find_task

            task = find_task(train, self.reading.columns, asked=self.teaching.task)
            network, self.new_weights = load_for_task(self.source, task)
            self.network = network.to(self.device)
            console.print(f"There is to learn: {task.description}")
            if self.new_weights:
                console.print(f"The head is new, so the model is fine-tuned first: {', '.join(self.new_weights)}")
        self.processor = self.conversion.load_processor(self.network, self.source)
        if self.epochs and self.network.dtype.itemsize < 4:
            console.print(f"The checkpoint holds {self.network.dtype}; it is trained and written in float32")
            self.network = self.network.float()

    def _check_apart(self, raw: dict[str, Any], strict: bool) -> None:
        """Warn of rows that are in two sets, or refuse them."""
        from ..data import shared_rows
        from ..data.idx import DataError

        names = {"train": "the training data", "data": "DATA", "test": "the test data"}
        for one, other in (("train", "data"), ("train", "test"), ("data", "test")):
            if not {one, other} <= set(raw):
                continue
            number = shared_rows(raw[other], raw[one], self.reading.columns)
            if number:
                text = f"{number} of {len(raw[other])} rows of {names[other]} are in {names[one]} too"
                if strict:
                    raise DataError(f"{text}: what is measured there is too good")
                errors.print(f"warning: {text}: what is measured there is too good", style="yellow")

    def settings(self) -> "StageSettings":
        """Return how the stages are trained."""
        from ..training.stage_trainer import StageSettings

        rate = self.learning.learning_rate
        return StageSettings(
            self.work_dir / "checkpoints",
            self.network.device,
            learning_rate=1e-4 if rate is None else rate,
            batch_size=self.teaching.train_batch_size or 32,
            eval_batch_size=2 * (self.teaching.train_batch_size or 32),
            seed=self.seed,
            bf16=self.teaching.uses_bf16(self.network.device),
            checkpoint_every=self.teaching.checkpoint_every,
            resume=self.teaching.resume,
        )

    def makers(self, settings: "StageSettings") -> dict[str, "Finetune"]:
        """Return a function from a model to its Trainer for each stage that teaches or is taught before."""
        if self.teaching.teach is None:
            return {}
        made = {}
        for name, epochs in self.epochs.items():
            made[name] = self._shown(name, lambda model, bar, name=name, epochs=epochs: settings.maker(
                name, epochs, self.rows["train"], self.collate, [bar]
            )(model))
        return made

    def _shown(self, name: str, make: Any) -> "Finetune":
        def make_trainer(model: Any) -> Any:
            from ..depth.layers import layers_of
            from ..support.wrappers import unwrap

            return make(model, shown_training(STAGES[name].format(len(layers_of(unwrap(model))))))

        return make_trainer

    def compress(self, *, metric: str | None, **asked: Any) -> "CompressionResult | None":
        """Do it, write what came out, and return it; `None` in a process that is not the first."""
        from ..compress import compress
        from ..data.tasks import usual_metric
        from ..support.processes import is_first_process

        asked["metric"] = metric or usual_metric(self.network)
        if "test" in self.rows:
            asked["test"] = self._batches("test", "Testing")
        with tempfile.TemporaryDirectory() as scratch:
            if self.teaching.teach is not None:
                settings = self.settings()
                asked |= self.makers(settings)
                asked |= {"work_dir": self.work_dir, "resume": self.teaching.resume, "teacher": self._teacher()}
                asked["choose_healed"] = self.teaching.choose_healed
            elif self.finetuning.finetune is not None:
                asked["finetune"] = self._finetune(scratch)
            result = compress(self.network, self._batches("data", "Measuring every depth"), progress=shown, **asked)
        if not is_first_process():
            return None
        if result.test is not None:
            self.facts |= {"results": {result.profile.metric: result.test.short}, "results_split": "test"}
        result.save_pretrained(self.out, processor=self.processor, **self.facts)
        if self.teaching.teach is not None and not self.teaching.keep_work:
            shutil.rmtree(self.work_dir)
        return result
