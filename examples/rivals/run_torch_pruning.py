"""Torch-Pruning: take half of every layer of a fine-tuned BERT, then fine-tune it again.

What is unusual: the library prunes channels; it has nothing that drops layers. So all layers stay, and each loses half
of its attention heads and half of its neurons, those that a first-order Taylor estimate misses least. The encoder then
has as many parameters as its first half. The result is no ordinary checkpoint: the config of a BERT cannot name it.

    pip install -r examples/rivals/requirements-torch-pruning.txt
    OMP_NUM_THREADS=1 python examples/rivals/run_torch_pruning.py --model MINILM --train_file train.csv \\
        --validation_file validation.csv --output_dir runs/rivals --seeds 0 1 2

The library leaves the fine-tuning to its user: plain fine-tuning as acn_hf's runs without a teacher.

Cost: 4 epochs of 6,500 sentences take 3 minutes of one CPU core.
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
    record,
    runs_left,
    training_arguments,
)
from transformers import HfArgumentParser


@dataclass
class TorchPruningArguments(TeacherArguments):
    pruning_ratio: float = field(default=0.5, metadata={"help": "Share of the heads and neurons that go."})
    num_batches: int = field(default=20, metadata={"help": "Batches whose gradients say what matters."})


def prune(arguments: TorchPruningArguments, model: Any, rows: list[dict[str, Any]]) -> None:
    """Take heads and neurons out of a model."""
    import torch
    import torch_pruning

    layers, collate = model.bert.encoder.layer, collator(arguments)
    ends = [layer.attention.output.dense for layer in layers] + [layer.output.dense for layer in layers]
    heads = {
        part: model.config.num_attention_heads
        for layer in layers
        for part in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value)
    }
    pruner = torch_pruning.pruner.BasePruner(
        model,
        {"input_ids": torch.ones(1, 8, dtype=torch.long)},
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=arguments.pruning_ratio,
        ignored_layers=[model.bert.embeddings, model.bert.pooler, model.classifier, *ends],
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=arguments.pruning_ratio,
        output_transform=lambda output: output.logits.sum(),
    )
    model.zero_grad()
    for start in range(0, arguments.num_batches * arguments.batch_size, arguments.batch_size):
        model(**collate(rows[start : start + arguments.batch_size])).loss.backward()
    pruner.step()
    model.zero_grad()
    for layer in layers:
        attention = layer.attention.self
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.all_head_size = attention.query.out_features


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(TorchPruningArguments).parse_args_into_dataclasses(argv)
    train_rows, rows = encoded_rows(arguments)
    for seed, name, _ in runs_left(arguments, {"torch-pruning-half": None}):
        from transformers import Trainer

        model = fine_tuned(arguments, seed)
        clock = Clock()
        prune(arguments, model, train_rows)
        right_away = accuracy(arguments, model, rows)
        how = training_arguments(arguments, seed)
        Trainer(model, how, train_dataset=train_rows, data_collator=collator(arguments)).train()
        times = clock.read()
        num_layers = len(model.bert.encoder.layer)
        sizes = {"num_parameters": model.num_parameters(), "value_before_training": right_away}
        record(arguments, name, seed, {num_layers: accuracy(arguments, model, rows)}, times, "torch-pruning", **sizes)


if __name__ == "__main__":
    main()
