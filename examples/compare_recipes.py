"""Compare recipes for the training of an ACN with each other, and with what residual networks reach, at equal steps.

What is unusual: a recipe is a name of words joined by `+`, and every run is a folder `NAME-seedN` with its profile. So
the script can be stopped and started again at any time, and several of them may share the work. `compare_runs.py`
prints the table. Tasks and networks are those of `compare_connections.py`.

    python examples/compare_recipes.py --task images --data_dir FASHION_MNIST --output_dir runs/recipes \\
        --recipes attention attention+annealed attention+annealed+supervised residual residual+supervised
    python examples/compare_runs.py runs/recipes

The first word is the network: strict, attention, residual or one of these of another depth, as residual4. Those after
it say how it is trained:

  annealed            it begins as a residual network; the residual scale falls to 0 between 10% and 60% of the steps
  early, late, long   the same between 0% and 30%, 40% and 90%, 0% and 80%
  cosine              the same, along a cosine
  topdown, bottomup   the same, one layer after another
  kept                the same, but it ends at 0.1
  lower               the same, but the lower third of the layers keeps its short connections
  supervised          the loss at every depth, weighted by depth; of masked words at one other depth in each step
  uniform             the same, with equal weights
  begun               the same for the first half of the steps alone
  dropped             every layer is left out of a step with a probability of 0.2 (LayerDrop; residual networks alone)
  restarted           the learning rate rises and falls twice
  held                the learning rate stays at its peak until 60% of the steps
  shed                layers without which it is .005 worse at most leave while it trains
  trimmed             the same with .01, and without a layer to spare
  shorn               the same with .02

Cost of one run on one CPU core: images 2 minutes, 3 with supervision; text 5 minutes.
"""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from compare_connections import CONNECTIONS, TASKS, Arguments as TaskArguments, Task, make_trainer
from transformers import HfArgumentParser, Trainer, TrainerCallback

from acn_hf import (
    IntermediateSupervisionCallback,
    LayerSheddingCallback,
    ResidualAnnealingCallback,
    measure_depth_profile,
)
from acn_hf.modeling.depth import encoder_layers
from acn_hf.scripts import record_of_runs
from acn_hf.support import circumstances, write_text
from acn_hf.training.attention import quick_attention

FALLING = {"begin": 0.1, "fraction": 0.6}
ANNEALING: dict[str, dict[str, Any]] = {
    "annealed": FALLING,
    "early": {"begin": 0.0, "fraction": 0.3},
    "late": {"begin": 0.4, "fraction": 0.9},
    "long": {"begin": 0.0, "fraction": 0.8},
    "cosine": {**FALLING, "shape": "cosine"},
    "topdown": {**FALLING, "order": "top_down"},
    "bottomup": {**FALLING, "order": "bottom_up"},
    "kept": {**FALLING, "end": 0.1},
    "lower": FALLING,
}
SUPERVISION = {"supervised": "linear", "uniform": "uniform", "begun": "linear"}
SCHEDULES: dict[str, dict[str, Any]] = {
    "restarted": {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}},
    "held": {"lr_scheduler_type": "warmup_stable_decay"},
}
SETTINGS = ("task", "family", "num_epochs", "max_steps", "learning_rate", "initializer_range", "bf16")
"""What a record says of how a run was trained."""
SHEDDING: dict[str, dict[str, Any]] = {
    "shed": {"tolerance": 0.005},
    "trimmed": {"tolerance": 0.01, "margin": 0},
    "shorn": {"tolerance": 0.02, "margin": 0},
}
WORDS = {*ANNEALING, *SUPERVISION, *SCHEDULES, *SHEDDING, "dropped"}


@dataclass
class Arguments:
    task: str = field(metadata={"help": f"Any of {', '.join(TASKS)}, see compare_connections.py."})
    recipes: list[str] = field(metadata={"help": "Which, see above."})
    output_dir: str = field(metadata={"help": "A folder for each run."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run for each."})
    num_epochs: float | None = field(default=None, metadata={"help": "Defaults to 40 for digits, 5 for images."})
    max_steps: int = field(default=3000, metadata={"help": "Training steps for text, of 16 sequences."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW."})
    initializer_range: float = field(
        default=0.02, metadata={"help": "Standard deviation of the first weights; 0.02 is what transformers has."}
    )
    family: str = field(default="vit", metadata={"help": "Of the images tasks: vit or mixer."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with train-images-idx3-ubyte.gz."})
    train_file: list[str] | None = field(default=None, metadata={"help": "Text files, plain or gzipped."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16."})
    record: str | None = field(default=None, metadata={"help": "JSON file for what all runs of the folder came to."})

    def __post_init__(self) -> None:
        for recipe in self.recipes:
            parse(recipe)


def parse(recipe: str) -> tuple[str, int | None, set[str]]:
    """Return the connections of a network, its depth if it is named, and how it is trained.

    Raises:
        ValueError: There is no such recipe.
    """
    network, *words = recipe.split("+")
    found = re.fullmatch(rf"({'|'.join(CONNECTIONS)})(\d*)", network)
    unknown = set(words) - WORDS
    if found is None or unknown:
        raise ValueError(f"a recipe must be {', '.join(CONNECTIONS)} with {', '.join(sorted(WORDS))}; got {recipe}")
    if found[1] == "residual" and set(words) & set(ANNEALING):
        raise ValueError(f"only an ACN is annealed; got {recipe}")
    if "dropped" in words and found[1] != "residual":
        raise ValueError(f"a layer can be left out of a residual network alone; got {recipe}")
    for group in (ANNEALING, SUPERVISION, SCHEDULES, SHEDDING):
        if len(set(words) & set(group)) > 1:
            raise ValueError(f"of {', '.join(group)} there must be one; got {recipe}")
    return found[1], int(found[2]) if found[2] else None, set(words)


class LayerDropCallback(TrainerCallback):
    """Leaves layers out while a residual network trains (arXiv 1909.11556).

    Args:
        probability (`float`): How likely each layer is left out of a step, in [0, 1).
    """

    def __init__(self, probability: float = 0.2):
        self.probability = probability
        self.handles: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.handles = [layer.register_forward_hook(self.leave_out) for layer in encoder_layers(kwargs["model"])]

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for handle in self.handles:
            handle.remove()

    def leave_out(self, layer: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        """Return what comes out of a layer, or what went in."""
        dropped = layer.training and torch.rand(()) < self.probability
        return inputs[0] if dropped else output


def apply(words: set[str], task: Task, trainer: Trainer) -> None:
    """Let a Trainer follow a recipe."""
    num_layers = len(encoder_layers(trainer.model))
    for word in words & set(ANNEALING):
        lower = num_layers // 3 if word == "lower" else 0
        end = [1.0] * lower + [0.0] * (num_layers - lower)
        ResidualAnnealingCallback(**{"end": end, **ANNEALING[word]}).attach(trainer)
    for word in words & set(SUPERVISION):
        num_depths = 1 if task.metric == "loss" else None
        until = 0.5 if word == "begun" else 1.0
        IntermediateSupervisionCallback(SUPERVISION[word], num_depths, until=until).attach(trainer)
    if "dropped" in words:
        trainer.add_callback(LayerDropCallback())
    for word in words & set(SHEDDING):
        sample = task.train.shuffle(seed=0).select(range(min(2000, len(task.train))))
        LayerSheddingCallback(sample, metric=task.metric, every=100, **SHEDDING[word]).attach(trainer)


def schedule(words: set[str], steps: int) -> dict[str, Any]:
    """Return the arguments of a training that say how its learning rate moves."""
    for word in words & set(SCHEDULES):
        kwargs = {"num_decay_steps": steps * 4 // 10} if word == "held" else {}
        return {**SCHEDULES[word], "lr_scheduler_kwargs": {**SCHEDULES[word].get("lr_scheduler_kwargs", {}), **kwargs}}
    return {}


def run(arguments: Arguments, task: Task, recipe: str, seed: int) -> None:
    """Train a network by a recipe, unless that is done, and write its profile."""
    folder = Path(arguments.output_dir, f"{recipe}-seed{seed}")
    if (folder / "depth_profile.json").exists():
        return
    connection, _, words = parse(recipe)
    batch = task.training["per_device_train_batch_size"]
    steps = task.training.get("max_steps") or int(-(-len(task.train) // batch) * task.training["num_train_epochs"])
    settings = {
        "learning_rate": arguments.learning_rate,
        "bf16": arguments.bf16,
        "use_cpu": not torch.cuda.is_available(),
    }
    trainer = make_trainer(task, connection, seed, folder / "trainer", **settings, **schedule(words, steps))
    apply(words, task, trainer)
    began = time.monotonic()
    with quick_attention(trainer):
        trainer.train()
    seconds = time.monotonic() - began
    trainer.model.save_pretrained(folder)
    profile = measure_depth_profile(trainer.model.eval(), task.evaluation, metric=task.metric, batch_size=100)
    record = {"train_runtime": seconds, "seed": seed, "steps": trainer.state.global_step, "arguments": vars(arguments)}
    write_text(folder / "train_results.json", json.dumps({**record, **circumstances()}, indent=2) + "\n")
    profile.save(folder / "depth_profile.json")
    print(f"{folder.name}: {' '.join(f'{value:.4f}' for value in profile.values)} ({seconds:.0f} s)", flush=True)


def build_task(arguments: Arguments, recipe: str) -> Task:
    """Return the task, with networks as deep as the recipe says."""
    return TASKS[arguments.task](
        TaskArguments(
            arguments.task,
            num_hidden_layers=parse(recipe)[1],
            num_epochs=arguments.num_epochs,
            max_steps=arguments.max_steps,
            initializer_range=arguments.initializer_range,
            family=arguments.family,
            data_dir=arguments.data_dir,
            train_file=arguments.train_file,
        )
    )


def main(argv: list[str] | None = None) -> None:
    (arguments,) = HfArgumentParser(Arguments, description=__doc__).parse_args_into_dataclasses(argv)
    tasks: dict[int | None, Task] = {}
    for seed in arguments.seeds:
        for recipe in arguments.recipes:
            depth = parse(recipe)[1]
            if depth not in tasks:
                tasks[depth] = build_task(arguments, recipe)
            run(arguments, tasks[depth], recipe, seed)
    if arguments.record is not None:
        record = record_of_runs(Path(arguments.output_dir), SETTINGS)
        write_text(arguments.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
