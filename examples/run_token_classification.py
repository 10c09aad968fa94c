"""Fine-tune an AC-BERT, or any token classifier, on labelled words: names, parts of speech.

What is unusual: a row is a list of words and a list of as many labels (names or ids), and only the first token of a
word counts; and at the end every depth of the model is measured on the validation data (depth_profile.json).

    python examples/run_token_classification.py --do_train --do_eval --output_dir out --model_name_or_path PRETRAINED \\
        --dataset_name conll2003 --label_column_name ner_tags --depth_metric f1_macro
    python examples/run_token_classification.py --do_train --do_eval --output_dir out --tokenizer_name TOKENIZER \\
        --train_file train.json --validation_file validation.json --label_column_name tags \\
        --config_overrides hidden_size=128,intermediate_size=512,num_attention_heads=4,num_hidden_layers=8
    python examples/run_token_classification.py --do_train --do_eval --output_dir taught --model_name_or_path out \\
        --teach self --train_file train.json --validation_file validation.json --label_column_name tags

A checkpoint of BERT is a start too: --model_type acn_bert.

Cost: an epoch of 10,000 sentences takes 2 minutes for 8 layers of width 128 on one CPU core.
"""

from dataclasses import dataclass, field

from transformers import AutoModelForTokenClassification, TrainingArguments

from acn_hf.data import Columns, check_vocabulary, find_classes, load_tokenizer, longest_text, usual_metric
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
    text_column_name: str = field(default="tokens", metadata={"help": "Column of the lists of words."})
    label_column_name: str = field(default="labels", metadata={"help": "Column of the lists of labels."})


def main(argv: list[str] | None = None) -> None:
    kinds = (DataArguments, ModelArguments, DepthArguments, TrainingArguments)
    data, model_arguments, depth, training = parse_arguments(kinds, __doc__, argv)
    checkpoint = start(training)
    columns = Columns(data.text_column_name, label=data.label_column_name)
    source = tokenizer_source(model_arguments, checkpoint)
    with training.main_process_first(desc="reading the texts"):
        splits = needed(load_labelled(data), training)
        tokenizer = load_tokenizer(source, **model_arguments.hub_options())
    classes = find_classes(next(iter(splits.values())), columns.label)
    model = build_model(
        AutoModelForTokenClassification,
        model_arguments,
        default_type="acn_bert",
        from_data={**label_fields(classes), **vocabulary_fields(tokenizer, model_arguments)},
        checkpoint=checkpoint,
    )
    check_vocabulary(tokenizer, model.config, source)
    tokenizer.model_max_length = longest_text(model, tokenizer, data.max_seq_length)
    with training.main_process_first(desc="tokenising"):
        rows = prepare_splits(model, tokenizer, splits, columns)
    run_labelled(model, training, depth, rows, tokenizer, metric=usual_metric(model), checkpoint=checkpoint, data=data)


if __name__ == "__main__":
    run_script(main)
