"""Compare what `acn-hf compress --teach` does with its rivals, run by run, at equal steps.

What is unusual: every run is a folder `NAME-seedN` with its profile, so the script can be stopped and started again at
any time, and several of them may share the work. `compare_runs.py` prints the table; `docs/experiments.md` holds it.

    python examples/compare_teaching.py --model PRETRAINED --train_file train.csv --validation_file validation.csv \\
        --output_dir runs/teaching --seeds 0 1 2

NAME is one of `tuned` (plain fine-tuning, which every other run starts from), `taught` (it teaches every depth of its
copy), `healed-K` (that is cut to K layers, and trained by the same teacher a little more), `cut-K-taught` (cut to K
layers first, then taught as long), `cut-K-alone` (the same without a teacher), `supervised` (the loss of the labels at
every depth), `acn` (converted to an ACN in the strict sense but for the connection around attention, taught) or
`acn-annealed` (its residual scale falls to 0 in half of the steps). All read the CLS token through the pooler.

Cost: an epoch of 6,500 sentences and 6 layers of width 384 takes about a minute of one CPU core.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, HfArgumentParser, PreTrainedModel, set_seed

from acn_hf import (
    DistillationLoss,
    IntermediateSupervisionCallback,
    ResidualAnnealingCallback,
    from_residual,
    measure_depth_profile,
    truncate,
)
from acn_hf.data import Columns, find_task, load_data, load_for_task, prepare
from acn_hf.scripts import record_of_runs
from acn_hf.support import circumstances, write_text
from acn_hf.training import AnswerBook, Stages, StageSettings, fine_tune, taught_by

SETTINGS = ("tune_epochs", "teach_epochs", "heal_epochs", "learning_rate", "soft_labels", "max_length", "bf16")
"""What a record says of how a run was trained."""


@dataclass
class Arguments:
    model: str = field(metadata={"help": "A checkpoint of transformers: a folder or a name on the Hub."})
    train_file: str = field(metadata={"help": "CSV, JSON lines or Parquet with the columns text and label."})
    validation_file: str = field(metadata={"help": "What every depth is measured on."})
    output_dir: str = field(metadata={"help": "A folder for each run."})
    runs: list[str] = field(default_factory=list, metadata={"help": "Which; defaults to all, at every depth."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds."})
    tune_epochs: float = field(default=2.0, metadata={"help": "Epochs of plain fine-tuning."})
    teach_epochs: float = field(default=4.0, metadata={"help": "Epochs of every run that starts from there."})
    heal_epochs: float = field(default=1.0, metadata={"help": "Epochs in which a cut model is healed."})
    learning_rate: float = field(default=1e-4, metadata={"help": "The highest."})
    soft_labels: float = field(default=0.5, metadata={"help": "Share of the teacher's answers in the loss."})
    record: str | None = field(default=None, metadata={"help": "JSON file for what all runs of the folder came to."})
    calm: bool = field(default=True, metadata={"help": "Take massive activations out of what is taught."})
    max_length: int = field(default=64, metadata={"help": "Tokens in a text."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16."})


class Runs:
    """The runs of one seed.

    Args:
        arguments (`Arguments`): What all runs share.
        seed (`int`): Of the head, of the order of the examples and of dropout.
    """

    def __init__(self, arguments: Arguments, seed: int):
        self.arguments, self.seed = arguments, seed
        folder = Path(arguments.output_dir)
        texts = [load_data(path) for path in (arguments.train_file, arguments.validation_file)]
        tokenizer = AutoTokenizer.from_pretrained(arguments.model, model_max_length=arguments.max_length)
        set_seed(seed)
        self.start, _ = load_for_task(arguments.model, find_task(texts[0], Columns()))
        (self.train, self.collate), (self.validation, _) = (
            prepare(self.start, tokenizer, part, Columns()) for part in texts
        )
        self.stages = Stages(folder / f"stages-seed{seed}")
        self.book = AnswerBook(folder / f"answers-seed{seed}")
        self.settings = StageSettings(
            folder / f"checkpoints-seed{seed}",
            torch.device("cpu"),
            learning_rate=arguments.learning_rate,
            seed=seed,
            bf16=arguments.bf16,
            resume=True,
        )

    def names(self) -> list[str]:
        """Return the names of all runs, those that others need first."""
        depths = range(1, self.start.config.num_hidden_layers)
        single = [
            f"{kind.format(depth)}" for kind in ("healed-{}", "cut-{}-taught", "cut-{}-alone") for depth in depths
        ]
        return ["tuned", "taught", "supervised", "acn", "acn-annealed", *single]

    def maker(self, name: str, epochs: float, *callbacks: Any) -> Callable[[Any], Any]:
        """Return a function from a model to the Trainer of a run."""
        return self.settings.maker(name, epochs, self.train, self.collate, callbacks)

    def tuned(self) -> PreTrainedModel:
        """Return the fine-tuned model, which is the teacher of all others."""
        make = self.maker("tuned", self.arguments.tune_epochs)
        return self.stages.trained("tuned", truncate_all(self.start), lambda model: fine_tune(model, make)).eval()

    def taught(self, name: str, student: PreTrainedModel, weights: str, epochs: float, *callbacks: Any) -> Any:
        """Return what the fine-tuned model makes of a student."""
        teacher = DistillationLoss(self.tuned(), soft_labels=self.arguments.soft_labels)
        make = self.maker(name, epochs, *callbacks)
        return self.stages.trained(
            name,
            student,
            lambda model: taught_by(teacher, model, make, weights, book=self.book, calm=self.arguments.calm),
        ).eval()

    def model(self, name: str) -> PreTrainedModel:
        """Return what comes out of a run."""
        epochs = self.arguments.teach_epochs
        kind, _, rest = name.partition("-")
        if name == "tuned":
            return self.tuned()
        if name == "taught":
            return self.taught(name, truncate_all(self.tuned()), "uniform", epochs)
        if kind == "healed":
            return self.taught(name, truncate(self.model("taught"), int(rest)), "full", self.arguments.heal_epochs)
        if kind == "cut":
            depth, how = rest.split("-")
            student = truncate(self.tuned(), int(depth))
            if how == "taught":
                return self.taught(name, student, "full", epochs)
            make = self.maker(name, epochs)
            return self.stages.trained(name, student, lambda model: fine_tune(model, make)).eval()
        if name == "supervised":
            make = self.maker(name, epochs, IntermediateSupervisionCallback("uniform"))
            return self.stages.trained(name, truncate_all(self.tuned()), lambda model: fine_tune(model, make)).eval()
        if kind == "acn":
            scale = 1.0 if rest else 0.0
            student = from_residual(self.tuned(), residual_scale=scale)
            annealing = [ResidualAnnealingCallback(1.0, 0.0, 0.5)] if rest else []
            return self.taught(name, student, "uniform", epochs, *annealing)
        raise ValueError(f"a run must be one of {', '.join(self.names())}; got {name}")

    def run(self, name: str) -> None:
        """Do a run, unless it is done, and write its profile."""
        folder = Path(self.arguments.output_dir, f"{name}-seed{self.seed}")
        if (folder / "depth_profile.json").exists():
            return
        began = time.monotonic()
        model = self.model(name)
        whole = name in ("tuned", "taught", "supervised") or name.startswith("acn")
        profile = measure_depth_profile(
            model, self.validation, depths=None if whole else [], collate_fn=self.collate, batch_size=64
        )
        seconds = self.stages.seconds[name]
        record = {"train_runtime": seconds, "seed": self.seed, "arguments": vars(self.arguments), **circumstances()}
        write_text(folder / "train_results.json", json.dumps(record, indent=2) + "\n")
        profile.save(folder / "depth_profile.json")
        values = " ".join(f"{value:.4f}" for value in profile.values)
        print(f"{folder.name}: {values} ({time.monotonic() - began:.0f} s)", flush=True)


def truncate_all(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy that nobody else holds."""
    return truncate(model, model.config.num_hidden_layers)


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses(argv)
    for seed in arguments.seeds:
        runs = Runs(arguments, seed)
        for name in arguments.runs or runs.names():
            runs.run(name)
    if arguments.record is not None:
        record = record_of_runs(Path(arguments.output_dir), SETTINGS)
        write_text(arguments.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
