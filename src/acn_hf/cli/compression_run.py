"""From the paths of a command line to the arguments of `compress`, and its result to a folder."""

import functools
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from ..compression.result import CompressionResult
    from ..training.finetuning import Finetune
    from ..training.stage_trainer import StageSettings

from .base import Shown, console, shown, warn
from .compression_data import origin, shared_in, untaught_in, with_split
from .long_run import LongRun
from .options import ConversionOptions, FinetuningOptions
from .progress import counted, shown_training

TUNING_EPOCHS = 2.0
MASKED_BATCH = 8
"""Blocks in a step of masked language models, which have as many logits for a token as their vocabulary has words."""
STAGES = {
    "tune": "Fine-tuning {}",
    "teach": "Teaching every depth of {}",
    "heal": "Healing {}",
    "finetune": "Fine-tuning {}",
}
"""What a progress bar says of each stage."""


@dataclass(kw_only=True)
class CompressionRun(LongRun):
    """A run of `acn-hf compress` for a model with a head.

    Args:
        conversion, finetuning: Groups of options.
    """

    conversion: ConversionOptions
    finetuning: FinetuningOptions
    processor: Any = None
    collate: Any = None
    new_weights: list[str] = field(default_factory=list)

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
    def training_data(self) -> tuple[str | None, str]:
        """What is trained on, if anything is, and its split."""
        if self.teaching.teach is None:
            return self.finetuning.finetune, self.finetuning.train_split
        return super().training_data

    def check_apart(self) -> None:
        """Refuse ways of training that do not go together, and to measure on what is trained on."""
        if None not in (self.teaching.teach, self.finetuning.finetune):
            raise typer.BadParameter("--teach and --finetune both train the cut model; give one of them")
        super().check_apart()

    def read(self, *, strict: bool) -> None:
        """Load checkpoint and data, and say what there is to do."""
        self.join()
        rows: dict[str, Any] = {}
        if "train" in self.places:  # the head follows from them
            rows["train"] = self.reading.read(*self.places["train"])
        self._load(rows.get("train"))
        for name, (source, split) in self.places.items():
            if name != "train":
                rows[name] = self.reading.read(source, split, with_labels=not self._is_masked)
        rows["data"] = self.reading.sample(rows["data"])
        self.raw = rows["data"]
        self.doubt(shared_in(rows, self.reading.columns), strict)
        if self._is_masked and self.reading.max_length is None and self.teaching.teach is not None:
            from ..depth.cost import usual_length

            self.reading = replace(self.reading, max_length=usual_length(self.network))
        for name, part in rows.items():
            self.rows[name], self.collate = self.reading.prepared(
                self.network, self.processor, part, self.places[name][0], is_trained_on=name == "train"
            )
        self.doubt(untaught_in(self.network, self.rows), strict)
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
        self.in_float32()

    def settings(self, batch_size: int = 32) -> "StageSettings":
        """Return how the stages are trained; see [`LongRun`]."""
        return super().settings(MASKED_BATCH if self._is_masked else batch_size)

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

    def train_a_little(self, settings: "StageSettings", name: str, depth: int, callback: "TrainerCallback") -> None:
        """Train a copy of the model that is cut at a depth as a stage does, and throw it away.

        The teacher is asked in each step, which is more than a run does where its answers are remembered.
        """
        from ..depth.every_depth import truncate
        from ..training.distillation import DistillationLoss
        from ..training.finetuning import fine_tune
        from ..training.teaching import taught_by

        copy = truncate(self.network, depth, merge_adapter=True)
        maker = settings.maker(name, self.epochs[name], self.rows["train"], self.collate, [callback])
        if name == "tune":
            fine_tune(copy, maker)
            return
        weights, num_depths = ("uniform", self.num_depths) if name == "teach" else ("full", None)
        taught_by(DistillationLoss(self.network, soft_labels=self.soft_labels), copy, maker, weights, num_depths)

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
        from ..support.stopping import on_stop

        asked |= {"metric": metric or usual_metric(self.network), "costs": self.page.report}
        if "test" in self.rows:
            asked["test"] = self._batches("test", "Testing")
        with tempfile.TemporaryDirectory() as scratch:
            if self.teaching.teach is not None:
                settings = self.settings()
                no_calm = "given" if self.teaching.no_calm else None
                max_length = self.reading.max_length
                self.begin(settings, soft_labels=self.soft_labels, no_calm=no_calm, max_length=max_length)
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
        return self.written(result, self.processor)


def _named(classes: dict[str, int]) -> str:
    return ", ".join(f"{number}: {name}" for name, number in sorted(classes.items(), key=lambda item: item[1]))
