"""The main job on real data: train a 12-layer AC-ViT on scikit-learn's digits, measure, cut, save, reload, check.

What is unusual: the depth is chosen on validation images, and reported on test images that neither training nor the
choice has seen, by a model that a new process loaded with the Auto classes.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments, ViTImageProcessorPil, set_seed

from .compress import CompressionResult, compress
from .depth.drawing import plot_depth_profile
from .modeling.configuration_acn_vit import AcnViTConfig
from .modeling.modeling_acn_vit import AcnViTForImageClassification
from .scripts.models import fitting_initializer_range
from .support.records import write_text
from .training.annealing import ResidualAnnealingCallback
from .training.callbacks import IntermediateSupervisionCallback

NUM_LAYERS, WIDTH = 12, 64
TOLERANCE = 0.01


def digits() -> dict[str, datasets.Dataset]:
    """Return scikit-learn's 1,797 digits as `train` (60%), `validation` and `test` (20% each).

    `pixel_values` are of shape `(3, 8, 8)`, in [-1, 1], three times the same; `labels` are in `0..9`.
    """
    pixels, labels = load_digits(return_X_y=True)
    images = [Image.fromarray(image.astype(np.uint8)) for image in pixels.reshape(-1, 8, 8) * (255 / 16)]
    inputs = processor()([image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
    train, rest = train_test_split(np.arange(len(labels)), test_size=0.4, random_state=0, stratify=labels)
    validation, test = train_test_split(rest, test_size=0.5, random_state=0, stratify=labels[rest])
    return {
        name: datasets.Dataset.from_dict({"pixel_values": inputs[rows], "labels": labels[rows]}).with_format("torch")
        for name, rows in {"train": train, "validation": validation, "test": test}.items()
    }


def processor() -> ViTImageProcessorPil:
    """Return the image processor of the digits."""
    return ViTImageProcessorPil(size={"height": 8, "width": 8})


def training_arguments(folder: str, *, num_epochs: float, seed: int) -> TrainingArguments:
    """Return how the AC-ViT of the demo is trained."""
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=num_epochs,
        per_device_train_batch_size=64,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def train(data: datasets.Dataset, arguments: TrainingArguments) -> AcnViTForImageClassification:
    """Train the AC-ViT of the demo with the Trainer of transformers, and what makes an ACN learn.

    It begins as a residual network and ends as an ACN, its first weights fit its width, and every depth has a loss.
    """
    set_seed(arguments.seed)
    config = AcnViTConfig(
        image_size=8,
        patch_size=2,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_attention_heads=4,
        num_hidden_layers=NUM_LAYERS,
        num_labels=10,
        attention_residual=True,
        initializer_range=fitting_initializer_range(WIDTH),
    )
    model = AcnViTForImageClassification(config)
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    ResidualAnnealingCallback(begin=0.1, fraction=0.6).attach(trainer)
    IntermediateSupervisionCallback(weights="linear").attach(trainer)
    trainer.train()
    return model


def accuracy(model: torch.nn.Module, data: datasets.Dataset) -> float:
    """Return the accuracy of an ordinary image classifier, by an ordinary loop."""
    model.eval()
    with torch.no_grad():
        predictions = model(pixel_values=data["pixel_values"][:].to(model.device)).logits.argmax(-1)
    return float(accuracy_score(data["labels"][:], predictions.cpu()))


def accuracy_of_checkpoint(folder: str) -> float:
    """Return the test accuracy of a saved model, which the Auto class loads."""
    return accuracy(AutoModelForImageClassification.from_pretrained(folder), digits()["test"])


def run_demo(
    out: str | Path, *, num_epochs: float = 40, seed: int = 0, progress: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run the demo and write `compressed/`, `depth_profile.json`, `depth_profile.png` and `result.json` to `out`.

    Without matplotlib the picture is left out, and `progress` is told so.

    Args:
        out (`str` or `Path`): The folder to write to.
        num_epochs (`float`, *optional*, defaults to 40): Training epochs.
        seed (`int`, *optional*, defaults to 0): Seed of the weights and of the order of the images.
        progress (`Callable`, *optional*, defaults to `print`): Told what happens.

    Returns:
        `dict`: What `result.json` holds.

    Raises:
        OSError: `out` cannot be written.
    """
    start = time.perf_counter()
    folder = Path(out)
    data = digits()
    progress(f"Training a {NUM_LAYERS}-layer AC-ViT on {len(data['train'])} digits for {num_epochs:g} epochs")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = training_arguments(scratch, num_epochs=num_epochs, seed=seed)
        model = train(data["train"], arguments)
    progress(f"Measuring every depth on {len(data['validation'])} validation digits")
    result = compress(model, data["validation"], tolerance=TOLERANCE)
    progress(str(result.profile))
    compressed = accuracy(result.model, data["test"])
    save_demo(result, folder, training=arguments, results={"accuracy": compressed})
    progress(save_picture(result, folder))
    progress("Reloading the compressed model in a new process and testing it")
    reloaded = _in_new_process(folder / "compressed")
    summary = {
        "chosen_depth": result.depth,
        "full_depth": NUM_LAYERS,
        "test_accuracy": {
            "full": accuracy(model, data["test"]),
            "compressed": compressed,
            "reloaded": reloaded,
        },
        "num_parameters": {"before": result.cost_before.num_parameters, "after": result.cost_after.num_parameters},
        "size_bytes": {"before": result.cost_before.size_bytes, "after": result.cost_after.size_bytes},
        "num_epochs": num_epochs,
        "seed": seed,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_text(folder / "result.json", json.dumps(summary, indent=2) + "\n")
    progress(str(result))
    return summary


def save_demo(result: CompressionResult, folder: Path, **facts: Any) -> None:
    """Write the short model with all that belongs to it, and beside it the profile."""
    result.save_pretrained(
        folder / "compressed",
        processor=processor(),
        name="AC-ViT on digits",
        description=(
            "Classifies 8x8 images of handwritten digits: the demo of acn-hf, `acn-hf demo`. Trained on 60% of the "
            "1,797 digits of scikit-learn; the depth was chosen on 20%, and the other 20% are for the test."
        ),
        dataset="scikit-learn digits",
        split="validation",
        results_split="test",
        **facts,
    )
    result.profile.save(folder / "depth_profile.json")


def save_picture(result: CompressionResult, folder: Path) -> str:
    """Write the picture of the profile if matplotlib is installed, and return a line about it."""
    try:
        figure = plot_depth_profile(result.profile, depth=result.depth).figure
    except ImportError as missing:
        return f"No picture: {missing}"
    figure.savefig(folder / "depth_profile.png")
    return f"Picture: {folder / 'depth_profile.png'}"


def _in_new_process(folder: Path) -> float:
    program = "import sys; from acn_hf.demo import accuracy_of_checkpoint; print(accuracy_of_checkpoint(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
