"""What every experiment works with: the networks and tasks of one size, and each network trained once."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from acn_hf import measure_depth_profile

from .networks import ARCHITECTURES, MODELS, RIVALS, Network
from .store import Result, Store, check_settings, lock, made_now
from .tasks import Task, TaskSpec, load_task
from .training import Recipe, train

SHORT = 3
"""Layers of the residual networks that are trained short."""


@dataclass
class Arguments:
    """What every script takes."""

    arch: list[str] = field(
        default_factory=list,
        metadata={"help": f"Any of {', '.join(ARCHITECTURES)}. Defaults to those of the experiment."},
    )
    family: list[str] = field(
        default_factory=list, metadata={"help": f"Any of {', '.join(MODELS)}. Defaults to those of the experiment."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run for each."})
    image_data: str = field(
        default="digits", metadata={"help": "A folder or a name on the Hub, or digits, those of scikit-learn."}
    )
    text_data: str | None = field(
        default=None, metadata={"help": "A folder or a name on the Hub; without it text is left out."}
    )
    quick: bool = field(default=False, metadata={"help": "Small networks, few examples and one seed."})
    results_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where results go, a file for each experiment. Defaults to runs/paper/results, or paper-quick."
        },
    )
    work_dir: str | None = field(
        default=None,
        metadata={"help": "Where trained networks are kept. Defaults to runs/paper/models, or paper-quick."},
    )

    def __post_init__(self) -> None:
        folder = "runs/paper-quick" if self.quick else "runs/paper"
        self.results_dir = self.results_dir or f"{folder}/results"
        self.work_dir = self.work_dir or f"{folder}/models"
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise ValueError(f"--seeds must be numbers from 0 to {2**32 - 1}; got {seed}")
        if self.image_data != "digits" and Path(self.image_data).name == "digits":
            raise ValueError(f"--image_data must not be called digits, as scikit-learn's are; got {self.image_data}")


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Args:
        num_layers, text_layers (`int`): Depth of the networks for images and for texts.
        num_train, num_test (`int`, *optional*): Examples of a task.
        num_epochs, text_epochs (`int`): Passes over images and over texts.
    """

    num_layers: int
    text_layers: int
    num_train: int | None
    num_test: int | None
    num_epochs: int
    text_epochs: int


FULL = Size(num_layers=12, text_layers=8, num_train=15_000, num_test=None, num_epochs=5, text_epochs=3)
QUICK = Size(num_layers=4, text_layers=4, num_train=1000, num_test=400, num_epochs=8, text_epochs=3)


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Args:
        model (`PreTrainedModel`): In evaluation mode.
        task (`Task`): What it was trained on.
        history (`list[dict]`): Train loss, test loss and test accuracy of every epoch.
        seconds (`float`): What the training took.
    """

    model: PreTrainedModel
    task: Task
    history: list[dict[str, float]]
    seconds: float


class Laboratory:
    """The networks and tasks of one size, and the networks that are trained already.

    Args:
        arguments (`Arguments`): What was asked for.
    """

    def __init__(self, arguments: Arguments):
        self.arguments = arguments
        self.size = QUICK if arguments.quick else FULL
        self.seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
        self.trained_at: set[str] = set()

    def store(self, experiment: str) -> Store:
        """Return the results of an experiment."""
        return Store(self.arguments.results_dir, experiment)

    def data_name(self, settings: dict[str, Any]) -> str:
        """Return what the data of a run are called, without where they lie."""
        source = self.arguments.text_data if settings.get("family") == "bert" else self.arguments.image_data
        return Path(str(source)).name

    def archs(self, *default: str) -> tuple[str, ...]:
        """Return the architectures that are asked for, or those of the experiment."""
        return tuple(self.arguments.arch) or default

    def networks(self, family: str, *default: str) -> list[tuple[str, int]]:
        """Return architecture and depth of each network that is compared: those that are asked for, at full depth.

        With each residual network goes the honest baseline, one of few layers from scratch.
        """
        archs = self.archs(*default)
        short = [(arch, SHORT) for arch in archs if arch in RIVALS.values()]
        return [*((arch, self.depth(family)) for arch in archs), *short]

    def families(self, *default: str) -> tuple[str, ...]:
        """Return the families that are asked for, or those of the experiment; without texts there is no BERT.

        Raises:
            ValueError: BERT is asked for, and there are no texts.
        """
        if self.arguments.text_data is None:
            if "bert" in self.arguments.family:
                raise ValueError("--text_data must name a data set of texts for --family bert; got none")
            default = tuple(family for family in default if family != "bert")
        return tuple(self.arguments.family) or default

    def network(self, family: str, arch: str, num_layers: int | None = None) -> Network:
        """Return a network of this size, or of another depth."""
        return Network(family, arch, self.depth(family) if num_layers is None else num_layers)

    def depth(self, family: str) -> int:
        """Return the depth of a family's networks."""
        return self.size.text_layers if family == "bert" else self.size.num_layers

    def task(self, family: str, **part: Any) -> TaskSpec:
        """Return the task of a family, or a part of it; see `TaskSpec`."""
        size = {"num_train": self.size.num_train, "num_test": self.size.num_test}
        if family == "bert":
            if self.arguments.text_data is None:
                raise ValueError("--text_data must name a data set of texts; got none")
            return TaskSpec(self.arguments.text_data, "text", **{**size, **part})
        return TaskSpec(self.arguments.image_data, "image", **{**size, **part})

    def recipe(self, family: str, **changes: Any) -> Recipe:
        """Return how a family is trained."""
        epochs = self.size.text_epochs if family == "bert" else self.size.num_epochs
        return Recipe(**{"num_epochs": epochs, **changes})

    def trained(
        self, network: Network, seed: int, *, task: TaskSpec | None = None, recipe: Recipe | None = None
    ) -> Trained:
        """Return a network trained with a task, from the folder of trained networks if it is there.

        Args:
            network (`Network`): Which.
            seed (`int`): Of its first weights and of the order of the examples.
            task (`TaskSpec`, *optional*): Defaults to that of the family.
            recipe (`Recipe`, *optional*): Defaults to that of the family.
        """
        task, recipe = task or self.task(network.family), recipe or self.recipe(network.family)
        settings = {"network": asdict(network), "task": asdict(task), "recipe": asdict(recipe), "seed": seed}
        # The folder of the data may be another one tomorrow; its name stays.
        settings["task"]["source"] = Path(task.source).name
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{network.name}-seed{seed}-{key}"
        weights = Path(self.arguments.work_dir) / f"{name}.safetensors"
        record = weights.with_suffix(".json")
        data = load_task(task)
        model = network.build(data.fields, seed)
        with lock(self.arguments.work_dir, name):
            result = Result.load(record) if record.exists() else None
            if result is not None:
                check_settings(result, settings, record)
            if result is None or not weights.exists():
                start = time.perf_counter()
                history = train(model, data, recipe, seed, network.callbacks())
                seconds = time.perf_counter() - start
                save_file(_contiguous(model), weights)
                result = made_now(settings, {"history": history, "seconds": seconds})
                result.save(record)
        self.trained_at.add(result.circumstances["commit"])
        try:
            model.load_state_dict(load_file(weights))
        except SafetensorError as error:
            raise ValueError(f"{weights} must be whole: {error}; without it the network is trained again") from None
        return Trained(model.eval(), data, result.values["history"], result.values["seconds"])

    def accuracies(self, model: PreTrainedModel, task: Task) -> list[float]:
        """Return the accuracy on the test data at every depth, `0..L`."""
        profile = measure_depth_profile(model, task.test, batch_size=250, collate_fn=task.collate)
        return list(profile.values)


def _contiguous(model: PreTrainedModel) -> dict[str, Any]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def effective_depth(accuracies: Sequence[float], tolerance: float = 0.005) -> int:
    """Return the smallest depth whose accuracy is within the tolerance of that of full depth."""
    return next(depth for depth, value in enumerate(accuracies) if value >= accuracies[-1] - tolerance)
