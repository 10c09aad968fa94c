"""Compare the ways from a residual checkpoint to a model that is good at every depth, at equal steps.

What is unusual: a run is named by what it does, `CONNECTIONS+SUPERVISION+DISTILLATION-seedN`, and has one folder with
its settings and its depth profile. A run that is complete is skipped, so the script can be stopped and started again at
any time, and several of them may share the work. Runs with distillation learn from the run `residual+none+none` of the
same seed, which has to come first. `compare_runs.py` prints the table; `docs/experiments.md` holds what it printed.

    python examples/compare_conversions.py --model_name_or_path MINILM --train_file train.csv \\
        --validation_file validation.csv --output_dir runs/convert --runs residual+none+none long+linear+labels

CONNECTIONS: `residual` (as it was), `long` (the long connections are added to the short ones), `hard` (scale 0 from the
first step on), `strict` (the same, without the short connections around attention), `anneal-E-F` (from scale 1 to E
over the share F of the steps), `scale-A` (scale A from the first step on), `upper-F` (the upper half of the layers is
annealed to scale 0), `learned` (one trained scale a layer, from 1), or `cut-K` (the residual model is cut to K layers
first and trained then). With `tuned-` before it a run starts from the trained weights of `residual+none+none` in place
of the pretrained ones. SUPERVISION: `none`, `linear`, `uniform`. DISTILLATION: `none`, `labels` (soft labels, half of
the loss), `only` (all of it), `states`, `both`.

Cost: a run of 2 epochs over 6,500 sentences with 6 layers of width 384 takes 6 minutes on one busy CPU core.
"""

import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from acn_hf import (
    DistillationLoss,
    IntermediateSupervisionCallback,
    ResidualAnnealingCallback,
    from_residual,
    measure_depth_profile,
    truncate,
)
from acn_hf.data import Columns, load_data, prepare
from acn_hf.support import circumstances

TEACHER = "residual+none+none"
HEAD = {"architecture": "BertForSequenceClassification", "num_labels": 2}
DISTILLATIONS = {
    "none": None,
    "only": {"soft_labels": 1.0},
    "labels": {"soft_labels": 0.5},
    "states": {"soft_labels": 0.0, "depth_states": 1.0},
    "both": {"soft_labels": 0.5, "depth_states": 1.0},
}


@dataclass
class Arguments:
    model_name_or_path: str = field(metadata={"help": "A residual BERT or ViT."})
    train_file: str = field(metadata={"help": "Texts and labels to train on."})
    validation_file: str = field(metadata={"help": "Texts and labels to measure every depth on."})
    output_dir: str = field(metadata={"help": "A folder for each run is made below."})
    runs: list[str] = field(metadata={"help": "CONNECTIONS+SUPERVISION+DISTILLATION each, see above."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "A run for each."})
    num_train_epochs: float = field(default=2.0, metadata={"help": "The same for all runs."})
    learning_rate: float = field(default=1e-4, metadata={"help": "The same for all runs."})
    scale_learning_rate: float = field(default=1e-2, metadata={"help": "Of learned residual scales."})
    batch_size: int = field(default=32, metadata={"help": "Sentences a step."})
    pooling: str = field(default="mean", metadata={"help": "What the head reads: mean, or cls by BERT's own pooler."})
    bf16: bool = field(default=False, metadata={"help": "Train under an autocast to bfloat16."})


def convert(connections: str, load: Callable[..., PreTrainedModel]) -> tuple[PreTrainedModel, list[TrainerCallback]]:
    """Return the model to train and what happens to its connections meanwhile."""
    kind, *numbers = connections.split("-")
    if kind == "residual":
        return load(), []
    if kind == "cut":
        return truncate(load(), int(numbers[0])), []
    if kind == "long":
        return load(readout="sum"), []
    if kind == "hard":
        return load(residual_scale=0.0), []
    if kind == "strict":
        return load(residual_scale=0.0, attention_residual=False), []
    if kind == "scale":
        return load(residual_scale=float(numbers[0])), []
    if kind == "learned":
        return load(learn_residual_scale=True), []
    if kind == "anneal":
        return load(), [ResidualAnnealingCallback(1.0, float(numbers[0]), float(numbers[1]))]
    if kind == "upper":
        model = load()
        layers = model.config.num_hidden_layers
        end = [1.0] * (layers // 2) + [0.0] * (layers - layers // 2)
        return model, [ResidualAnnealingCallback(1.0, end, float(numbers[0]))]
    raise ValueError(f"connections must be one of those of --help; got {connections!r}")


def optimizer_of(model: PreTrainedModel, arguments: Arguments) -> torch.optim.Optimizer | None:
    """Return an optimiser with a rate of its own for learned scales; None leaves it to the Trainer."""
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("residual_scale")]
    if not scales:
        return None
    others = [parameter for name, parameter in model.named_parameters() if not name.endswith("residual_scale")]
    groups = [{"params": others}, {"params": scales, "lr": arguments.scale_learning_rate, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, weight_decay=0.0)


def run(name: str, seed: int, arguments: Arguments, splits: dict[str, Any], tokenizer: Any) -> None:
    """Train one model and write its folder, unless it is there."""
    folder = Path(arguments.output_dir) / f"{name}-seed{seed}"
    if (folder / "run.json").exists():
        return
    connections, supervision, distillation = name.split("+")
    set_seed(seed)
    teacher = str(Path(arguments.output_dir) / f"{TEACHER}-seed{seed}" / "model")
    if connections.startswith("tuned-"):
        load = functools.partial(AutoModelForSequenceClassification.from_pretrained, teacher)
    else:
        head = {**HEAD, "pooling": arguments.pooling}
        load = functools.partial(from_residual, arguments.model_name_or_path, residual_scale=1.0, **head)
    model, callbacks = convert(connections.removeprefix("tuned-"), load)
    lesson = DISTILLATIONS[distillation]
    if lesson is not None:
        lesson = DistillationLoss(AutoModelForSequenceClassification.from_pretrained(teacher), **lesson)
    if supervision != "none" or lesson is not None:
        weights = "full" if supervision == "none" else supervision
        callbacks.append(IntermediateSupervisionCallback(weights, distillation=lesson))
    rows = {split: prepare(model, tokenizer, part, Columns("text"), max_length=64) for split, part in splits.items()}
    training = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=arguments.num_train_epochs,
        learning_rate=arguments.learning_rate,
        per_device_train_batch_size=arguments.batch_size,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        report_to="none",
        logging_steps=20,
        bf16=arguments.bf16,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        seed=seed,
    )
    trainer = Trainer(
        model,
        training,
        data_collator=rows["train"][1],
        train_dataset=rows["train"][0],
        callbacks=callbacks,
        optimizers=(optimizer_of(model, arguments), None),
    )
    begin = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begin
    profile = measure_depth_profile(model, rows["validation"][0], collate_fn=rows["validation"][1], batch_size=64)
    if name == TEACHER or connections == "learned":
        model.save_pretrained(folder / "model")
    profile.save(folder / "depth_profile.json")
    record = {"name": name, "seed": seed, "train_runtime": seconds, "settings": asdict(arguments)}
    record["circumstances"] = circumstances(Path(__file__).parent)
    record["log"] = trainer.state.log_history
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name} seed {seed}: {' '.join(f'{value:.3f}' for value in profile.values)} in {seconds:.0f} s", flush=True)


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model_name_or_path)
    splits = {"train": load_data(arguments.train_file), "validation": load_data(arguments.validation_file)}
    for seed in arguments.seeds:
        for name in arguments.runs:
            run(name, seed, arguments, splits, tokenizer)


if __name__ == "__main__":
    main()
