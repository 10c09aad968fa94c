"""What two processes do for the tests of training; started once by torchrun, for all of them.

Each function below is one check. What it returns in process 0 is written to `<folder>/<name>.pt`.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageClassification, Trainer

from acn_hf import (
    CompressionResult,
    DepthProfileCallback,
    DistillationLoss,
    IntermediateSupervisionCallback,
    LabelledTokensCallback,
    ResidualAnnealingCallback,
    compress,
    measure_depth_profile,
)
from acn_hf.depth.metrics import ProfileError
from acn_hf.training.stage_trainer import StageSettings
from tests.support.any_models import ALL, AnyModel, any_model, batch_of, with_labels, without_chance
from tests.support.families import TRAINED, by_name
from tests.support.pruned_in_two import pruned_runs
from tests.support.training import (
    CHECKPOINTING,
    build_model,
    data,
    doubled,
    same_weights,
    train_one_step,
    trainer,
    weights,
)
from tests.training.test_shedding import Scripted, depths
from tests.training.test_shedding_best import LEAVES, run as run_to_the_best

RUN = {"per_device_train_batch_size": 8, "max_steps": 4, "learning_rate": 1e-3, "max_grad_norm": 1.0}
"""Two processes with batches of 8 do what one does with batches of 16."""

ACCUMULATED = {
    "bert-ForPreTraining",
    "bert-ForMaskedLM",
    "bert-ForSequenceClassification",
    "bert-ForQuestionAnswering",
    "vit-ForMaskedImageModeling",
    "mixer-ForImageClassification",
}
"""Heads with a loss of their own kind; the others are `full`."""


TAUGHT = [entry for entry in ALL if entry.auto not in ("", "AutoModel")]
TAUGHT_FIRST = {
    "BertForSequenceClassification",
    "ModernBertForMaskedLM",
    "Dinov2ForImageClassification",
    "Wav2Vec2ForSequenceClassification",
    "LlamaForCausalLM",
}
"""Classes of different kinds; the others are `full`."""


def whole() -> bool:
    """Return whether the combinations outside of the covering arrays are wanted too."""
    return sys.argv[2] == "whole"


def finished(run: Trainer) -> dict[str, Any]:
    """Train, and return what the run ended with."""
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    return {"weights": weights(run.model), "losses": losses}


def plain(folder: Path) -> dict[str, Any]:
    """The ordinary run; no parameter may be without a gradient, since nobody looks for such."""
    return finished(trainer(folder, **RUN, ddp_find_unused_parameters=False))


def supervised(folder: Path) -> dict[str, Any]:
    run = trainer(folder, **RUN, ddp_find_unused_parameters=False)
    IntermediateSupervisionCallback("linear", num_depths=2).attach(run)
    return finished(run)


def annealed(folder: Path) -> dict[str, Any]:
    run = trainer(folder, **RUN, ddp_find_unused_parameters=False)
    ResidualAnnealingCallback(fraction=0.7, order="top_down").attach(run)
    return {**finished(run), "scale": run.model.config.residual_scale}


OWN_LOSSES = ("smoothing", "function", "compute_loss", "taught")


class WeightedLoss(Trainer):
    """Weighs the classes."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[override]
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs.logits, labels, torch.linspace(0.5, 2.0, 10), reduction="sum") / len(labels)
        return (loss, outputs) if return_outputs else loss


def loss_of_step(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(0.5, 2.0, 10)
    return cross_entropy(outputs.logits, labels, weights, reduction="sum") / num_items_in_batch


def own_loss_run(folder: Path, way: str, **options: Any) -> Trainer:
    """Return a supervised run whose loss the model does not compute."""
    smoothing = 0.1 if way in ("smoothing", "taught") else 0.0
    run = trainer(folder, **{**RUN, "label_smoothing_factor": smoothing, "eval_strategy": "no", **options})
    if way == "function":
        run.compute_loss_func = loss_of_step
    elif way == "compute_loss":
        run = WeightedLoss(run.model, run.args, train_dataset=run.train_dataset)
    lesson = DistillationLoss(build_model(seed=3), soft_labels=0.5, depth_states=0.5) if way == "taught" else None
    IntermediateSupervisionCallback("linear", distillation=lesson).attach(run)
    return run


def own_losses(folder: Path) -> dict[str, Any]:
    """Losses that are computed outside of the model; with a search for unused parameters or without one, in turn."""
    return {
        way: [
            finished(own_loss_run(folder, way, ddp_find_unused_parameters=find))
            for find in ((False, True) if whole() else (number % 2 > 0,))
        ]
        for number, way in enumerate(OWN_LOSSES)
    }


def profiled(folder: Path) -> dict[str, Any]:
    run = trainer(folder, **RUN)
    callback = DepthProfileCallback(metric="loss").attach(run)
    result = finished(run)
    alone = measure_depth_profile(
        run.model, run.eval_dataset, metric="loss", batch_size=run.args.per_device_eval_batch_size
    )
    return {**result, "together": callback.profile.to_dict(), "alone": alone.to_dict()}


def failing(folder: Path) -> str:
    """An error in one process is raised in both, and neither waits for ever."""
    run = trainer(folder, **RUN)
    rows = [{name: value.clone() for name, value in row.items()} for row in run.eval_dataset]
    for row in rows[32:64]:  # the second batch, which is the share of process 1
        row["pixel_values"].fill_(torch.nan)
    DepthProfileCallback(rows_of(rows)).attach(run)
    try:
        run.train()
    except ProfileError as error:
        return str(error)
    return "no error"


def rows_of(rows: list[dict[str, torch.Tensor]]) -> torch.utils.data.Dataset:
    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return rows[index]

    return Rows()


def shedding(folder: Path, **options: Any) -> dict[str, Any]:
    run = trainer(folder, **RUN, eval_strategy="no", save_steps=1, **options)
    Scripted(2, 2, 0, 0).attach(run)
    result = {**finished(run), "depths": depths(run)}
    others = [None, None]
    dist.all_gather_object(others, result["weights"])
    result["same"] = all(torch.equal(others[0][name], others[1][name]) for name in others[0])
    return result


def shedding_where_all_are_used(folder: Path) -> dict[str, Any]:
    return shedding(folder, ddp_find_unused_parameters=False)


def shedding_with_checkpointing(folder: Path) -> dict[str, Any]:
    return shedding(folder, **CHECKPOINTING)


def best_of_a_plain_model(folder: Path) -> dict[str, Any]:
    """Layers of a BERT leave at step 2, and come back with the best checkpoint, that of step 1."""
    model = any_model("BertForSequenceClassification").build()
    run = run_to_the_best("BertForSequenceClassification", folder, model, 1, LEAVES)
    others = [None, None]
    dist.all_gather_object(others, weights(model))
    read = type(model).from_pretrained(folder / "checkpoint-1")
    return {
        "depths": depths(run),
        "layers": model.config.num_hidden_layers,
        "same": same_weights(*others) and same_weights(others[0], weights(read)),
    }


def resumed_after_shedding(folder: Path) -> dict[str, Any]:
    """Go on from step 3 of `shedding`, when a layer had left, with a model of all layers."""
    run = trainer(folder, build_model(seed=5), **RUN, eval_strategy="no")
    Scripted(2, 2, 0, 0).attach(run)
    try:
        run.train(resume_from_checkpoint=str(folder.parent / "shedding" / "checkpoint-3"))
    except RuntimeError as error:
        if "tagged with cpu:0" not in str(error):
            raise
        return {"unsupported": "this release of transformers cannot resume several processes on a CPU"}
    return {"weights": weights(run.model), "depths": depths(run)}


def accumulated(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """One step of 2 processes x 4 batches x 2 examples, for every head that has a loss."""
    return {
        head.name: train_one_step(head.build().double(), doubled(head.inputs(16, labels=True)), folder, 2, 4)
        for head in TRAINED
        if whole() or head.name in ACCUMULATED
    }


def supervised_any_models(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """One step of 2 processes x 8 examples, with the loss at every depth, of models of transformers.

    Of these a Trainer believes that all divide their loss by the number of labels in the whole step. Most do not, so
    that with several batches, or with that number summed over processes, their steps are larger than they should be.
    """
    return {
        entry.name: train_one_step(
            without_chance(entry).double(),
            doubled(whole_texts(entry)),
            folder,
            8,
            1,
            callbacks=[IntermediateSupervisionCallback("linear")],
            average_tokens_across_devices=False,
        )
        for entry in TAUGHT
        if whole() or entry.name in TAUGHT_FIRST
    }


LABELLED = ("bert-ForMaskedLM", "ModernBertForMaskedLM")
"""One whose loss is the mean over a batch, and one whose loss is made for the whole step."""


def labelled_run(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return a masked language model in train mode, in float64, and 16 texts of which few tokens have a label."""
    if name == "bert-ForMaskedLM":
        model = by_name(name).build(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    else:
        model = without_chance(any_model(name))
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 40, (16, 7), generator=draw)
    labels = torch.where(torch.rand(16, 7, generator=draw) < 0.3, ids, -100)
    labels[:, 0] = ids[:, 0]  # each batch has some
    return model.double(), {"input_ids": ids, "labels": labels}


def labelled(folder: Path) -> dict[str, list[dict[str, torch.Tensor]]]:
    """One step of 2 processes x 4 batches x 2 texts, with the whole head and with that of tokens that have a label."""
    moved: dict[str, list[dict[str, torch.Tensor]]] = {name: [] for name in LABELLED}
    for name in LABELLED:
        for callbacks in ([], [LabelledTokensCallback()]):
            moved[name].append(train_one_step(*labelled_run(name), folder, 2, 4, callbacks=callbacks))
    return moved


def whole_texts(entry: AnyModel) -> dict[str, torch.Tensor]:
    """Return 16 labelled examples without padding, so that every batch has as many labels as every other."""
    inputs = batch_of(entry, 16)
    if "input_ids" in inputs:
        inputs = {"input_ids": inputs["input_ids"].clamp(min=5)}
    labelled = with_labels(entry, inputs)
    if entry.auto == "AutoModelForCausalLM":
        labelled["labels"][:, 0] = -100  # nothing predicts it, and a Trainer counts it of some classes
    return labelled


def sharded(folder: Path) -> dict[str, Any]:
    """Shard a model over both processes as FSDP does, by the class names that the package gives."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, whole = build_model().train(), build_model().train()
    names = set(model._no_split_modules)
    units = [module for module in model.modules() if type(module).__name__ in names]
    mesh = init_device_mesh("cpu", (2,))
    for module in [*units, model]:
        fully_shard(module, mesh=mesh)
    run = trainer(folder)
    rows = run.train_dataset[:16]
    batch = {name: value[dist.get_rank() :: 2] for name, value in rows.items()}
    model(**batch).loss.backward()
    whole(**rows).loss.backward()
    gradients = {name: parameter.grad.full_tensor() for name, parameter in model.named_parameters()}
    try:
        measure_depth_profile(model, run.eval_dataset)
        refusal = ""
    except TypeError as error:
        refusal = str(error)
    return {
        "units": len(units),
        "refusal": refusal,
        "sharded": gradients,
        "whole": {name: parameter.grad for name, parameter in whole.named_parameters()},
    }


def compressed(folder: Path) -> dict[str, Any]:
    """The main job, whose stages are stored, and once more from what is stored; only the first process writes."""
    if not whole():
        return {}
    results = [
        compressed_run(folder, batch_size=8, work_dir=folder / "work", resume=resume) for resume in (False, True)
    ]
    stored = sorted(path.relative_to(folder).as_posix() for path in (folder / "work").glob("*/*.safetensors"))
    depths_of_all = [None, None]
    dist.all_gather_object(depths_of_all, [result.depth for result in results])
    return {
        "depths": depths_of_all,
        "stored": stored,
        "answers": len(list((folder / "work").glob("answers-*.npy"))),
        "weights": weights(results[0].model),
        "again": weights(results[1].model),
        "values": results[0].profile.values,
    }


def compressed_run(folder: Path, *, batch_size: int, **options: Any) -> CompressionResult:
    """Teach, choose, cut and heal a small network, with so many examples in a step of a process."""
    settings = StageSettings(folder / "runs", torch.device("cpu"), batch_size=batch_size, learning_rate=1e-3)
    stages = {name: settings.maker(name, 1.5, data()["train"], None) for name in ("teach", "heal")}
    return compress(build_model(), data()["validation"], **stages, tolerance=0.05, **options)


def pruned(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return pruned_runs(folder, RUN, whole())


CHECKS = [
    plain, supervised, annealed, own_losses, profiled, failing, shedding, shedding_where_all_are_used,
    shedding_with_checkpointing, best_of_a_plain_model, resumed_after_shedding, accumulated, supervised_any_models,
    labelled, sharded, pruned, compressed,
]  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")  # those of torchrun and gloo are not ours
    for check in CHECKS:
        result = check(folder / check.__name__)
        if int(torch.distributed.get_rank()) == 0:
            torch.save(result, folder / f"{check.__name__}.pt")
        dist.barrier()
    AutoModelForImageClassification.from_pretrained(folder / "plain" / "checkpoint-4")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
