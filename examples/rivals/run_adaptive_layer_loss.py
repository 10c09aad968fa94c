"""sentence-transformers: AdaptiveLayerLoss, then a logistic regression on the embeddings of every depth.

What is unusual: one run for all depths, as acn_hf teaches them, but of embeddings: sentences of a class are pulled
together at the last layer and at one random layer below, which also imitates the last. A logistic regression from
scikit-learn stands on the embeddings of each depth, so every depth has a head of its own.

    pip install -r examples/rivals/requirements-sentence-transformers.txt
    OMP_NUM_THREADS=1 python examples/rivals/run_adaptive_layer_loss.py --model MINILM --train_file train.csv \\
        --validation_file validation.csv --output_dir runs/rivals --seeds 0 1 2

Defaults of the library: learning rate 5e-5 with linear decay, KL weight 1 at temperature 0.3. From its pages:
`BatchAllTripletLoss` for sentences with a class, batches grouped by label, 10% warm-up.

Cost: 6 epochs of 6,500 sentences and 6 layers of width 384 take 10 minutes of one CPU core.
"""

from dataclasses import dataclass, field
from typing import Any

from shared import Arguments, Clock, Rows, read_both, record, runs_left, training_options
from transformers import HfArgumentParser


@dataclass
class AdaptiveArguments(Arguments):
    epochs: float = field(default=6.0, metadata={"help": "Epochs: as many as of fine-tuning and teaching together."})
    learning_rate: float = field(default=5e-5, metadata={"help": "The highest; 10%% warm-up, then along a line to 0."})
    loss: str = field(default="BatchAllTripletLoss", metadata={"help": "What AdaptiveLayerLoss is put around."})
    n_layers_per_step: int = field(default=1, metadata={"help": "Random layers below the last in a step; -1: all."})
    name: str = field(default="adaptive-layers", metadata={"help": "Of the runs."})


def train(arguments: AdaptiveArguments, rows: Rows, seed: int) -> Any:
    """Return the sentence-transformers model that comes out."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.training_args import BatchSamplers

    model = SentenceTransformer(arguments.model, device="cpu")
    model.max_seq_length = arguments.max_length
    loss = getattr(losses, arguments.loss)(model)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            **training_options(arguments, seed), batch_sampler=BatchSamplers.GROUP_BY_LABEL
        ),
        train_dataset=Dataset.from_dict({"text": rows.texts, "label": rows.labels}),
        loss=losses.AdaptiveLayerLoss(model, loss, n_layers_per_step=arguments.n_layers_per_step),
    )
    trainer.train()
    return model


def accuracy_by_depth(model: Any, train_rows: Rows, rows: Rows) -> dict[int, float]:
    """Return the accuracy of a logistic regression on the embeddings of every depth."""
    from sklearn.linear_model import LogisticRegression

    encoder, values = model[0].auto_model.encoder, {}
    layers = encoder.layer
    for depth in range(1, len(layers) + 1):
        encoder.layer = layers[:depth]
        embeddings = [model.encode(part.texts, batch_size=64) for part in (train_rows, rows)]
        head = LogisticRegression(max_iter=1000).fit(embeddings[0], train_rows.labels)
        values[depth] = float(head.score(embeddings[1], rows.labels))
    encoder.layer = layers
    return values


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(AdaptiveArguments).parse_args_into_dataclasses(argv)
    train_rows, rows = read_both(arguments)
    for seed, name, _ in runs_left(arguments, {arguments.name: None}):
        clock = Clock()
        model = train(arguments, train_rows, seed)
        times = clock.read()
        values = accuracy_by_depth(model, train_rows, rows)
        record(arguments, name, seed, values, times, "sentence-transformers", "scikit-learn")


if __name__ == "__main__":
    main()
