"""Compare ways to sentence embeddings that are good at every depth, run by run, at equal steps.

What is unusual: nobody labels anything that is trained on. Who is right about a text is the long model itself, at full
depth and with all of its dimensions. Every run is a folder `NAME-seedN` with its profile, so the script can be stopped
and started again at any time, and several of them may share the work. `--tables` prints each measure at each dimension;
`compare_runs.py` prints the recall alone.

    python examples/make_sentences.py BOOK.txt.gz sentences
    python examples/compare_embeddings.py --model sentence-transformers/all-MiniLM-L6-v2 \\
        --train_file sentences/train.txt train.csv --held_out_file sentences/held_out.txt test.csv \\
        --labelled_train_file train.csv --labelled_test_file test.csv \\
        --output_dir runs/embeddings --record embeddings.json --tables

NAME is one of

  cut                  the model as it is, cut
  taught               every depth taught by the model itself (acn_hf); taught-dims: the smaller dimensions too
  healed-K             the taught model cut to K layers, and taught more at that depth alone
  spread-K             K layers of the model at equal distances, taught at that depth alone: what the command heals
  adaptive-mse         AdaptiveLayerLoss of sentence-transformers around MSELoss; labels are the model's embeddings
  adaptive-cosine      the same around EmbedDistillLoss with cosine distances
  adaptive-similarity  the same around CosineSimilarityLoss: pairs of texts, whose labels are the model's similarities
  matryoshka2d         Matryoshka2dLoss around CosineSimilarityLoss
  kept-K               the same layers, MSELoss to the model: what the library's pages call distillation
  random-words         no network: counts of words, projected at random
  random-projection    full depth of the model, projected at random to the smaller dimensions

and may end in a learning rate of its own, as adaptive-mse@5e-5. A step is a batch of `batch_size` texts in all of them,
two texts of which make a pair. The time of a run is that of its training, with that of the model that embeds the texts.

Cost: 1,000 steps of 32 short sentences and 6 layers of width 384 take about 12 minutes of one CPU core.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses
from transformers import HfArgumentParser, set_seed

from acn_hf import DepthProfile, depth_embeddings, truncate
from acn_hf.data import load_data
from acn_hf.depth import layers_of, spread_layers
from acn_hf.embeddings.inputs import check_dimensions, embed, full_dimension
from acn_hf.embeddings.loading import load_sentence_transformer
from acn_hf.embeddings.references import Similarities, overlap, spearman
from acn_hf.embeddings.teaching import mean_tokens, taught_embeddings
from acn_hf.scripts import record_of_runs
from acn_hf.scripts.run_tables import Network, depth_table
from acn_hf.support import circumstances, write_text
from acn_hf.support.sentence_models import inner_model
from acn_hf.training.attention import quick_attention
from acn_hf.training.finetuning import silence

SETTINGS = ("steps", "heal_steps", "batch_size", "learning_rate", "dimensions", "bf16")
"""What a record says of how a run was trained."""
RIVALS = ("adaptive", "matryoshka2d", "kept-")
"""How the names of the runs begin whose losses are those of sentence-transformers."""
NEIGHBOURS = 10
SPEARMAN, RECALL, LOGISTIC, NEAREST = "spearman", "recall", "accuracy", "neighbour_accuracy"
"""The measures; they are called so in a record."""
REPEATS = 3
"""How often the speed is measured, of which the median counts."""


@dataclass
class Arguments:
    model: str = field(metadata={"help": "A SentenceTransformer: a folder or a name on the Hub."})
    train_file: list[str] = field(metadata={"help": "Files of texts to train with; no labels."})
    held_out_file: list[str] = field(metadata={"help": "Other texts, whose similarities and neighbours are compared."})
    output_dir: str = field(metadata={"help": "A folder for each run."})
    labelled_train_file: str | None = field(default=None, metadata={"help": "Texts with labels: what a head learns."})
    labelled_test_file: str | None = field(default=None, metadata={"help": "And what it is tested on."})
    runs: list[str] = field(default_factory=list, metadata={"help": "Which; defaults to all, at every depth."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds."})
    steps: int = field(default=2000, metadata={"help": "Of every training."})
    heal_steps: int = field(default=500, metadata={"help": "Of what heals a taught model that was cut, beside those."})
    batch_size: int = field(default=32, metadata={"help": "Texts in a step."})
    learning_rate: float = field(default=1e-4, metadata={"help": "The highest, after a tenth of the steps."})
    dimensions: list[int] = field(
        default_factory=lambda: [128, 64], metadata={"help": "To which embeddings are cut, beside the one they have."}
    )
    max_held_out: int = field(default=2000, metadata={"help": "Texts of each of those files, the first so many."})
    speed_texts: int = field(default=256, metadata={"help": "Texts by which sentences a second are measured."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16."})
    device: str = field(default="cpu", metadata={"help": "Where."})
    record: str | None = field(default=None, metadata={"help": "JSON file for what all runs of the folder came to."})
    tables: bool = field(default=False, metadata={"help": "Print every measure of all runs of the folder."})


@dataclass
class Texts:
    """What all runs read.

    Args:
        train, held_out (`list[str]`): Texts without labels, all different; none of the second is among the first.
        labelled (`tuple`): Texts and labels that a head learns, and those that it is tested on; or nothing.
    """

    train: list[str]
    held_out: list[str]
    labelled: tuple[tuple[list[str], list[Any]], ...]

    @classmethod
    def read(cls, arguments: Arguments) -> "Texts":
        every = (list(dict.fromkeys(load_data(path)["text"])) for path in arguments.held_out_file)
        known = dict.fromkeys(text for texts in every for text in texts[: arguments.max_held_out])
        train = dict.fromkeys(text for path in arguments.train_file for text in load_data(path)["text"])
        files = (arguments.labelled_train_file, arguments.labelled_test_file)
        if len({path is None for path in files}) > 1:
            raise ValueError(f"labelled_train_file and labelled_test_file belong together; got {files}")
        labelled = [load_data(path) for path in files if path is not None]
        return cls(
            [text for text in train if text.strip() and text not in known],
            list(known),
            tuple((list(rows["text"]), list(rows["label"])) for rows in labelled),
        )


class Measures:
    """What the embeddings of some depths are worth, at some dimensions.

    Args:
        model (`SentenceTransformer`): Who is right.
        texts (`Texts`): About which texts.
        dimensions (`list[int]`): The largest first.
    """

    def __init__(self, model: SentenceTransformer, texts: Texts, dimensions: list[int]):
        self.model, self.texts, self.dimensions = model, texts, dimensions
        self.full = Similarities(embed(model, texts.held_out, 64).cpu(), model.similarity, len(texts.held_out))
        self.pairs, self.nearest = self.full.check_pairs(), self.full.nearest(NEIGHBOURS)

    @cached_property
    def answers(self) -> tuple[torch.Tensor, float]:
        """What the model says about the texts to train with, and how many seconds that took."""
        began = time.monotonic()
        return embed(self.model, self.texts.train, 64).cpu(), time.monotonic() - began

    def of(self, embed_at_depths: Callable[[list[str]], Iterable[torch.Tensor]]) -> dict[str, dict[int, list[float]]]:
        """Return each measure, by its name, for each dimension: a value for each depth.

        Args:
            embed_at_depths (`Callable`): From texts to their embeddings at each depth.
        """
        found: dict[str, dict[int, list[float]]] = {}
        every = [self.texts.held_out, *(texts for texts, _ in self.texts.labelled)]
        for at_depth in zip(*(embed_at_depths(texts) for texts in every), strict=True):
            for dimension in self.dimensions:
                for name, value in self._of_one([one.cpu().float()[:, :dimension] for one in at_depth]):
                    found.setdefault(name, {}).setdefault(dimension, []).append(value)
        return found

    def _of_one(self, embeddings: list[torch.Tensor]) -> Iterable[tuple[str, float]]:
        held_out, *labelled = embeddings
        yield SPEARMAN, spearman(self.pairs, self.full.of_pairs(held_out))
        yield RECALL, float(overlap(self.nearest, self.full.nearest(NEIGHBOURS, held_out)).mean())
        if labelled:
            from sklearn.linear_model import LogisticRegression
            from sklearn.neighbors import KNeighborsClassifier

            (train, test), ((_, known), (_, asked)) = (one.numpy() for one in labelled), self.texts.labelled
            heads = {
                LOGISTIC: LogisticRegression(max_iter=1000),
                NEAREST: KNeighborsClassifier(min(NEIGHBOURS, len(known)), metric="cosine"),
            }
            for name, head in heads.items():
                yield name, float(head.fit(train, known).score(test, asked))


class Runs:
    """The runs of one seed.

    Args:
        arguments (`Arguments`): What all runs share.
        model (`SentenceTransformer`): The long model.
        texts (`Texts`): What is read.
        measures (`Measures`): What is measured.
        seed (`int`): Of the order of the texts, and of dropout.
    """

    def __init__(self, arguments: Arguments, model: SentenceTransformer, texts: Texts, measures: Measures, seed: int):
        self.arguments, self.model, self.texts, self.measures, self.seed = arguments, model, texts, measures, seed
        self.num_layers = len(layers_of(inner_model(model)))
        self.folder = Path(arguments.output_dir)

    def names(self) -> list[str]:
        """Return the names of all runs, those that others need first."""
        single = [f"{kind}-{depth}" for kind in ("healed", "spread", "kept") for depth in range(1, self.num_layers)]
        adaptive = ["adaptive-mse", "adaptive-cosine", "adaptive-similarity", "matryoshka2d"]
        return ["cut", "taught", "taught-dims", *adaptive, *single, "random-words", "random-projection"]

    def training(self, steps: int, rate: float, folder: str) -> SentenceTransformerTrainingArguments:
        """Return the arguments of a training, which all runs share."""
        return SentenceTransformerTrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=self.arguments.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=rate,
            warmup_steps=0.1,
            seed=self.seed,
            bf16=self.arguments.bf16,
            use_cpu=self.model.device.type == "cpu",
            dataloader_pin_memory=self.model.device.type == "cuda",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )

    def trained(self, name: str, rate: float, taught: SentenceTransformer | None) -> SentenceTransformer:
        """Return what comes out of the training of a run.

        Args:
            name (`str`): Of the run.
            rate (`float`): The learning rate.
            taught (`SentenceTransformer`, *optional*): What is healed.
        """
        kind, _, rest = name.partition("-")
        with tempfile.TemporaryDirectory() as scratch:
            steps = self.arguments.heal_steps if kind == "healed" else self.arguments.steps
            how = self.training(steps, rate, scratch)
            if name in ("taught", "taught-dims"):
                dimensions = self.measures.dimensions[1:] if rest else []
                return taught_embeddings(self.model, self.texts.train, how, dimensions=dimensions, is_quiet=True)
            if kind in ("healed", "spread"):
                short = truncate(taught, int(rest)) if kind == "healed" else spread_layers(self.model, int(rest))
                teaching: dict[str, Any] = {"teacher": self.model, "weights": "full", "is_quiet": True}
                return taught_embeddings(short, self.texts.train, how, **teaching)
            if kind == "kept":
                student = spread_layers(self.model, int(rest))
                return self.by_loss(student, losses.MSELoss(student), self.of_texts(), how)
            student = truncate(self.model, self.num_layers)
            if name in ("adaptive-mse", "adaptive-cosine"):
                loss = losses.MSELoss(student) if rest == "mse" else losses.EmbedDistillLoss(student, "cosine")
                return self.by_loss(student, losses.AdaptiveLayerLoss(student, loss), self.of_texts(), how)
            how.per_device_train_batch_size = max(2, self.arguments.batch_size // 2)
            loss = losses.CosineSimilarityLoss(student)
            if name == "adaptive-similarity":
                return self.by_loss(student, losses.AdaptiveLayerLoss(student, loss), self.of_pairs(), how)
            both = losses.Matryoshka2dLoss(student, loss, self.measures.dimensions)
            return self.by_loss(student, both, self.of_pairs(), how)

    def by_loss(self, student: Any, loss: torch.nn.Module, rows: Dataset, how: Any) -> SentenceTransformer:
        """Train a student by a loss of sentence-transformers, and return it."""
        student.model_card_data.widget = [{}]  # else it looks for examples
        trainer = SentenceTransformerTrainer(student, how, train_dataset=rows, loss=loss)
        silence(trainer)
        with quick_attention(trainer, lambda: mean_tokens(student, self.texts.train)):
            trainer.train()
        return truncate(student, len(layers_of(inner_model(student)))).eval()

    def of_texts(self) -> Dataset:
        """Return the texts, whose labels are the embeddings that the model gives them."""
        return Dataset.from_dict({"text": self.texts.train, "label": list(self.measures.answers[0].numpy())})

    def of_pairs(self) -> Dataset:
        """Return as many pairs of texts as there are texts, whose labels are the similarities of the model."""
        wanted, _ = self.measures.answers
        number, draw = len(self.texts.train), np.random.default_rng(self.seed)
        others = (np.arange(number) + draw.integers(1, number, number)) % number
        labels = self.model.similarity_pairwise(wanted, wanted[torch.from_numpy(others)])
        second = [self.texts.train[other] for other in others]
        return Dataset.from_dict({"first": self.texts.train, "second": second, "label": labels.tolist()})

    def finished(self, name: str, rate: float) -> SentenceTransformer:
        """Return the model of a run, which is done first if need be."""
        full = name if rate == self.arguments.learning_rate else f"{name}@{rate:g}"
        self.run(full)
        return load_sentence_transformer(self.folder / f"{full}-seed{self.seed}" / "model", self.arguments.device)

    def run(self, full_name: str) -> None:
        """Do a run, unless it is done, and write its profile."""
        folder = self.folder / f"{full_name}-seed{self.seed}"
        if (folder / "depth_profile.json").exists():
            return
        name, rate = self.check(full_name)
        taught = self.finished("taught", rate) if name.startswith("healed-") else None
        asking = self.measures.answers[1] if name.startswith(RIVALS) else 0.0
        set_seed(self.seed)
        began = time.monotonic()
        is_trained = name != "cut" and not name.startswith("random-")
        model = self.trained(name, rate, taught) if is_trained else self.model
        seconds = asking + time.monotonic() - began
        depths, parameters, found = self.measured(model, name)
        record = {"train_runtime": seconds, "seed": self.seed, "arguments": vars(self.arguments), "measures": found}
        if name == "cut":
            record["sentences_per_second"] = {depth: self.speed(depth) for depth in depths}
        if name == "taught":
            model.save_pretrained(str(folder / "model"), create_model_card=False)
        write_text(folder / "train_results.json", json.dumps({**record, **circumstances()}, indent=2) + "\n")
        recall = tuple(found[RECALL][self.measures.dimensions[0]])
        profile = DepthProfile(depths, recall, RECALL, True, len(self.texts.held_out), parameters)
        profile.save(folder / "depth_profile.json")
        print(f"{folder.name}: {' '.join(f'{value:.4f}' for value in recall)} ({seconds:.0f} s)", flush=True)

    def check(self, full_name: str) -> tuple[str, float]:
        """Return the name of a run without its learning rate, and that.

        Raises:
            ValueError: There is no such run.
        """
        name, _, rate = full_name.partition("@")
        if name not in self.names():
            raise ValueError(f"a run must be one of {', '.join(self.names())}; got {full_name}")
        return name, float(rate) if rate else self.arguments.learning_rate

    def measured(self, model: SentenceTransformer, name: str) -> tuple[tuple[int, ...], tuple[int, ...], dict]:
        """Return depths, their parameters and what their embeddings are worth; of a model that was cut, one depth."""
        if name.startswith("random-"):
            embed_at_random = self.words_at_random() if name == "random-words" else self.projected()
            return (0,), (0,), self.measures.of(embed_at_random)
        number = len(layers_of(inner_model(model)))
        depths = (number,) if name.startswith(("kept-", "healed-", "spread-")) else tuple(range(number + 1))
        parameters = tuple(sum(weight.numel() for weight in truncate(model, depth).parameters()) for depth in depths)
        lowest = list(depths) if len(depths) > 1 else []
        return depths, parameters, self.measures.of(lambda texts: depth_embeddings(model, texts, depths=lowest))

    def words_at_random(self) -> Callable[[list[str]], Iterable[torch.Tensor]]:
        """Return a function from texts to a random projection of the counts of their words."""
        from sklearn.feature_extraction.text import CountVectorizer

        words = CountVectorizer(token_pattern=r"(?u)\w+").fit([*self.texts.held_out, *self.texts.train])
        draw, size = np.random.default_rng(self.seed), (len(words.vocabulary_), full_dimension(self.model))
        matrix = draw.standard_normal(size).astype(np.float32)
        return lambda some: [torch.from_numpy(words.transform(some).astype(np.float32) @ matrix)]

    def projected(self) -> Callable[[list[str]], Iterable[torch.Tensor]]:
        """Return a function that embeds texts as the model does, and turns the space at random."""
        size = full_dimension(self.model)
        matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(self.seed)) / size**0.5
        return lambda texts: [embed(self.model, texts, 64).cpu() @ matrix]

    def speed(self, depth: int) -> float:
        """Return how many sentences a second the model embeds that is cut at a depth."""
        short, some = truncate(self.model, depth), self.texts.held_out[: self.arguments.speed_texts]
        embed(short, some[:32], 32)
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            embed(short, some, 32)
            times.append(time.perf_counter() - began)
        return len(some) / statistics.median(times)


def tables(record: dict[str, Any]) -> str:
    """Return a Markdown table for each measure at each dimension: a row for each run, a column for each depth."""
    found: dict[str, dict[str, list[DepthProfile]]] = {}
    minutes: dict[str, list[float]] = {}
    for run in record["runs"]:
        minutes.setdefault(run["name"], []).append(run["train_runtime"] / 60)
        for measure, by_dimension in run["measures"].items():
            for dimension, values in by_dimension.items():
                sizes = (0,) * len(values)
                profile = DepthProfile(tuple(run["depths"]), tuple(values), measure, True, run["num_examples"], sizes)
                found.setdefault(f"{measure}, {dimension} dimensions", {}).setdefault(run["name"], []).append(profile)
    parts = []
    for title, runs in found.items():
        networks = [Network(name, tuple(profiles), tuple(minutes[name]), ()) for name, profiles in runs.items()]
        parts.append(f"### {title}\n\n{depth_table(networks)}\n")
    times = [f"| {name} | {statistics.mean(each):.1f} |" for name, each in minutes.items()]
    return "\n".join([*parts, "### Minutes of training\n", "| network | minutes |", "| --- | --- |", *times])


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__).parse_args_into_dataclasses(argv)
    model = load_sentence_transformer(arguments.model, arguments.device)
    texts = Texts.read(arguments)
    dimensions = check_dimensions(model, [full_dimension(model), *arguments.dimensions])
    measures = Measures(model, texts, dimensions)
    for seed in arguments.seeds:
        runs = Runs(arguments, model, texts, measures, seed)
        for name in arguments.runs:
            runs.check(name)
        for name in arguments.runs or runs.names():
            runs.run(name)
    record = record_of_runs(Path(arguments.output_dir), SETTINGS)
    if arguments.tables:
        print(tables(record))
    if arguments.record is not None:
        write_text(arguments.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
