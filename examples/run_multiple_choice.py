"""Fine-tune an AC-BERT, or any model of transformers that chooses, on texts with several ways to go on.

What is unusual: choices are read as they stand in the data, lists or one column each, and the right one as a number, a
letter, a name or the choice itself; and at the end every depth of the model is measured on the validation data
(depth_profile.json).

    python examples/run_multiple_choice.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --dataset_name allenai/swag --context_column_name sent1 --question_column_name sent2 \\
        --choices_column_name ending
    python examples/run_multiple_choice.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --dataset_name tau/commonsense_qa --label_column_name answerKey --learning_rate 5e-5
    python examples/run_multiple_choice.py --do_train --do_eval --output_dir out --tokenizer_name TOKENIZER \\
        --train_file train.json --validation_file validation.json \\
        --config_overrides hidden_size=128,intermediate_size=512,num_attention_heads=4,num_hidden_layers=8
    python examples/run_multiple_choice.py --do_train --do_eval --output_dir taught --model_name_or_path out \\
        --teach self --train_file train.json --validation_file validation.json

A row has a text, a question, or both, and as many choices as every other. A checkpoint of BERT is a start too:
--model_type acn_bert.

Cost: each choice is a text of its own, so a row costs as many texts as it has choices.
"""

from dataclasses import dataclass, field

from transformers import AutoModelForMultipleChoice, TrainingArguments

from acn_hf.data import check_vocabulary, load_tokenizer, longest_text
from acn_hf.scripts import (
    DataArguments,
    DepthArguments,
    ModelArguments,
    build_model,
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

METRIC = "accuracy"


@dataclass
class ChoiceArguments(DataArguments):
    context_column_name: str = field(default="context", metadata={"help": "Column of the texts, if there is one."})
    question_column_name: str = field(
        default="question", metadata={"help": "Column of the questions, if there is one."}
    )
    choices_column_name: str = field(
        default="choices",
        metadata={"help": "Column of lists of choices, or what numbered columns begin with: ending for ending0, ..."},
    )
    max_seq_length: int | None = field(
        default=None,
        metadata={"help": "Longest text with a choice in tokens; defaults to what the tokenizer and the model take."},
    )


def main(argv: list[str] | None = None) -> None:
    kinds = (ChoiceArguments, ModelArguments, DepthArguments, TrainingArguments)
    data, model_arguments, depth, training = parse_arguments(kinds, __doc__, argv)
    checkpoint = start(training)
    source = tokenizer_source(model_arguments, checkpoint)
    with training.main_process_first(desc="reading the texts"):
        splits = needed(load_labelled(data), training)
        tokenizer = load_tokenizer(source, **model_arguments.hub_options())
    model = build_model(
        AutoModelForMultipleChoice,
        model_arguments,
        default_type="acn_bert",
        from_data=vocabulary_fields(tokenizer, model_arguments),
        checkpoint=checkpoint,
    )
    check_vocabulary(tokenizer, model.config, source)
    tokenizer.model_max_length = longest_text(model, tokenizer, data.max_seq_length, pair=True)
    with training.main_process_first(desc="tokenising"):
        rows = prepare_splits(model, tokenizer, splits, data.columns)
    run_labelled(model, training, depth, rows, tokenizer, metric=METRIC, checkpoint=checkpoint, data=data)


if __name__ == "__main__":
    run_script(main)
