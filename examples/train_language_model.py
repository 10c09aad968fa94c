"""Train a small causal language model, with and without supervision at every depth, and use its depths.

What is unusual: the model is transformers' own Llama. Of each run every depth is measured from one pass, the model is
cut, and it generates in three ways: whole, cut, and whole with its own first layers as the assistant that drafts
(`assistant_early_exit`). A run is named `SUPERVISION-seedN`, with `-K` behind the supervision where it has K layers in
place of all. It has one folder, with its checkpoint, its depth profile and run.json. A run that is complete is
skipped, so the script can be stopped and started again at any time, and several of them may share the work. At the end
all runs below `--output_dir` are gathered into one record, and the tables are printed from it;
`docs/experiments.md` holds what they said.

    python examples/train_language_model.py --train_file CORPUS.txt.gz OTHER.txt.gz --output_dir runs/language_model \\
        --supervision none uniform --seeds 0 1 2 --bf16 True --record record.json
    python examples/train_language_model.py --train_file CORPUS.txt.gz OTHER.txt.gz --output_dir runs/language_model \\
        --supervision none --num_hidden_layers 4 --seeds 0 1 2 --bf16 True --record record.json

Cost: a run takes 5 minutes of one CPU core without supervision, and 7 with it.
"""

import gzip
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    HfArgumentParser,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from acn_hf import DepthProfile, IntermediateSupervisionCallback, measure_depth_profile, truncate
from acn_hf.support import circumstances, write_text

WHOLE_DEPTH = 8
WIDTH, HEADS = 128, 4
SEQUENCE_LENGTH, PROMPT_LENGTH, NEW_TOKENS = 128, 32, 64
HELD_OUT = 400


@dataclass
class Arguments:
    train_file: list[str] = field(metadata={"help": "Text files of one passage a line, plain or gzipped."})
    output_dir: str = field(metadata={"help": "A folder for each run is made below, and one for the tokenizer."})
    supervision: list[str] = field(
        default_factory=lambda: ["none", "uniform"], metadata={"help": "Any of none, linear, uniform: a run for each."}
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "A run for each."})
    num_hidden_layers: int = field(default=WHOLE_DEPTH, metadata={"help": "Layers of the model."})
    max_steps: int = field(default=600, metadata={"help": "The same for all runs."})
    batch_size: int = field(default=16, metadata={"help": "Sequences of 128 tokens in a step."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Peak of AdamW, cosine schedule."})
    vocab_size: int = field(default=2048, metadata={"help": "Size of the byte-pair vocabulary that is learned."})
    num_prompts: int = field(default=8, metadata={"help": "Held-out beginnings that are continued and timed."})
    bf16: bool = field(default=False, metadata={"help": "Train under an autocast to bfloat16."})
    record: str | None = field(default=None, metadata={"help": "JSON file for what all runs gave."})


def read_texts(names: list[str]) -> list[str]:
    """Return the lines of text files, plain or gzipped, that are not empty."""
    lines = []
    for path in map(Path, names):
        data = path.read_bytes()
        lines += (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return [line for line in lines if line.strip()]


def learn_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of byte pairs that were learned from texts."""
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=letters, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=pairs)


def read_blocks(arguments: Arguments) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return the tokenizer, the blocks of tokens to train on, and those that are held out."""
    texts, folder = read_texts(arguments.train_file), Path(arguments.output_dir) / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        learn_tokenizer(texts, arguments.vocab_size).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer([f"{text}\n" for text in texts], return_attention_mask=False, verbose=False)["input_ids"]
    ids = np.fromiter(itertools.chain.from_iterable(encoded), dtype=np.int64)
    blocks = ids[: len(ids) // SEQUENCE_LENGTH * SEQUENCE_LENGTH].reshape(-1, SEQUENCE_LENGTH)
    blocks = torch.from_numpy(blocks[np.random.default_rng(0).permutation(len(blocks))])
    return tokenizer, blocks[HELD_OUT:], blocks[:HELD_OUT]


def rows_of(blocks: torch.Tensor) -> datasets.Dataset:
    """Return blocks as rows whose labels they are themselves, as causal language models take them."""
    return datasets.Dataset.from_dict({"input_ids": blocks.numpy(), "labels": blocks.numpy()}).with_format("torch")


def train(supervision: str, seed: int, arguments: Arguments, blocks: torch.Tensor, folder: Path) -> PreTrainedModel:
    """Return a trained model."""
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=arguments.vocab_size,
        hidden_size=WIDTH,
        intermediate_size=WIDTH * 8 // 3,
        num_attention_heads=HEADS,
        num_hidden_layers=arguments.num_hidden_layers,
        max_position_embeddings=2 * SEQUENCE_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    training = TrainingArguments(
        output_dir=str(folder),
        max_steps=arguments.max_steps,
        per_device_train_batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=arguments.max_steps // 12,
        weight_decay=0.01,
        seed=seed,
        bf16=arguments.bf16,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        logging_steps=50,
        disable_tqdm=True,
    )
    callbacks = [] if supervision == "none" else [IntermediateSupervisionCallback(supervision)]
    model = LlamaForCausalLM(config)
    Trainer(model, training, train_dataset=rows_of(blocks), callbacks=callbacks).train()
    return model.eval()


@contextmanager
def counting(model: PreTrainedModel) -> Iterator[list[int]]:
    """Count how often the first and the last layer of a Llama run, for as long as the block lasts."""
    layers, runs = model.model.layers, [0, 0]

    def counter(place: int) -> Any:
        def count(*_: Any) -> None:
            runs[place] += 1

        return count

    handles = [layers[0].register_forward_hook(counter(0)), layers[-1].register_forward_hook(counter(1))]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def continued(model: PreTrainedModel, prompt: torch.Tensor, **how: Any) -> tuple[list[int], float]:
    """Return the tokens with which a model continues a prompt, the likeliest each, and the seconds a token took."""
    mask = torch.ones_like(prompt)
    begin = time.perf_counter()
    tokens = model.generate(prompt, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, **how)
    return tokens[0, prompt.shape[1] :].tolist(), (time.perf_counter() - begin) / NEW_TOKENS


def generate(model: PreTrainedModel, prompts: torch.Tensor) -> list[dict[str, Any]]:
    """Return what drafting with the first layers gives at each depth, and what the model does that is cut there.

    The ways are timed in turn, prompt by prompt, and each time is divided by that of plain decoding of the same prompt.
    A pass that drafts runs the first layers alone and makes one token; every other pass keeps the drafted tokens that
    are right, and adds one. So the runs of the first and of the last layer say how many tokens were drafted and kept.
    """
    depths = range(1, len(model.model.layers))
    cut = {depth: truncate(model, depth) for depth in depths}
    rows: dict[int, dict[str, Any]] = {
        depth: {"drafted": 0, "kept": 0, "passes": 0, "same_text": 0, "assisted": [], "cut": []} for depth in depths
    }
    for number, prompt in enumerate([prompts[:1], *prompts.split(1)]):
        plain, plain_seconds = continued(model, prompt)
        for depth, row in rows.items():
            with counting(model) as runs:
                text, seconds = continued(model, prompt, assistant_early_exit=depth)
            _, cut_seconds = continued(cut[depth], prompt)
            if number == 0:  # the first prompt comes twice, once to warm up
                continue
            row["drafted"] += runs[0] - runs[1]
            row["passes"] += runs[1]
            row["kept"] += len(text) - runs[1]
            row["same_text"] += text == plain
            row["assisted"].append(seconds / plain_seconds)
            row["cut"].append(cut_seconds / plain_seconds)
            row.setdefault("plain_ms", []).append(1000 * plain_seconds)
    return [
        {
            "depth": depth,
            **{name: row[name] for name in ("drafted", "kept", "passes", "same_text")},
            "num_prompts": len(prompts),
            "assisted_over_plain": statistics.median(row["assisted"]),
            "cut_over_plain": statistics.median(row["cut"]),
            "plain_ms": statistics.median(row["plain_ms"]),
        }
        for depth, row in rows.items()
    ]


def run(supervision: str, seed: int, arguments: Arguments, tokenizer: Any, data: tuple[torch.Tensor, ...]) -> None:
    """Train and measure one model and write its folder, as far as it is not there."""
    layers = arguments.num_hidden_layers
    name = supervision if layers == WHOLE_DEPTH else f"{supervision}-{layers}"
    folder = Path(arguments.output_dir) / f"{name}-seed{seed}"
    if (folder / "run.json").exists():
        return
    blocks, held_out = data
    begin = time.perf_counter()
    model = train(supervision, seed, arguments, blocks, folder)
    seconds = time.perf_counter() - begin
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    profile = measure_depth_profile(model, rows_of(held_out), metric="perplexity", batch_size=50)
    profile.save(folder / "depth_profile.json")
    prompts = held_out[: arguments.num_prompts, :PROMPT_LENGTH]
    samples = {
        depth: tokenizer.decode(continued(truncate(model, depth), prompts[:1])[0])
        for depth in sorted({layers // 4, layers // 2, layers} - {0})
    }
    record = {
        "name": name,
        "seed": seed,
        "train_seconds": round(seconds, 1),
        "settings": asdict(arguments),
        "generation": generate(model, prompts),
        "prompt": tokenizer.decode(prompts[0]),
        "samples": samples,
        "circumstances": circumstances(Path(__file__).parent),
    }
    write_text(folder / "run.json", json.dumps(record, indent=1) + "\n")
    print(f"{name} seed {seed}: {' '.join(f'{value:.1f}' for value in profile.values)} in {seconds:.0f} s", flush=True)


def gather(folder: Path) -> list[dict[str, Any]]:
    """Return what all runs below a folder gave, without the paths of this machine."""
    runs = []
    for path in sorted(folder.glob("*/run.json")):
        one = json.loads(path.read_text())
        one["settings"]["train_file"] = [Path(name).name for name in one["settings"]["train_file"]]
        for private in ("output_dir", "record", "seeds", "supervision"):
            del one["settings"][private]
        profile = DepthProfile.load(path.parent / "depth_profile.json")
        runs.append({**one, "num_parameters": profile.num_parameters, "perplexity": profile.values})
    return runs


def tables(runs: list[dict[str, Any]]) -> list[Table]:
    """Return a table of perplexities, a row for each network, and one of generation with the mean over its seeds."""
    names = sorted({one["name"] for one in runs})
    last = max(len(one["perplexity"]) for one in runs) - 1
    form: Any = {"box": box.MARKDOWN, "title_justify": "left"}
    perplexity = Table("network", "seeds", *map(str, range(last + 1)), title="Perplexity at every depth", **form)
    columns = ("network", "depth", "kept", "tokens a pass", "time, assisted", "time, cut", "same text")
    drafting = Table(*columns, title="Generation", **form)
    for name in names:
        same = [one for one in runs if one["name"] == name]
        values = zip(*(one["perplexity"] for one in same), strict=True)
        cells = [f"{statistics.mean(of_a_depth):.1f}{spread(of_a_depth)}" for of_a_depth in values]
        perplexity.add_row(name, str(len(same)), *cells, *[""] * (last + 1 - len(cells)))
        for rows in zip(*(one["generation"] for one in same), strict=True):
            drafted, kept, passes, texts, prompts = (
                sum(row[key] for row in rows) for key in ("drafted", "kept", "passes", "same_text", "num_prompts")
            )
            ratios = [statistics.mean(row[f"{kind}_over_plain"] for row in rows) for kind in ("assisted", "cut")]
            drafting.add_row(
                name,
                str(rows[0]["depth"]),
                f"{kept / drafted:.2f}",
                f"{(kept + passes) / passes:.2f}",
                *(f"{ratio:.2f}" for ratio in ratios),
                f"{texts} of {prompts}",
            )
    return [perplexity, drafting]


def spread(values: tuple[float, ...]) -> str:
    """Return the standard deviation over seeds, nothing for one seed."""
    return f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""


def main() -> None:
    (arguments,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    tokenizer, *data = read_blocks(arguments)
    for seed in arguments.seeds:
        for supervision in arguments.supervision:
            run(supervision, seed, arguments, tokenizer, tuple(data))
    runs = gather(Path(arguments.output_dir))
    if arguments.record is not None:
        write_text(Path(arguments.record), json.dumps(runs, indent=1) + "\n")
    for table in tables(runs):
        Console(width=None if Console().is_terminal else 200).print(table)


if __name__ == "__main__":
    main()
