"""Pretrain an AC-BERT, or any masked language model, on text.

What is unusual: the tokenizer is trained on the corpus if you have none; lines are joined and cut into blocks, so
that no token is padding; the head runs on the masked tokens alone, with the same loss (--whole_head: on all); the
held-out blocks are masked once and for all, so that every evaluation, of every run, is of the same guesses; and at the
end every depth of the model is measured on them (depth_profile.json).

    python examples/run_mlm.py --do_train --do_eval --output_dir out --train_file CORPUS.txt.gz OTHER.txt.gz \\
        --validation_sequences 1000 --vocab_size 8192 --max_seq_length 128 --max_steps 3000 --learning_rate 1e-3 \\
        --config_overrides hidden_size=128,intermediate_size=512,num_attention_heads=4,num_hidden_layers=8
    python examples/run_mlm.py --recipe ac-bert --do_train --do_eval --output_dir out --bf16 --streaming \\
        --dataset_name NAME --tokenizer_name google-bert/bert-base-uncased --max_steps 20000
    torchrun --nproc_per_node 8 examples/run_mlm.py settings.yaml --resume_from_checkpoint True
    python examples/run_mlm.py --do_train --do_eval --output_dir taught --model_name_or_path out --teach self \\
        --supervision_depths 1 --train_file CORPUS.txt.gz --validation_sequences 1000

The residual network beside it: --model_type bert, or --recipe bert.

Cost: the first command takes 20 minutes on one CPU core.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import AutoModelForMaskedLM, BertTokenizerFast, TrainingArguments

from acn_hf import LabelledTokensCallback
from acn_hf.data import (
    DataError,
    EpochOfMasks,
    MaskingCollator,
    check_options,
    check_vocabulary,
    load_data,
    load_tokenizer,
    longest_text,
    mask_once,
    not_empty,
    pack,
    reader_options,
    require_text,
    train_tokenizer as train_word_pieces,
)
from acn_hf.publishing import CardTrainer
from acn_hf.scripts import (
    DepthArguments,
    FileArguments,
    ModelArguments,
    RecipeArguments,
    build_model,
    only_complete,
    parse_arguments,
    run,
    run_script,
    start,
    vocabulary_fields,
)


@dataclass
class DataArguments(FileArguments):
    train_file: list[str] | None = field(
        default=None, metadata={"help": "Text files of one passage a line, or CSV, JSON, Parquet; plain or gzipped."}
    )
    validation_file: list[str] | None = field(default=None, metadata={"help": "Held-out files."})
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub instead of files."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    text_column_name: str = field(default="text", metadata={"help": "Column of the texts."})
    validation_sequences: int | None = field(
        default=None,
        metadata={"help": "Hold out so many blocks, taken by a fixed permutation; of a stream, the first."},
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={
            "help": "Length of a block in tokens, special ones included; defaults to what the tokenizer and the model "
            "take, 128 for a tokenizer that is trained here."
        },
    )
    vocab_size: int = field(
        default=30522, metadata={"help": "Size of the WordPiece vocabulary that is trained if no tokenizer is given."}
    )
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of the tokens that are to be guessed."})
    whole_head: bool = field(
        default=False,
        metadata={"help": "Run the head on all tokens, and not only on those that are to be guessed; the loss is one."},
    )
    streaming: bool = field(
        default=False, metadata={"help": "Read while training, for corpora that are large; needs --max_steps."}
    )
    shuffle_buffer: int = field(default=10_000, metadata={"help": "Blocks among which a stream is shuffled."})


def read(data: DataArguments, split: str) -> Any:
    """Return the texts of one split, or None if there is none."""
    files = data.train_file if split == "train" else data.validation_file
    if not files and data.dataset_name is None:
        return None
    if data.streaming and split == "train":
        return stream(data)
    if files:
        parts = [load_data(name, split="train", **data.how_files_are_read) for name in files]
    else:
        parts = [load_data(str(data.dataset_name), name=data.dataset_config_name, split=split)]
    parts = [only_complete(part, split, data, with_labels=False) for part in parts]
    for part in parts:
        require_text(part, data.text_column_name)
        if not any(map(str.strip, part[data.text_column_name][:])):
            raise DataError(f"there must be text to read; column {data.text_column_name!r} is blank")
    return datasets.concatenate_datasets([part.select_columns([data.text_column_name]) for part in parts])


def read_both(data: DataArguments, training: TrainingArguments) -> tuple[Any, Any]:
    """Return the texts to train on and those to evaluate on, as far as they are needed."""
    if data.dataset_name is not None and (data.train_file or data.validation_file):
        raise DataError("--dataset_name names all the data; --train_file and --validation_file must not be given")
    if training.do_predict:
        raise DataError("there is no test of a masked language model; give --do_eval instead of --do_predict")
    holds_out = data.validation_sequences is not None
    if holds_out and data.validation_file:
        raise DataError(
            "--validation_sequences are held out of the training texts; --validation_file must not be given"
        )
    train = read(data, "train") if training.do_train or holds_out else None
    if train is None and (training.do_train or holds_out):
        raise DataError("there must be texts to train on; give --train_file or --dataset_name")
    validation = read(data, "validation") if training.do_eval and not holds_out else None
    if validation is None and training.do_eval and not holds_out:
        raise DataError("there must be held-out texts; give --validation_file or --validation_sequences")
    return train, validation


def stream(data: DataArguments) -> datasets.IterableDataset:
    """Return the texts to train on as they are read."""
    if data.train_file:
        formats = {check_options(Path(name), data.how_files_are_read) for name in data.train_file}
        if len(formats) > 1 or None in formats:
            raise DataError(f"files that are streamed must be of one known format; got {', '.join(data.train_file)}")
        how = reader_options(Path(data.train_file[0]), data.how_files_are_read)
        texts = datasets.load_dataset(formats.pop(), data_files=data.train_file, split="train", streaming=True, **how)
    else:
        texts = datasets.load_dataset(data.dataset_name, data.dataset_config_name, split="train", streaming=True)
    first = datasets.Dataset.from_list(list(texts.take(1)))
    require_text(not_empty(first, "the stream"), data.text_column_name)
    return texts


def find_tokenizer(
    model: ModelArguments, data: DataArguments, training: TrainingArguments, texts: Any, checkpoint: str | None
) -> Any:
    """Return the tokenizer of the checkpoint, the one that was named, or one trained on the texts."""
    source = checkpoint or model.tokenizer_name or model.model_name_or_path
    if source is None:
        if texts is None:
            raise DataError("there must be a tokenizer; give --model_name_or_path or --tokenizer_name")
        folder = Path(str(training.output_dir))
        if training.local_process_index == 0:
            train_tokenizer(texts, data).save_pretrained(folder)
        source = str(folder)
    return load_tokenizer(source) if checkpoint else load_tokenizer(source, **model.hub_options())


def train_tokenizer(texts: Any, data: DataArguments, num_texts: int = 1_000_000) -> BertTokenizerFast:
    """Return a WordPiece tokenizer of the first million texts, in lower case as BERT's."""
    if data.vocab_size < 1:
        raise DataError(f"--vocab_size must be at least 1; got {data.vocab_size}")
    lines = texts.take(num_texts)[data.text_column_name]
    return train_word_pieces(lines, data.vocab_size, max_length=data.max_seq_length or 128)


def split_blocks(train: Any, validation: Any, data: DataArguments) -> tuple[Any, Any]:
    """Return the blocks to train on and those to evaluate on."""
    number = data.validation_sequences
    if number is None:
        return train, validation
    if data.streaming:
        if number < 1:
            raise DataError(f"--validation_sequences must be at least 1; got {number}")
        return train.skip(number), datasets.Dataset.from_list(list(train.take(number)))
    if not 0 < number < len(train):
        raise DataError(f"--validation_sequences must lie in [1, {len(train) - 1}] for these texts; got {number}")
    order = np.random.default_rng(0).permutation(len(train))
    return train.select(order[number:]), train.select(order[:number])


def main(argv: list[str] | None = None) -> None:
    kinds = (DataArguments, ModelArguments, DepthArguments, RecipeArguments, TrainingArguments)
    data, model_arguments, depth, _, training = parse_arguments(
        kinds, __doc__, argv, recipes=("ac-bert", "bert", "annealed", "masked-words")
    )
    checkpoint = start(training)
    with training.main_process_first(desc="reading the texts"):
        train, validation = read_both(data, training)
        tokenizer = find_tokenizer(model_arguments, data, training, train, checkpoint)
    model = build_model(
        AutoModelForMaskedLM,
        model_arguments,
        default_type="acn_bert",
        from_data=vocabulary_fields(tokenizer, model_arguments),
        checkpoint=checkpoint,
    )
    check_vocabulary(tokenizer, model.config, model_arguments.tokenizer_name or "the data")
    length = longest_text(model, tokenizer, data.max_seq_length)
    tokenizer.model_max_length = length  # measured again later, texts are cut into the same blocks
    collate = MaskingCollator(tokenizer, data.mlm_probability)
    with training.main_process_first(desc="tokenising"):
        blocks = [
            None if texts is None else pack(tokenizer, texts, data.text_column_name, length)
            for texts in (train, validation)
        ]
        train, validation = split_blocks(*blocks, data)
        if training.do_eval:
            validation = mask_once(not_empty(validation, "the held-out text"), collate)
    if data.streaming and train is not None:
        train = train.shuffle(seed=training.seed, buffer_size=data.shuffle_buffer)
    trainer = CardTrainer(
        model=model,
        args=training,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collate,
        callbacks=[EpochOfMasks(collate)],
        processing_class=tokenizer,
    )
    if not data.whole_head:
        LabelledTokensCallback().attach(trainer)
    run(trainer, depth, metric="loss", checkpoint=checkpoint, data=data)


if __name__ == "__main__":
    run_script(main)
