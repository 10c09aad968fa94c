"""setfit: contrastive pairs, then a logistic regression, on the first layers of a sentence-transformers model.

What is unusual: a run for each depth, on the pretrained model; nothing is distilled. Steps are counted so that as many
sentences are seen as by fine-tuning and teaching together.

    pip install -r examples/rivals/requirements-sentence-transformers.txt
    OMP_NUM_THREADS=1 python examples/rivals/run_setfit.py --model MINILM --train_file train.csv \\
        --validation_file validation.csv --output_dir runs/rivals --seeds 0 1 2 --depths 3

Defaults of the library: pairs by oversampling, cosine loss, 16 pairs in a step, learning rate 2e-5 with 10% warm-up,
head of scikit-learn. With `--end_to_end` its head of torch, which trains together with the layers at 1e-5 for the last
two thirds of the epochs.

Cost: 1,219 steps of 16 pairs and 3 layers of width 384 take 13 minutes of one CPU core.
"""

from dataclasses import dataclass, field
from typing import Any

from shared import Arguments, Clock, Rows, read_both, record, runs_left
from transformers import HfArgumentParser


@dataclass
class SetFitArguments(Arguments):
    epochs: int = field(default=6, metadata={"help": "Epochs: as many as of fine-tuning and teaching together."})
    depths: list[int] = field(default_factory=lambda: [3], metadata={"help": "Layers that are left."})
    end_to_end: bool = field(default=False, metadata={"help": "Train a head of torch together with the layers."})


def train(arguments: SetFitArguments, rows: Rows, depth: int, seed: int) -> Any:
    """Return the model that comes out."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitHead, SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    body = SentenceTransformer(arguments.model, device="cpu")
    body.max_seq_length = arguments.max_length
    encoder = body[0].auto_model.encoder
    encoder.layer, body[0].auto_model.config.num_hidden_layers = encoder.layer[:depth], depth
    if arguments.end_to_end:
        head = SetFitHead(in_features=body.get_sentence_embedding_dimension(), out_features=2, device="cpu")
    else:
        head = LogisticRegression(max_iter=1000)
    of_pairs = arguments.epochs / 3 if arguments.end_to_end else arguments.epochs
    trainer = Trainer(
        model=SetFitModel(body, head, labels=[0, 1]),
        args=TrainingArguments(
            output_dir=f"{arguments.output_dir}/checkpoints",
            batch_size=(arguments.batch_size // 2, arguments.batch_size),
            num_epochs=(1, round(arguments.epochs * 2 / 3)),
            max_steps=round(len(rows.texts) * of_pairs / arguments.batch_size),
            end_to_end=arguments.end_to_end,
            max_length=arguments.max_length,
            seed=seed,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        ),
        train_dataset=Dataset.from_dict({"text": rows.texts, "label": rows.labels}),
    )
    trainer.train()
    return trainer.model


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(SetFitArguments).parse_args_into_dataclasses(argv)
    train_rows, rows = read_both(arguments)
    kind = "setfit-end-to-end" if arguments.end_to_end else "setfit"
    for seed, name, depth in runs_left(arguments, {f"{kind}-{depth}": depth for depth in arguments.depths}):
        clock = Clock()
        model = train(arguments, train_rows, depth, seed)
        times = clock.read()
        answers = [int(answer) for answer in model.predict(rows.texts, as_numpy=True)]
        right = sum(answer == label for answer, label in zip(answers, rows.labels, strict=True))
        packages = ("setfit", "sentence-transformers", "scikit-learn")
        record(arguments, name, seed, {depth: right / len(answers)}, times, *packages)


if __name__ == "__main__":
    main()
