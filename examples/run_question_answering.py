"""Fine-tune an AC-BERT, or any model of transformers that finds answers in texts, on questions as those of SQuAD.

What is unusual: long texts are read in windows, whose answers are joined before they are compared with the right ones;
where some questions have no answer, as in SQuAD 2, a model may say so; and at the end every depth of the model is
measured on the validation data (depth_profile.json).

    python examples/run_question_answering.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --dataset_name rajpurkar/squad --num_train_epochs 2 --learning_rate 3e-5 --max_seq_length 384
    python examples/run_question_answering.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --train_file train-v2.0.json --validation_file dev-v2.0.json --depth_metric exact_match
    python examples/run_question_answering.py --do_train --do_eval --output_dir out --tokenizer_name TOKENIZER \\
        --train_file train.csv --validation_file validation.csv --answers_column_name answer \\
        --config_overrides hidden_size=128,intermediate_size=512,num_attention_heads=4,num_hidden_layers=8
    python examples/run_question_answering.py --do_train --do_eval --output_dir taught --model_name_or_path out \\
        --teach self --train_file train-v2.0.json --validation_file dev-v2.0.json

A file is one of SQuAD as it is published, or has a question, a text and an answer in each row: `{"text": [...],
"answer_start": [...]}`, or in a CSV the answer itself, with its place in a column answer_start or without. A checkpoint
of BERT is a start too: --model_type acn_bert.

Metrics of answers need torchmetrics: pip install 'acn-hf[metrics]'.
"""

from dataclasses import dataclass, field

from transformers import AutoModelForQuestionAnswering, TrainingArguments

from acn_hf.data import check_vocabulary, load_tokenizer, longest_text
from acn_hf.scripts import (
    DataArguments,
    DepthArguments,
    ModelArguments,
    build_model,
    label_fields,
    load_labelled,
    needed,
    parse_arguments,
    prepare_splits,
    run_labelled,
    run_script,
    start,
    tokenizer_source,
    vocabulary_fields,
)

METRIC = "answer_f1"
START_AND_END = label_fields(["LABEL_0", "LABEL_1"])


@dataclass
class QuestionArguments(DataArguments):
    question_column_name: str = field(default="question", metadata={"help": "Column of the questions."})
    context_column_name: str = field(default="context", metadata={"help": "Column of the texts."})
    answers_column_name: str = field(default="answers", metadata={"help": "Column of the answers."})
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Longest window in tokens; defaults to what the tokenizer and the model take."}
    )
    doc_stride: int | None = field(
        default=None,
        metadata={"help": "Tokens that two windows share; defaults to 128, or a third of the window if that is less."},
    )
    max_answer_length: int = field(default=30, metadata={"help": "Most tokens of an answer."})


def main(argv: list[str] | None = None) -> None:
    kinds = (QuestionArguments, ModelArguments, DepthArguments, TrainingArguments)
    data, model_arguments, depth, training = parse_arguments(kinds, __doc__, argv)
    checkpoint = start(training)
    source = tokenizer_source(model_arguments, checkpoint)
    with training.main_process_first(desc="reading the texts"):
        splits = needed(load_labelled(data), training)
        tokenizer = load_tokenizer(source, **model_arguments.hub_options())
    model = build_model(
        AutoModelForQuestionAnswering,
        model_arguments,
        default_type="acn_bert",
        from_data={**START_AND_END, **vocabulary_fields(tokenizer, model_arguments)},
        checkpoint=checkpoint,
    )
    check_vocabulary(tokenizer, model.config, source)
    tokenizer.model_max_length = longest_text(model, tokenizer, data.max_seq_length, pair=True)
    windows = {"overlap": data.doc_stride, "longest_answer": data.max_answer_length}
    with training.main_process_first(desc="tokenising"):
        rows = prepare_splits(model, tokenizer, splits, data.columns, **windows)
    run_labelled(model, training, depth, rows, tokenizer, metric=METRIC, checkpoint=checkpoint, data=data)


if __name__ == "__main__":
    run_script(main)
