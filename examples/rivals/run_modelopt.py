"""NVIDIA Model Optimizer: distil a fine-tuned BERT into its own first layers.

What is unusual: a run for each depth. The depth pruning of the library (`mcore_minitron`) takes models of Megatron-Core
only, so the layers are cut by hand here, and its distillation trains what is left: `mtd.convert` wraps student and
teacher, and `compute_kd_loss` compares what their classifiers answer. Its KDTrainer compares tokens of language models.

    pip install -r examples/rivals/requirements-modelopt.txt
    OMP_NUM_THREADS=1 python examples/rivals/run_modelopt.py --model MINILM --train_file train.csv \\
        --validation_file validation.csv --output_dir runs/rivals --seeds 0 1 2 --depths 3

`--prune` asks the library to prune the fine-tuned model instead, and prints what it answers: of depth, that there is no
such mode where Transformer Engine is missing, which needs CUDA; of width, that a BERT has nothing to configure.

Defaults of the library: temperature 1, no loss of the labels. It has none for the optimizer and the learning rate,
which are those of acn_hf here. Its `LogitsDistillationLoss` averages over the classes too, so `batchmean` is asked for.

Cost: 4 epochs of 6,500 sentences and 3 layers of width 384 take 3 to 4 minutes of one CPU core.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

from shared import (
    Clock,
    TeacherArguments,
    accuracy,
    collator,
    encoded_rows,
    fine_tuned,
    first_layers,
    record,
    runs_left,
    training_arguments,
)
from transformers import HfArgumentParser


@dataclass
class ModelOptArguments(TeacherArguments):
    temperature: float = field(default=1.0, metadata={"help": "Of the answers."})
    prune: bool = field(default=False, metadata={"help": "Only ask for its depth pruning."})


def prune(arguments: ModelOptArguments, depth: int) -> None:
    """Print what the library answers to one who asks for fewer layers of a BERT."""
    import modelopt.torch.prune as mtp
    import torch

    model = fine_tuned(arguments, arguments.seeds[0])
    example = {"input_ids": torch.ones(1, 8, dtype=torch.long)}
    for mode, constraints in (
        ("mcore_minitron", {"export_config": {"num_layers": depth}}),
        ("fastnas", {"params": "50%"}),
    ):
        config = {"forward_loop": lambda model: model(**example), "score_func": lambda model: 0.0, "data_loader": []}
        try:
            mtp.prune(model, mode, constraints, (example, {}), config)
        except Exception as error:
            print(f"{mode}: {type(error).__name__}: {error}")
        else:
            print(f"{mode}: {len(model.bert.encoder.layer)} layers, {model.num_parameters():,} parameters")


def distil(arguments: ModelOptArguments, teacher: Any, student: Any, rows: list[dict[str, Any]], seed: int) -> Any:
    """Return the student, trained."""
    import modelopt.torch.distill as mtd
    from transformers import Trainer

    plain = copy.deepcopy(student)
    criterion = mtd.LogitsDistillationLoss(temperature=arguments.temperature, reduction="batchmean")
    both = mtd.convert(
        student,
        mode=[("kd_loss", {"teacher_model": teacher, "criterion": {("classifier", "classifier"): criterion}})],
    )

    class Distillation(Trainer):
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            inputs.pop("labels")
            model(**inputs)
            return model.compute_kd_loss()

    how = training_arguments(arguments, seed)
    Distillation(both, how, train_dataset=rows, data_collator=collator(arguments)).train()
    # What the Trainer trained keeps a forward for autocast, that of both models; only its weights are plain again.
    plain.load_state_dict(mtd.export(both).state_dict())
    return plain


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(ModelOptArguments).parse_args_into_dataclasses(argv)
    if arguments.prune:
        return prune(arguments, arguments.depths[0])
    train_rows, rows = encoded_rows(arguments)
    for seed, name, depth in runs_left(arguments, {f"modelopt-{depth}": depth for depth in arguments.depths}):
        teacher = fine_tuned(arguments, seed)
        clock = Clock()
        student = distil(arguments, teacher, first_layers(teacher, depth), train_rows, seed)
        times = clock.read()
        record(arguments, name, seed, {depth: accuracy(arguments, student, rows)}, times, "nvidia-modelopt")
    return None


if __name__ == "__main__":
    main()
