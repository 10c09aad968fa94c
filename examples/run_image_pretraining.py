"""Pretrain an AC-ViT by masked image modelling: guess the pixels of patches that are hidden.

What is unusual: labels are not read; the patches that are hidden of the validation images are drawn once and for all,
so that every evaluation, of every run, is of the same guesses; and at the end every depth of the model is measured on
them (depth_profile.json). The checkpoint is a start for run_image_classification.py --model_name_or_path.

    python examples/run_image_pretraining.py --do_train --do_eval --output_dir pretrained \\
        --dataset_name FASHION_MNIST --num_held_out 1000 --num_train_epochs 2 --per_device_train_batch_size 64 \\
        --learning_rate 1e-3 --config_overrides patch_size=7,hidden_size=64,intermediate_size=256,num_attention_heads=4
    torchrun --nproc_per_node 8 examples/run_image_pretraining.py --do_train --do_eval --bf16 --output_dir pretrained \\
        --dataset_name IMAGE_FOLDER --mask_ratio 0.6

Cost: the first command takes 4 minutes on one CPU core.
"""

from dataclasses import dataclass, field

import datasets
from transformers import AutoModelForMaskedImageModeling, TrainingArguments

from acn_hf.data import (
    EpochOfMasks,
    PatchMaskingCollator,
    image_fields,
    image_processor,
    mask_images_once,
    num_patches,
    require,
)
from acn_hf.data.pixels import pixels
from acn_hf.publishing import CardTrainer
from acn_hf.scripts import (
    DepthArguments,
    ImageDataArguments,
    ModelArguments,
    RecipeArguments,
    build_model,
    load_labelled,
    needed,
    parse_arguments,
    run,
    run_script,
    start,
)


@dataclass
class DataArguments(ImageDataArguments):
    mask_ratio: float = field(default=0.5, metadata={"help": "Share of the patches that are hidden, in (0, 1)."})


def main(argv: list[str] | None = None) -> None:
    kinds = (DataArguments, ModelArguments, DepthArguments, RecipeArguments, TrainingArguments)
    data, model_arguments, depth, _, training = parse_arguments(
        kinds, __doc__, argv, recipes=("ac-vit", "vit", "annealed")
    )
    checkpoint = start(training)
    with training.main_process_first(desc="reading the images"):
        splits = needed(load_labelled(data, with_labels=False), training)
        splits = {split: only_images(part, data) for split, part in splits.items()}
    first = next(iter(splits.values()))
    model = build_model(
        AutoModelForMaskedImageModeling,
        model_arguments,
        default_type="acn_vit",
        from_data={} if model_arguments.model_name_or_path else image_fields(first, data.image_column_name),
        checkpoint=checkpoint,
    )
    processor = image_processor(
        checkpoint or model_arguments.image_processor_name or model_arguments.model_name_or_path, model.config
    )
    collate = PatchMaskingCollator(num_patches(model.config), data.mask_ratio)
    with training.main_process_first(desc="decoding the images"):
        rows = {split: pixels(model.config, processor, part, data.image_column_name) for split, part in splits.items()}
        if "validation" in rows:
            rows["validation"] = mask_images_once(rows["validation"], collate)
    training.remove_unused_columns = False  # images that do not fit into memory are read by a transform
    training.label_names = ["bool_masked_pos"]  # with what stands for labels, the Trainer evaluates the loss
    training.prediction_loss_only = True
    trainer = CardTrainer(
        model=model,
        args=training,
        train_dataset=rows.get("train"),
        eval_dataset=rows.get("validation"),
        data_collator=collate,
        callbacks=[EpochOfMasks(collate)],
        processing_class=processor,
    )
    run(trainer, depth, metric="loss", checkpoint=checkpoint, data=data)


def only_images(images: datasets.Dataset, data: DataArguments) -> datasets.Dataset:
    """Return the column of the images and nothing else."""
    require(images, data.image_column_name)
    return images.select_columns([data.image_column_name])


if __name__ == "__main__":
    run_script(main)
