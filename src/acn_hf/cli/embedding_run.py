"""From the paths of a command line to the arguments of `compress_embeddings`, and its result to a folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainingArguments

    from ..compression.result import CompressionResult
    from ..training.stage_trainer import StageSettings

from .base import console, shown, warn
from .compression_data import origin, shared_in, with_split
from .embedding_texts import texts_in
from .long_run import LongRun
from .plan import TIMED, WARMUP
from .progress import counted, shown_training


@dataclass(kw_only=True)
class EmbeddingRun(LongRun):
    """A run of `acn-hf compress --embeddings`.

    Args:
        evaluator_source (`str`, *optional*): Where the evaluator lies that chooses the depth.
    """

    evaluator_source: str | None = None
    evaluator: Any = None
    texts: dict[str, list[str]] = field(default_factory=dict)
    """By the names of the rows that they stand in."""

    @property
    def epochs(self) -> dict[str, float]:
        """Epochs of each stage that is trained; what is healed begins anew, so it is taught for as long."""
        if self.teaching.teach is None:
            return {}
        epochs = self.teaching.epochs
        if self.teaching.heal is None:
            epochs |= {"heal": epochs["teach"]}
        return {name: number for name, number in epochs.items() if number}

    @property
    def places(self) -> dict[str, tuple[str, Any]]:
        """Where the texts that were given lie; where an evaluator chooses, DATA are those that are tested on."""
        places = super().places
        if self.evaluator_source is not None:
            places["test"] = places.pop("data")
        return places

    @property
    def sources(self) -> dict[str, str]:
        """What model, texts and evaluator are called."""
        evaluator = {} if self.evaluator_source is None else {"evaluator": _name_of_source(self.evaluator_source)}
        return {**super().sources, **evaluator}

    def read(self, *, strict: bool) -> None:
        """Load the model, the evaluator and the texts."""
        from ..embeddings.evaluator_source import load_evaluator
        from ..embeddings.loading import load_sentence_transformer

        self.join()
        if self.evaluator_source is not None:
            self.evaluator = load_evaluator(self.evaluator_source)
        self.network = load_sentence_transformer(self.source, self.device)
        self.in_float32()
        chooses = "data" if "data" in self.places else "test"
        for name, (source, split) in self.places.items():
            rows = self.reading.read(source, split, with_labels=False, with_blanks=False)
            self.rows[name] = self.reading.sample(rows) if name == chooses else rows
            self.texts[name] = texts_in(self.rows[name], self.reading.columns, source)
        self.doubt(shared_in(self.rows, self.reading.columns), strict)
        self.facts |= origin(self.source, self.data, self.reading.split)
        self.facts["test_data"] = None if self.test is None else with_split(self.test, self.test_split)
        if self.evaluator_source is not None:
            self.facts |= {"dataset": self.sources["evaluator"], "dataset_id": None, "split": None}
            self.facts["test_data"] = with_split(self.data, self.reading.split)

    def compress(self, *, metric: Any, **asked: Any) -> "CompressionResult | None":
        """Do it, write what came out, and return it; `None` in a process that is not the first."""
        from ..compression.embeddings import compress_embeddings
        from ..modeling.full_disk import full_disk_named
        from ..support.stopping import on_stop

        asked |= {"metric": metric, "batch_size": self.reading.batch_size, "test": self.texts.get("test")}
        if self.teaching.teach is not None:
            settings = self.settings()
            self.begin(settings)
            asked |= {name: self._maker(settings, name) for name in self.epochs}
            if self.epochs:
                asked |= {"train": self.texts["train"], "teacher": self._teacher()}
            asked["teaching"] = {"callbacks": [shown_training(self._described)]}
            asked |= {"work_dir": self.work.path, "resume": self.teaching.resume}
            asked["choose_healed"] = self.teaching.choose_healed
        data = self.texts["data"] if self.evaluator is None else self.evaluator
        with full_disk_named(self.work.path), on_stop(self.kept), self.work.removed_if_empty():
            asked["costs"] = self.page.report
            result = compress_embeddings(self.network, data, progress=shown, note=warn, **asked)
        return self.written(result)

    def train_a_little(self, settings: "StageSettings", name: str, depth: int, callback: "TrainerCallback") -> None:
        """Teach a copy of the model that is cut at a depth, and throw it away."""
        from ..depth.every_depth import truncate
        from ..embeddings.teaching import taught_embeddings

        weights = "uniform" if name == "teach" else "full"
        taught_embeddings(
            truncate(self.network, depth, merge_adapter=True),
            self.texts["train"][: max(3, settings.batch_size * (TIMED + WARMUP))],
            self._maker(settings, name)(depth),
            teacher=self.network,
            weights=weights,
            callbacks=[callback],
            is_quiet=True,
        )

    def _maker(self, settings: "StageSettings", name: str) -> "Callable[[int], TrainingArguments]":
        """Return a function from a number of layers to the arguments of a stage."""
        from sentence_transformers import SentenceTransformerTrainingArguments

        epochs, number_of_texts = self.epochs[name], len(self.texts["train"])
        return lambda number: settings.arguments(
            name, number, epochs, number_of_texts, SentenceTransformerTrainingArguments
        )

    def _described(self, model: Any) -> str:
        """Return what a progress bar says of the training of a model: only one that was cut is healed."""
        from ..depth.layers import layers_of
        from ..support.sentence_models import inner_model

        number = len(layers_of(inner_model(model)))
        is_whole = number == len(layers_of(inner_model(self.network)))
        return f"{'Teaching every depth of' if is_whole else 'Healing'} {counted(number, 'layer')}"

    def _teacher(self) -> Any:
        """Return the model that teaches, if it is another one."""
        from ..embeddings.inputs import full_dimension
        from ..embeddings.loading import load_sentence_transformer

        if self.teaching.teacher is None:
            return None
        teacher = load_sentence_transformer(self.teaching.teacher, self.device)
        ours, theirs = full_dimension(self.network), full_dimension(teacher)
        if ours != theirs:
            raise ValueError(
                f"the embeddings of the teacher must have the dimension of the model's, {ours}; those of "
                f"{self.teaching.teacher} have {theirs}"
            )
        console.print(f"{self.teaching.teacher} teaches, and is what embeddings are compared with")
        return teacher


def _name_of_source(source: str) -> str:
    """Return what `FILE.py:NAME` or `MODULE:NAME` is called, without folders."""
    return Path(source).name
