"""What is left to gain after depth: precisions, zeros and widths of one AC-ViT that was trained and cut first.

    python benchmarks/pruning_quantization.py [--data_dir FOLDER_OF_IDX_FILES] [--num_epochs 40] [--finetune_epochs 20]
    python benchmarks/pruning_quantization.py --only_times 3

Everything is done to the same compressed network. The depth is chosen on validation images; accuracies are those on
test images. Every way of pruning is fine-tuned with the same settings and seeds, and so is the network that is not
pruned: the row `100%` says what fine-tuning alone does.
"""

import argparse
import statistics
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from timing import store
from transformers import Trainer, TrainingArguments, set_seed

import acn_hf
from acn_hf.data import read_idx_folder
from acn_hf.demo import accuracy, digits

REMAINING = (0.5, 0.25, 0.1, 0.05)
WIDTHS = (0.5, 0.25, 0.125)
SIZE = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 12}
SIZE |= {"num_labels": 10}


def load(folder: str | None) -> tuple[dict[str, datasets.Dataset], dict[str, int]]:
    """Return train, validation and test images with the fields of a config for them; digits if no folder is given."""
    if folder is None:
        return digits(), {"image_size": 8, "patch_size": 2, "num_channels": 3}
    splits = read_idx_folder(Path(folder))
    rest = splits["train"].train_test_split(test_size=0.1, seed=0)
    parts = {"train": rest["train"], "validation": rest["test"], "test": splits["test"]}
    data = {}
    for name, rows in parts.items():
        pixels = (torch.tensor(np.stack(rows["image"]), dtype=torch.float32)[:, None] / 255 - 0.5) / 0.5
        columns = {"pixel_values": pixels, "labels": rows["label"]}
        data[name] = datasets.Dataset.from_dict(columns).with_format("torch")
    return data, {"image_size": pixels.shape[-1], "patch_size": 4, "num_channels": 1}


def train(model: Any, data: list[dict[str, Any]], num_epochs: float, rate: float, seed: int, *callbacks: Any) -> Any:
    """Train `model` in place and return it."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=num_epochs,
            per_device_train_batch_size=64,
            learning_rate=rate,
            lr_scheduler_type="cosine",
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=data, callbacks=list(callbacks)).train()
    return model


def stored(model: Any) -> dict[str, int]:
    """Return the bytes of a checkpoint's weights, as they are and by zlib."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        content = Path(folder, "model.safetensors").read_bytes()
    return {"bytes": len(content), "zlib_bytes": len(zlib.compress(content))}


def timed(models: dict[str, Any], batch: torch.Tensor, rounds: int = 40) -> dict[str, Any]:
    """Return the processor time of one forward pass of each in milliseconds, and its ratio to that of the first.

    Passes are interleaved. Processor time, unlike that of the clock, does not count what other programs take; with one
    thread it is what the pass takes on a machine of its own.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for round_ in range(rounds + 3):
            for name, model in models.items():
                images, start = batch.to(model.dtype), time.process_time()
                model.eval()(pixel_values=images)
                if round_ >= 3:
                    times[name].append((time.process_time() - start) * 1000)
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in times.items()}
    first = next(iter(quartiles.values()))[1]
    return {
        name: {"q1_ms": q1, "median_ms": median, "q3_ms": q3, "ratio": median / first}
        for name, (q1, median, q3) in quartiles.items()
    }


def times(depth: int, fields: dict[str, int]) -> dict[str, Any]:
    """Return the times of a network of random weights, whose passes take as long as those of a trained one."""
    torch.set_num_threads(1)
    model = acn_hf.AcnViTForImageClassification(acn_hf.AcnViTConfig(**{**SIZE, "num_hidden_layers": depth}, **fields))
    width = model.config.intermediate_size
    variants = {
        "fp32": model,
        "bf16": acn_hf.quantize(model, "bf16"),
        "int8": acn_hf.quantize(model, "int8"),
        "5% of the weights": acn_hf.prune_model(model, 0.95),
        **{f"width {share:.1%}": acn_hf.prune_width(model, int(share * width)) for share in WIDTHS},
    }
    size = model.config.image_size
    images = torch.randn(64, model.config.num_channels, size, size)
    return {f"batch_size={number}": timed(variants, images[:number]) for number in (1, 64)}


def precisions(model: Any, test: datasets.Dataset) -> dict[str, Any]:
    """Return size and accuracy of a network in three precisions."""
    models = {"fp32": model, "bf16": acn_hf.quantize(model, "bf16"), "int8": acn_hf.quantize(model, "int8")}
    rows = {}
    for name, small in models.items():
        labels = test["labels"][:]
        with torch.inference_mode():
            parts = [small(pixel_values=x.to(small.dtype)).logits for x in test["pixel_values"][:].split(500)]
        right = (torch.cat(parts).argmax(-1) == labels).float().mean()
        rows[name] = {"accuracy": round(float(right), 4), **stored(small)}
        rows[name]["size_bytes"] = acn_hf.measure_cost(small, repeats=2).size_bytes
    return rows


def tune(model: Any, data: dict[str, Any], epochs: float, seeds: list[int], *make_callback: Any) -> dict[str, Any]:
    """Return the test accuracies of copies that were fine-tuned, and the zeros and bytes of the last one."""
    scores = []
    for seed in seeds:
        set_seed(seed)
        copy = acn_hf.truncate(model, model.config.num_hidden_layers)
        copy = train(copy, data["train"], epochs, 5e-4, seed, *(make() for make in make_callback))
        scores.append(round(accuracy(copy, data["test"]), 4))
    zeros = acn_hf.measure_sparsity(copy).sparsity
    return {"accuracy": scores, "mean": round(float(np.mean(scores)), 4), "sparsity": round(zeros, 4), **stored(copy)}


def zeros(model: Any, data: dict[str, Any], epochs: float, seeds: list[int]) -> dict[str, Any]:
    """Return accuracies against remaining weights for four ways to get there."""
    rows: dict[str, Any] = {"100%": {"not pruned": tune(model, data, epochs, seeds)}}
    for remaining in REMAINING:
        sparsity = 1 - remaining
        once = acn_hf.prune_model(model, sparsity)
        callbacks = {
            method: lambda method=method, sparsity=sparsity: acn_hf.PruningCallback(sparsity, method=method)
            for method in ("magnitude", "movement")
        }
        tuned = {
            "at once, fine-tuned": tune(once, data, epochs, seeds, callbacks["magnitude"]),
            "magnitude, gradual": tune(model, data, epochs, seeds, callbacks["magnitude"]),
            "movement, gradual": tune(model, data, epochs, seeds, callbacks["movement"]),
        }
        at_once = {"accuracy": [round(accuracy(once, data["test"]), 4)], **stored(once)}
        rows[f"{remaining:.0%}"] = {"at once": at_once, **tuned}
        print(f"{remaining:.0%}", rows[f"{remaining:.0%}"], flush=True)
    return rows


def widths(model: Any, data: dict[str, Any], epochs: float, seeds: list[int]) -> dict[str, Any]:
    """Return parameters and accuracies of narrower MLPs."""
    rows = {}
    for share in WIDTHS:
        narrow = acn_hf.prune_width(model, int(share * model.config.intermediate_size))
        tuned = tune(narrow, data, epochs, seeds)
        before = round(accuracy(narrow, data["test"]), 4)
        rows[f"{share:.1%}"] = {"before": before, **tuned, "num_parameters": narrow.num_parameters()}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir")
    parser.add_argument("--num_epochs", type=float, default=40)
    parser.add_argument("--finetune_epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max_train", type=int, help="use only so many training images")
    parser.add_argument("--only_times", type=int, metavar="DEPTH", help="train nothing; time a network of that depth")
    given = parser.parse_args()
    data, fields = load(given.data_dir)
    if given.only_times is not None:
        store("pruning_quantization_times", {"depth": given.only_times, **times(given.only_times, fields)})
        return
    if given.max_train is not None:
        data["train"] = data["train"].select(range(given.max_train))
    data["train"] = list(data["train"])  # to read rows from a file at every step would take longer than the step
    set_seed(0)
    long = acn_hf.AcnViTForImageClassification(acn_hf.AcnViTConfig(**SIZE, **fields))
    long = train(long, data["train"], given.num_epochs, 1e-3, 0)
    result = acn_hf.compress(long, data["validation"], tolerance=0.01)
    print(result, flush=True)
    model = result.model
    accuracies = {"full": round(accuracy(long, data["test"]), 4), "compressed": round(accuracy(model, data["test"]), 4)}
    tuning = (model, data, given.finetune_epochs, given.seeds)
    store(
        "pruning_quantization",
        {
            "settings": {**vars(given), "data_dir": given.data_dir and "IDX files", "num_train": len(data["train"])},
            "depth": {"full": SIZE["num_hidden_layers"], "compressed": result.depth, "accuracy": accuracies},
            "precisions": precisions(model, data["test"]),
            "zeros": zeros(*tuning),
            "widths": widths(*tuning),
        },
    )


if __name__ == "__main__":
    main()
