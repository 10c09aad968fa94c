"""Train an AC-ViT, or any image classifier, on labelled images.

What is unusual: MNIST-like IDX files are read as they are published; images that fit into memory are decoded once and
not in every epoch; and at the end every depth of the model is measured on the validation images (depth_profile.json).

    python examples/run_image_classification.py --do_train --do_eval --output_dir out --dataset_name FASHION_MNIST \\
        --num_held_out 10000 --max_train_samples 20000 --num_train_epochs 5 --per_device_train_batch_size 64 \\
        --learning_rate 1e-3 --lr_scheduler_type cosine --warmup_steps 100 --weight_decay 0.01 \\
        --config_overrides patch_size=7,hidden_size=64,intermediate_size=256,num_attention_heads=4
    torchrun --nproc_per_node 8 examples/run_image_classification.py --recipe ac-vit --do_train --do_eval --bf16 \\
        --output_dir out --dataset_name cifar10 --image_column_name img --validation_split test \\
        --config_overrides image_size=32,patch_size=4
    python examples/run_image_classification.py settings.yaml --resume_from_checkpoint True
    python examples/run_image_classification.py --do_train --do_eval --output_dir taught --model_name_or_path out \\
        --teach self --dataset_name FASHION_MNIST --num_held_out 10000 --max_train_samples 20000

A folder of images has a folder for each class, below folders train, validation and test if it is divided. The residual
network beside an AC-ViT: --model_type vit, or --recipe vit.

Cost: the first command takes 3 minutes on one CPU core.
"""

import datasets
from transformers import AutoModelForImageClassification, TrainingArguments

from acn_hf.data import Columns, find_classes, image_fields, image_processor
from acn_hf.scripts import (
    DepthArguments,
    ImageDataArguments,
    ModelArguments,
    RecipeArguments,
    build_model,
    label_fields,
    load_labelled,
    needed,
    parse_arguments,
    prepare_splits,
    run_labelled,
    run_script,
    start,
)

METRIC = "accuracy"


def main(argv: list[str] | None = None) -> None:
    kinds = (ImageDataArguments, ModelArguments, DepthArguments, RecipeArguments, TrainingArguments)
    data, model_arguments, depth, _, training = parse_arguments(
        kinds, __doc__, argv, recipes=("ac-vit", "vit", "annealed")
    )
    checkpoint = start(training)
    with training.main_process_first(desc="reading the images"):
        splits = needed(load_labelled(data), training)
    first = next(iter(splits.values()))
    columns = Columns(image=data.image_column_name, label=data.label_column_name)
    model = build_model(
        AutoModelForImageClassification,
        model_arguments,
        default_type="acn_vit",
        from_data=from_data(first, columns, model_arguments),
        checkpoint=checkpoint,
    )
    processor = image_processor(
        checkpoint or model_arguments.image_processor_name or model_arguments.model_name_or_path, model.config
    )
    with training.main_process_first(desc="decoding the images"):
        rows = prepare_splits(model, processor, splits, columns)
    training.remove_unused_columns = False  # images that do not fit into memory are read by a transform
    run_labelled(model, training, depth, rows, processor, metric=METRIC, checkpoint=checkpoint, data=data)


def from_data(images: datasets.Dataset, columns: Columns, model: ModelArguments) -> dict:
    """Return the fields of the config that follow from the images: of a new model their size too."""
    fields = label_fields(find_classes(images, columns.label))
    return fields if model.model_name_or_path else {**image_fields(images, columns.image), **fields}


if __name__ == "__main__":
    run_script(main)
