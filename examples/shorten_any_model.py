"""Make a short text classifier of any model: fine-tune, let it teach every depth of its copy, cut, and heal.

What is unusual: every class is transformers' own, every training is a stock Trainer, and what comes out needs acn_hf no
more. At the end the folder is read as a server reads it, by `pipeline`; docs/export.md makes an ONNX file of it.

    python examples/shorten_any_model.py --model PRETRAINED --train_file train.csv --validation_file validation.csv \\
        --depth 3 --output_dir out --report_to none --bf16 True

Cost: 6,500 sentences and 6 layers of width 384 take about 15 minutes on one busy CPU core.
"""

import copy
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

from acn_hf import DistillationLoss, IntermediateSupervisionCallback, compress, measure_depth_profile
from acn_hf.data import Columns, find_classes, load_data, load_tokenizer, prepare
from acn_hf.support import circumstances, write_text


@dataclass
class Arguments:
    model: str = field(metadata={"help": "A checkpoint of transformers: a folder or a name on the Hub."})
    train_file: str = field(metadata={"help": "CSV, JSON lines or Parquet with the columns text and label."})
    validation_file: str = field(metadata={"help": "What every depth is measured on."})
    depth: int = field(metadata={"help": "Number of layers to keep."})
    tuning_epochs: float = field(default=2.0, metadata={"help": "Epochs of plain fine-tuning, at full depth."})
    teaching_epochs: float = field(default=4.0, metadata={"help": "Epochs in which a copy is taught at every depth."})
    healing_epochs: float = field(default=2.0, metadata={"help": "Epochs of the cut model, with the same teacher."})
    max_length: int = field(default=64, metadata={"help": "Tokens in a text."})


@dataclass
class Run:
    """What all trainings of a run share."""

    arguments: TrainingArguments
    train: Any
    validation: Any
    collator: DataCollatorWithPadding
    seconds: dict[str, float] = field(default_factory=dict)

    def trainer(self, model: PreTrainedModel, stage: str, epochs: float, *callbacks: Any) -> Trainer:
        folder = str(Path(str(self.arguments.output_dir)) / stage)
        arguments = replace(self.arguments, output_dir=folder, num_train_epochs=epochs)
        trainer = Trainer(model, arguments, train_dataset=self.train, data_collator=self.collator)
        for callback in callbacks:
            callback.attach(trainer)
        return trainer

    def train_for(self, model: PreTrainedModel, stage: str, epochs: float, *callbacks: Any) -> None:
        if epochs:
            self.seconds[stage] = self.trainer(model, stage, epochs, *callbacks).train().metrics["train_runtime"]

    def measure(self, model: PreTrainedModel) -> Any:
        return measure_depth_profile(model, self.validation, collate_fn=self.collator, batch_size=64)


def main(argv: list[str] | None = None) -> None:
    arguments, training = HfArgumentParser((Arguments, TrainingArguments)).parse_args_into_dataclasses(argv)
    training.save_strategy = "no"
    set_seed(training.seed)
    columns = Columns()
    texts = {"train": load_data(arguments.train_file), "validation": load_data(arguments.validation_file)}
    classes = find_classes(texts["train"], columns.label)
    tokenizer = load_tokenizer(arguments.model)
    tokenizer.model_max_length = arguments.max_length
    labels = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    tuned = AutoModelForSequenceClassification.from_pretrained(arguments.model, **labels)
    rows = {name: prepare(tuned, tokenizer, part, columns)[0] for name, part in texts.items()}
    run = Run(training, rows["train"], rows["validation"], DataCollatorWithPadding(tokenizer))

    run.train_for(tuned, "tuned", arguments.tuning_epochs)
    profiles = {"fine-tuned, then cut": run.measure(tuned)}

    teacher = DistillationLoss(tuned)
    taught = copy.deepcopy(tuned)
    supervision = IntermediateSupervisionCallback("uniform", distillation=teacher)
    run.train_for(taught, "taught", arguments.teaching_epochs, supervision)
    profiles["taught at every depth"] = run.measure(taught)

    def heal(short: PreTrainedModel) -> Trainer:
        healing = IntermediateSupervisionCallback("full", distillation=teacher)
        return run.trainer(short, "healed", arguments.healing_epochs, healing)

    options = {"finetune": heal} if arguments.healing_epochs else {}
    result = compress(taught, run.validation, depth=arguments.depth, collate_fn=run.collator, batch_size=64, **options)
    folder = Path(str(training.output_dir), "short")
    result.save_pretrained(folder, processor=tokenizer, base_model=arguments.model)
    served = pipeline("text-classification", str(folder), device="cpu")
    print(
        f"{folder} holds a {type(served.model).__name__}, which needs no acn_hf:",
        served(texts["validation"]["text"][:2]),
    )
    record = {
        "profiles": {name: profile.to_dict() for name, profile in profiles.items()},
        "depth": result.depth,
        "healed": result.finetuned,
        "seconds": run.seconds,
        "cost_before": result.cost_before.to_dict(),
        "cost_after": result.cost_after.to_dict(),
        "circumstances": circumstances(),
        "seed": training.seed,
    }
    write_text(Path(str(training.output_dir), "result.json"), json.dumps(record, indent=2) + "\n")
    show(record)


def show(record: dict[str, Any]) -> None:
    """Print the metric at every depth, and what healing adds."""
    table = Table("depth", *record["profiles"], "cut there and healed")
    for place, depth in enumerate(next(iter(record["profiles"].values()))["depths"]):
        values = [f"{profile['values'][place]:.4f}" for profile in record["profiles"].values()]
        healed = f"{record['healed']:.4f}" if depth == record["depth"] and record["healed"] is not None else ""
        table.add_row(str(depth), *values, healed)
    Console().print(table)


if __name__ == "__main__":
    main()
