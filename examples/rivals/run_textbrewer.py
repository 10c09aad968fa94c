"""TextBrewer: distil a fine-tuned BERT, logits and layers, into its own first layers.

What is unusual: a run for each depth. The student starts as the first layers of its teacher; its hidden states are
matched with those of the layers of the teacher that lie as deep in proportion, as in the library's own T3 students.

    pip install -r examples/rivals/requirements-textbrewer.txt
    OMP_NUM_THREADS=1 python examples/rivals/run_textbrewer.py --model MINILM --train_file train.csv \\
        --validation_file validation.csv --output_dir runs/rivals --seeds 0 1 2 --depths 3

Defaults of the library: temperature 4, cross-entropy with the answers of the teacher, weight 1, no hard labels. It has
none for the optimizer and the learning rate, which are those of acn_hf here, nor for autocast, which stands around it.

Cost: 4 epochs of 6,500 sentences and 3 layers of width 384 take 4 minutes of one CPU core.
"""

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
)
from transformers import HfArgumentParser


@dataclass
class TextBrewerArguments(TeacherArguments):
    match_layers: bool = field(default=True, metadata={"help": "Whether hidden states are taught too."})


def distil(arguments: TextBrewerArguments, teacher: Any, student: Any, rows: list[dict[str, Any]]) -> None:
    """Train the student."""
    import torch
    from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
    from torch.utils.data import DataLoader
    from transformers import get_linear_schedule_with_warmup
    from transformers.trainer_pt_utils import LengthGroupedSampler

    deep, shallow = (model.config.num_hidden_layers for model in (teacher, student))
    matches = [
        {"layer_T": deep * layer // shallow, "layer_S": layer, "feature": "hidden", "loss": "hidden_mse", "weight": 1}
        for layer in range(shallow + 1)
    ]
    sampler = LengthGroupedSampler(arguments.batch_size, lengths=[len(row["input_ids"]) for row in rows])
    collate = collator(arguments)
    # A distiller unpacks what is a dict itself, and no subclass.
    loader = DataLoader(rows, arguments.batch_size, sampler=sampler, collate_fn=lambda part: dict(collate(part)))
    steps = round(len(loader) * arguments.epochs)
    distiller = GeneralDistiller(
        TrainingConfig(
            ckpt_frequency=0,
            ckpt_steps=steps + 1,  # none, then
            log_dir=None,
            output_dir=f"{arguments.output_dir}/checkpoints",
            device="cpu",
        ),
        DistillationConfig(intermediate_matches=matches if arguments.match_layers else None),
        teacher,
        student,
        adaptor_T=answers,
        adaptor_S=answers,
    )
    optimizer = torch.optim.AdamW(student.parameters(), lr=arguments.learning_rate, weight_decay=0.0)
    # The weights that autocast keeps in bfloat16 would stay as they are over all steps of this one context.
    with distiller, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        distiller.train(
            optimizer,
            loader,
            num_epochs=None,
            num_steps=steps,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": steps // 10, "num_training_steps": steps},
            output_hidden_states=arguments.match_layers,
        )


def answers(batch: dict[str, Any], outputs: Any) -> dict[str, Any]:
    """Return what a distiller compares."""
    return {"logits": outputs.logits, "hidden": outputs.hidden_states, "inputs_mask": batch["attention_mask"]}


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(TextBrewerArguments).parse_args_into_dataclasses(argv)
    train_rows, rows = encoded_rows(arguments)
    kind = "textbrewer" if arguments.match_layers else "textbrewer-logits"
    for seed, name, depth in runs_left(arguments, {f"{kind}-{depth}": depth for depth in arguments.depths}):
        teacher = fine_tuned(arguments, seed)
        student, clock = first_layers(teacher, depth), Clock()
        distil(arguments, teacher, student, train_rows)
        times = clock.read()
        record(arguments, name, seed, {depth: accuracy(arguments, student, rows)}, times, "textbrewer")


if __name__ == "__main__":
    main()
