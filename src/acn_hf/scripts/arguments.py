"""Arguments of the example scripts, the recipes of the paper, and how both are read."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
import yaml  # type: ignore[import-untyped]
from transformers import HfArgumentParser
from transformers.utils import is_torch_xla_available

from ..depth.metrics import METRICS, Metric, resolve_metric
from ..training.teaching import SOFT_LABELS

_BERT = {
    "max_seq_length": 128,
    "total_train_batch_size": 2048,
    "learning_rate": 1e-3,
    "warmup_steps": 0.5,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_epsilon": 1e-9,
    "weight_decay": 0.01,
    "max_grad_norm": 0.5,
    "config_overrides": "hidden_dropout_prob=0.0,attention_probs_dropout_prob=0.0",
}
_VIT = {"total_train_batch_size": 256, "learning_rate": 1e-4, "weight_decay": 0.01, "max_grad_norm": 1.0}
_ANNEALED = {
    "attention_residual": True,
    "residual_annealing": [1.0, 0.0],
    "residual_annealing_begin": 0.1,
    "residual_annealing_fraction": 0.6,
    "initializer_range": "auto",
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}
RECIPES: dict[str, dict[str, Any]] = {
    "ac-bert": {"model_type": "acn_bert", **_BERT, "num_train_epochs": 6},
    "bert": {"model_type": "bert", **_BERT, "num_train_epochs": 3},
    "ac-vit": {"model_type": "acn_vit", **_VIT, "num_train_epochs": 700},
    "vit": {"model_type": "vit", **_VIT, "num_train_epochs": 300},
    "annealed": _ANNEALED,
    "masked-words": {"model_type": "acn_bert", **_ANNEALED, "attention_residual": False, "supervision": "uniform"},
}
"""What the paper trains with, where an ACN gets about twice the steps of the residual network beside it.

And what was found here, for ACNs from scratch at equal steps: `annealed`, and `masked-words` for an AC-BERT
(docs/experiments.md, 2026-11-29).
"""

DEFAULTS = {
    "report_to": "none",
    "dataloader_pin_memory": torch.cuda.is_available(),
    "per_device_eval_batch_size": 32,
}
"""Where the scripts differ from the defaults of `TrainingArguments`."""


def shown_setting(value: Any) -> str:
    """Return the value of a setting as a command line has it, with room to break the line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).replace(",", ", ")


def _describe(recipe: str) -> str:
    settings = (f"{name} {shown_setting(value)}" for name, value in RECIPES[recipe].items())
    return f"{recipe}: {', '.join(settings)}"


SELF = "self"
"""What `--teach` calls the checkpoint that training starts from."""


@dataclass
class RecipeArguments:
    """A preset."""

    recipe: Literal["ac-bert", "bert", "ac-vit", "vit", "annealed", "masked-words"] | None = field(
        default=None,
        metadata={
            "help": "Settings of the paper; or annealed, for an ACN of any size, or masked-words, for an AC-BERT of "
            "any size; what you give yourself wins. total_train_batch_size is reached by gradient accumulation over "
            "all devices. For max_steps, give an ACN twice those of the residual network in a recipe of the paper. "
            + "; ".join(_describe(recipe) for recipe in RECIPES)
            + "."
        },
    )


@dataclass
class ModelArguments:
    """Which model is trained: a checkpoint, or a new one of a config."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Checkpoint to go on from: a folder or a name on the Hub. Else from scratch."}
    )
    config_name: str | None = field(
        default=None, metadata={"help": "Config of a new model: a folder, a config.json or a name on the Hub."}
    )
    model_type: str | None = field(
        default=None,
        metadata={
            "help": "acn_bert, acn_vit, acn_mixer, or one of transformers (bert, vit). Defaults to the checkpoint's, "
            "for a new model to the ACN. acn_bert reads the checkpoint of a bert too, acn_vit that of a vit: exact at "
            "--residual_scale 1, and at the default 0 a starting point."
        },
    )
    config_overrides: str | None = field(
        default=None,
        metadata={"help": "Fields of the config to change, as hidden_size=128,num_hidden_layers=8."},
    )
    num_hidden_layers: int | None = field(
        default=None, metadata={"help": "Number of layers; of a checkpoint that many of its first layers."}
    )
    initializer_range: str | None = field(
        default=None,
        metadata={
            "help": "Standard deviation of the first weights of a new model: a number, or auto, which is the 0.02 of "
            "transformers at a width of 768, and more for a smaller one: 0.02 * sqrt(768 / hidden_size)."
        },
    )
    residual_scale: float | None = field(
        default=None, metadata={"help": "In [0, 1]: 0 is the ACN, 1 the residual network."}
    )
    attention_residual: bool | None = field(
        default=None, metadata={"help": "Whether to keep the short connection around attention."}
    )
    readout: Literal["auto", "sum"] | None = field(default=None, metadata={"help": "What the long connections add up."})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto",
        metadata={"help": "Precision of the weights of a checkpoint; auto is what it was saved in. Train in float32."},
    )
    ignore_mismatched_sizes: bool = field(
        default=False, metadata={"help": "Start the head of a checkpoint anew where its classes are not those here."}
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "Tokenizer of text models; defaults to the checkpoint's."}
    )
    image_processor_name: str | None = field(
        default=None, metadata={"help": "Image processor of image models; defaults to the checkpoint's."}
    )
    revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the checkpoint on the Hub."})
    token: str | None = field(default=None, metadata={"help": "Token for the Hub; defaults to the one you stored."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads from the Hub are kept."})

    def hub_options(self) -> dict[str, Any]:
        """Return what every `from_pretrained` is told."""
        return {"revision": self.revision, "token": self.token, "cache_dir": self.cache_dir}


@dataclass
class DepthArguments:
    """What is done with depth while training."""

    depth_metric: str | None = field(
        default=None,
        metadata={
            "help": f"Metric of the depths: {', '.join(METRICS)}; or your own, metric.py:function or module:function. "
            "Defaults by the task."
        },
    )
    lower_is_better: bool = field(
        default=False, metadata={"help": "A --depth_metric of your own is good when it is low."}
    )
    profile_every: int | None = field(
        default=None, metadata={"help": "Measure every depth on the validation data every so many steps."}
    )
    gradient_flow_every: int | None = field(
        default=None,
        metadata={
            "help": "Every so many steps, measure what each layer of an ACN learns through its own long connection."
        },
    )
    gradient_flow_examples: int | None = field(
        default=None,
        metadata={"help": "Validation examples for that, each as dear as two of training. Default: 64."},
    )
    supervision: Literal["none", "linear", "uniform"] = field(
        default="none",
        metadata={"help": "Train with the loss at every depth too, weighted by depth (linear) or alike (uniform)."},
    )
    supervision_depths: int | None = field(
        default=None, metadata={"help": "Number of depths supervised in a step, in turn; defaults to all."}
    )
    supervision_until: float = field(
        default=1.0, metadata={"help": "Share of the steps, in (0, 1], after which full depth alone is trained."}
    )
    residual_annealing: list[float] | None = field(
        default=None,
        metadata={"help": "Two numbers: move the residual scale while training from the first to the second."},
    )
    residual_annealing_begin: float = field(
        default=0.0, metadata={"help": "Share of the steps before which the scale stays where it is."}
    )
    residual_annealing_fraction: float = field(
        default=0.5, metadata={"help": "Share of the steps, in [0, 1], after which the scale is there."}
    )
    residual_annealing_shape: Literal["linear", "cosine"] = field(
        default="linear", metadata={"help": "Way of the scale."}
    )
    residual_annealing_order: Literal["together", "top_down", "bottom_up"] = field(
        default="together", metadata={"help": "Whose scale moves first: of all layers at once, or one after another."}
    )
    teach: str | None = field(
        default=None,
        metadata={
            "help": "Teach every depth: with 'self', the fine-tuned checkpoint --model_name_or_path teaches its own "
            "copy; or name another checkpoint with the same head. Short for --supervision uniform --distill_from, with "
            "half of the loss the labels."
        },
    )
    distill_from: str | None = field(
        default=None,
        metadata={"help": "Learn from this checkpoint too, at every supervised depth: a model with the same head."},
    )
    distill_soft_labels: float | None = field(
        default=None,
        metadata={
            "help": "Share of the teacher's answers in the loss, in [0, 1]; the rest are labels. Defaults to 0.5 with "
            "--teach, as in acn-hf compress, and to 1 with --distill_from."
        },
    )
    distill_temperature: float = field(default=2.0, metadata={"help": "Temperature of the teacher's answers."})
    distill_depth_states: float = field(
        default=0.0, metadata={"help": "Weight of the distance between the states of teacher and student."}
    )
    shed_tolerance: float | None = field(
        default=None, metadata={"help": "Remove layers while training that the metric does not need within this."}
    )
    shed_margin: int = field(default=1, metadata={"help": "Layers to keep above those that are needed."})
    shed_patience: int = field(default=2, metadata={"help": "Measurements in a row that must agree."})
    shed_every: int | None = field(
        default=None, metadata={"help": "Measure for shedding every so many steps; defaults to every evaluation."}
    )
    shed_start: float = field(
        default=0.1, metadata={"help": "Share of the steps, in [0, 1], before which no layer leaves."}
    )
    shed_examples: int | None = field(
        default=None, metadata={"help": "Measure for shedding on so many validation examples; defaults to all."}
    )

    origin: ModelArguments | None = field(default=None, init=False)
    """The checkpoint that training starts from, which teaches itself with `--teach self`."""

    def __post_init__(self) -> None:
        if self.lower_is_better and (self.depth_metric is None or self.depth_metric in METRICS):
            raise ValueError(f"--lower_is_better is for a --depth_metric of your own; got {self.depth_metric}")
        if self.depth_metric is not None:
            self.metric_or(self.depth_metric)
        if self.teach is not None and self.distill_from is not None:
            raise ValueError(
                f"--teach and --distill_from both name a teacher: give one of {self.teach} and {self.distill_from}"
            )
        if self.teach is not None and self.distill_soft_labels == 0:
            raise ValueError("--teach gives the teacher's answers: --distill_soft_labels must be above 0; got 0")
        if self.supervision_depths is not None and self.weights == "full":
            raise ValueError(
                f"--supervision_depths {self.supervision_depths} needs --supervision linear or uniform, or --teach"
            )
        if self.supervision_until != 1 and self.weights == "full":
            raise ValueError(
                f"--supervision_until {self.supervision_until} needs --supervision linear or uniform, or --teach"
            )
        if (self.shed_every or self.shed_examples) and self.shed_tolerance is None:
            raise ValueError("--shed_every and --shed_examples need --shed_tolerance")
        if self.gradient_flow_examples is not None and self.gradient_flow_every is None:
            raise ValueError("--gradient_flow_examples needs --gradient_flow_every")
        for name in ("gradient_flow_every", "gradient_flow_examples"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"--{name} must be at least 1; got {number}")
        if self.residual_annealing is not None and len(self.residual_annealing) != 2:
            raise ValueError(f"--residual_annealing must be two numbers, start and end; got {self.residual_annealing}")

    def metric_or(self, usual: str) -> Metric:
        """Return the metric that was asked for, else that of this name."""
        return resolve_metric(self.depth_metric or usual, False if self.lower_is_better else None)

    @property
    def weights(self) -> Literal["linear", "uniform", "full"]:
        """Weights of the depths in the loss."""
        if self.supervision == "none":
            return "full" if self.teach is None else "uniform"
        return self.supervision

    @property
    def soft_labels(self) -> float:
        """Share of the teacher's answers in the loss."""
        if self.distill_soft_labels is None:
            return 1.0 if self.teach is None else SOFT_LABELS
        return self.distill_soft_labels

    @property
    def teacher(self) -> str | None:
        """The checkpoint that teaches, if one does.

        Raises:
            ValueError: It is to be the one that training starts from, and there is none.
        """
        if self.teach != SELF:
            return self.teach or self.distill_from
        if self.origin is None or self.origin.model_name_or_path is None:
            raise ValueError("--teach self needs the fine-tuned checkpoint that teaches its copy: --model_name_or_path")
        return self.origin.model_name_or_path


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows a description as it is written, and every default."""


def parse_arguments(
    kinds: Sequence[type], description: str | None, argv: Sequence[str] | None = None, recipes: Sequence[str] = ()
) -> tuple:
    """Parse a command line, or a JSON or YAML file as the first argument, into dataclasses.

    Args:
        kinds (`Sequence[type]`): The dataclasses.
        description (`str`, *optional*): Stands above the help.
        argv (`Sequence[str]`, *optional*): Defaults to the arguments of the process.
        recipes (`Sequence[str]`, *optional*): The recipes that the script is for.

    Raises:
        SystemExit: An argument is unknown or has no value of its type.
        ValueError: A recipe does not fit the script, or its batch the devices.
    """
    parser = HfArgumentParser(list(kinds), description=description, formatter_class=Help, allow_abbrev=False)
    given = _given(parser, _expand(list(sys.argv[1:] if argv is None else argv)))
    known = {one.name for kind in kinds for one in fields(kind)}
    recipe = _recipe(given, recipes)
    values = {name: value for name, value in {**DEFAULTS, **recipe}.items() if name in known} | given
    if (given.get("bf16") or given.get("bf16_full_eval")) and "use_cpu" in known and not _has_accelerator():
        values.setdefault("use_cpu", True)  # which TrainingArguments asks for
    if recipe.get("config_overrides") and given.get("config_overrides"):
        values["config_overrides"] = f"{recipe['config_overrides']},{given['config_overrides']}"
    if given.get("teach") and given.get("supervision") == "none":
        raise ValueError("--teach trains every depth, and --supervision none full depth alone: give one of them")
    parsed = parser.parse_dict(values)
    for depth in (one for one in parsed if isinstance(one, DepthArguments)):
        depth.origin = next((one for one in parsed if isinstance(one, ModelArguments)), None)
        _ = depth.teacher  # that there is one is said before anything is read
    return parsed


def _has_accelerator() -> bool:
    return torch.accelerator.is_available() or is_torch_xla_available()


def _given(parser: HfArgumentParser, argv: list[str]) -> dict[str, Any]:
    """Return what was asked for, without any default."""
    defaults = {}
    for action in parser._actions:
        defaults[action.dest], action.default = action.default, argparse.SUPPRESS
    if {"-h", "--help"} & set(argv):
        for action in parser._actions:
            action.default = defaults[action.dest]
    return vars(parser.parse_args(argv))


def _expand(argv: list[str]) -> list[str]:
    """Return the arguments that a config file in the first place stands for, and those after it, which win."""
    if not argv or not argv[0].endswith((".json", ".yaml", ".yml")):
        return argv
    try:
        settings = yaml.safe_load(Path(argv[0]).read_text())  # JSON is YAML
    except yaml.YAMLError as error:
        raise ValueError(f"{argv[0]} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{argv[0]} must hold names and values of arguments; got {type(settings).__name__}")
    expanded = []
    for name, value in settings.items():
        if isinstance(value, list):
            expanded += [f"--{name}", *map(str, value)]
        elif value is not None:
            expanded.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    return [*expanded, *argv[1:]]


def _recipe(given: dict[str, Any], recipes: Sequence[str]) -> dict[str, Any]:
    name = given.get("recipe")
    if name is None:
        return {}
    if name not in recipes:
        raise ValueError(f"the recipe must be one of {', '.join(recipes)} here; got {name}")
    recipe = dict(RECIPES[name])
    if given.get("model_name_or_path") is not None:
        recipe.pop("initializer_range", None)  # its weights are not the first ones
    if "total_train_batch_size" not in recipe:
        return recipe
    total = recipe.pop("total_train_batch_size")
    devices = int(os.environ.get("WORLD_SIZE", 0)) or max(1, torch.cuda.device_count())
    on_device = given.get("per_device_train_batch_size") or min(64, max(1, total // devices))
    recipe["per_device_train_batch_size"] = on_device
    if "gradient_accumulation_steps" not in given:
        if total % (on_device * devices):
            raise ValueError(
                f"per_device_train_batch_size times {devices} devices must divide the {total} of the recipe, or "
                f"gradient_accumulation_steps be given; got {on_device}"
            )
        recipe["gradient_accumulation_steps"] = total // (on_device * devices)
    return recipe
