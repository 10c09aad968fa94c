"""Fine-tune an AC-BERT, or any text classifier, on labelled sentences or pairs of them, or teach every depth of one.

What is unusual: labels are read as they stand in the data (names, ids, numbers, lists of several, or one column a
class), and those of the training data decide what there is to learn; and at the end every depth of the model is
measured on the validation data (depth_profile.json). A checkpoint of BERT is a start too: --model_type acn_bert.

    python examples/run_text_classification.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --train_file train.csv --validation_file validation.csv --num_train_epochs 3 --learning_rate 1e-4
    python examples/run_text_classification.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --dataset_name nyu-mll/glue --dataset_config_name mrpc --text_column_name sentence1 \\
        --text_pair_column_name sentence2 --depth_metric f1 --eval_strategy epoch
    python examples/run_text_classification.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --train_file train.csv --validation_file validation.csv --label_column_name toxic,obscene,threat
    python examples/run_text_classification.py --do_train --do_eval --output_dir out --tokenizer_name TOKENIZER \\
        --config_overrides hidden_size=128,intermediate_size=512,num_attention_heads=4,num_hidden_layers=8 \\
        --train_file train.csv --validation_file validation.csv --label_column_name rating --regression
    python examples/run_text_classification.py --do_train --do_eval --output_dir taught --model_name_or_path out \\
        --teach self --train_file train.csv --validation_file validation.csv --num_train_epochs 4

Cost: an epoch of 6,500 sentences takes 80 seconds for 8 layers of width 128 on one CPU core.
"""

from dataclasses import dataclass, field

from transformers import AutoModelForSequenceClassification, TrainingArguments

from acn_hf.data import (
    Columns,
    check_vocabulary,
    find_classes,
    find_several_classes,
    load_tokenizer,
    longest_text,
)
from acn_hf.scripts import (
    DepthArguments,
    ModelArguments,
    TextDataArguments,
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


@dataclass
class DataArguments(TextDataArguments):
    text_pair_column_name: str | None = field(default=None, metadata={"help": "Column of the second texts of pairs."})
    regression: bool = field(default=False, metadata={"help": "Labels are numbers to predict, not classes."})


def main(argv: list[str] | None = None) -> None:
    kinds = (DataArguments, ModelArguments, DepthArguments, TrainingArguments)
    data, model_arguments, depth, training = parse_arguments(kinds, __doc__, argv)
    checkpoint = start(training)
    columns = Columns(data.text_column_name, data.text_pair_column_name, label=data.label_column_name)
    source = tokenizer_source(model_arguments, checkpoint)
    with training.main_process_first(desc="reading the texts"):
        splits = needed(load_labelled(data), training)
        tokenizer = load_tokenizer(source, **model_arguments.hub_options())
    first = next(iter(splits.values()))
    several = None if data.regression else find_several_classes(first, columns.label)
    if several is not None:
        metric, labels = "f1_micro", {**label_fields(several), "problem_type": "multi_label_classification"}
    elif data.regression:
        metric, labels = "mse", label_fields(None)
    else:
        metric, labels = "accuracy", label_fields(find_classes(first, columns.label))
    model = build_model(
        AutoModelForSequenceClassification,
        model_arguments,
        default_type="acn_bert",
        from_data={**labels, **vocabulary_fields(tokenizer, model_arguments)},
        checkpoint=checkpoint,
    )
    check_vocabulary(tokenizer, model.config, source)
    pair = columns.text_pair is not None
    tokenizer.model_max_length = longest_text(model, tokenizer, data.max_seq_length, pair)
    with training.main_process_first(desc="tokenising"):
        rows = prepare_splits(model, tokenizer, splits, columns)
    run_labelled(model, training, depth, rows, tokenizer, metric=metric, checkpoint=checkpoint, data=data)


if __name__ == "__main__":
    run_script(main)
