"""The MLP-Mixers of timm, of which AC-Mixers are made: transformers has none.

Neither timm nor its dependencies are needed to read their checkpoints.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, ViTImageProcessorPil
from transformers.utils import cached_file

from ..modeling.configuration_acn_mixer import AcnMixerConfig
from ..modeling.depth import short_connections
from ..modeling.modeling_acn_mixer import AcnMixerForImageClassification, AcnMixerModel
from ..modeling.upstream import no_init_weights
from .layouts import ConversionError, Weights

HUB_OPTIONS = ("revision", "token", "cache_dir", "subfolder")
"""Arguments of `from_pretrained` that say which checkpoint is meant."""

RENAMES = (
    (r"^stem\.proj\.", "mixer.embeddings.patch_embeddings."),
    (r"^blocks\.(\d+)\.norm1\.", r"mixer.layers.\1.layernorm_before."),
    (r"^blocks\.(\d+)\.norm2\.", r"mixer.layers.\1.layernorm_after."),
    (r"^blocks\.(\d+)\.mlp_tokens\.", r"mixer.layers.\1.token_mlp."),
    (r"^blocks\.(\d+)\.mlp_channels\.", r"mixer.layers.\1.channel_mlp."),
    (r"^norm\.", "mixer.layernorm."),
    (r"^head\.", "classifier."),
)
"""Patterns of timm's names, and what stands in their place in an AC-Mixer."""

RELATIVES = {
    "gmixer_": ", whose MLPs are gated",
    "gmlp_": ", whose tokens are mixed by gates",
    "resmlp_": ", which has affine layers for norms and mixes its tokens by one linear layer",
}
"""Why models that the same class of timm makes do not map, by the beginning of their names."""

PARTS = {"Conv2d", "DropPath", "Dropout", "GELU", "Identity", "LayerNorm", "Linear", "Mlp", "MixerBlock", "MlpMixer"}
PARTS |= {"PatchEmbed", "Sequential"}
"""The classes of all modules of a Mixer."""

CHANGED_LAYERS = ("act_layer", "block_layer", "mlp_layer", "norm_layer")
"""Arguments of timm's class that exchange a part."""

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Numbers of PIL for the names of timm."""

PREPROCESSING: dict[str, Any] = {
    "crop_mode": "center",
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}
"""What timm does with the images of a Mixer whose config does not say it."""


@dataclass(frozen=True)
class TimmMixer:
    """What a Mixer of timm is: its name there, the fields of its config and its weights, named as in an AC-Mixer.

    `preprocessing` is what timm calls `pretrained_cfg`. `frozen` names weights that are not trained.
    """

    name: str
    fields: dict[str, Any]
    weights: Weights
    preprocessing: dict[str, Any]
    frozen: frozenset[str] = frozenset()
    training: bool = False

    @property
    def acn_class(self) -> type[PreTrainedModel]:
        """The class of ours with the same head, or without one."""
        return AcnMixerForImageClassification if "classifier.weight" in self.weights else AcnMixerModel

    def image_processor(self) -> ViTImageProcessorPil:
        """Return what prepares images as timm does for this model, outside of training.

        Raises:
            ConversionError: timm cuts or resizes them in a way that the processor does not know.
        """
        side, told = self.fields["image_size"], {**PREPROCESSING, **self.preprocessing}
        for what, known in (("interpolation", RESAMPLING), ("crop_mode", ["center"])):
            if told[what] not in known:
                raise ConversionError(f"the {what} of {self.name} must be one of {', '.join(known)}; got {told[what]}")
        if not isinstance(told["crop_pct"], (int, float)) or not 0 < told["crop_pct"] <= 1:
            raise ConversionError(f"the crop_pct of {self.name} must lie in (0, 1]; got {told['crop_pct']!r}")
        for what in ("mean", "std"):
            if len(told[what]) != self.fields["num_channels"]:
                raise ConversionError(
                    f"the {what} of {self.name} must hold a number for each of its {self.fields['num_channels']} "
                    f"channels; got {told[what]!r}"
                )
        return ViTImageProcessorPil(
            size={"shortest_edge": int(side / told["crop_pct"])},
            resample=RESAMPLING[told["interpolation"]],
            do_center_crop=True,
            crop_size={"height": side, "width": side},
            image_mean=list(told["mean"]),
            image_std=list(told["std"]),
        )

    def build(self, **fields: Any) -> PreTrainedModel:
        """Return the AC-Mixer with these weights.

        Raises:
            ConversionError: The weights are not those of a Mixer.
            StrictDataclassError: A field is out of range.
        """
        with no_init_weights():
            model: Any = self.acn_class(AcnMixerConfig(**self.fields, **fields))
        wanted = {name for name in model.state_dict() if not name.endswith("short_connection.residual_scale")}
        absent = [f"no {name}" for name in sorted(wanted - self.weights.keys())]
        if wrong := absent + sorted(self.weights.keys() - wanted):
            raise ConversionError(
                f"the weights of {self.name} do not map to {type(model).__name__}: {', '.join(wrong[:3])}"
            )
        try:
            model.load_state_dict(self.weights, strict=False, assign=True)
        except RuntimeError as error:
            raise ConversionError(f"the weights of {self.name} must have the shapes of a Mixer: {error}") from None
        known = next(iter(self.weights.values()))
        for short in short_connections(model):  # learned scales, which no original has
            model._init_weights(short.to(known.dtype))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in self.frozen)
        model.to(known.device)
        return model.train(self.training)


def is_timm_model(model: Any) -> bool:
    """Return whether a model is one of timm."""
    return isinstance(model, nn.Module) and type(model).__module__.startswith("timm.")


def is_timm_checkpoint(source: str, **options: Any) -> bool:
    """Return whether timm wrote what lies in a folder or on the Hub; not if there is nothing that can be read."""
    try:
        return "architecture" in _stored(source, options)
    except (OSError, ValueError):
        return False


def read_timm_checkpoint(source: str, **options: Any) -> TimmMixer:
    """Read a Mixer from a folder, or from the Hub, as timm writes it.

    Raises:
        ConversionError: It is another model, its weights are not whole, or its config is not what timm writes.
        OSError: It holds no `model.safetensors`.
        TypeError: An option is for checkpoints of transformers only.
    """
    if unknown := sorted(set(options) - set(HUB_OPTIONS)):
        raise TypeError(
            f"a checkpoint of timm is taken as it is, so it takes {', '.join(HUB_OPTIONS)}; got {', '.join(unknown)}"
        )
    stored = _stored(source, options)
    _check_kinds(source, stored)
    name, arguments, told = stored["architecture"], stored.get("model_args", {}), stored["pretrained_cfg"]
    _check_name(name)
    changed = [f"{key}={arguments[key]!r}" for key in CHANGED_LAYERS if arguments.get(key) is not None]
    if arguments.get("global_pool", "avg") != "avg":
        changed.append(f"global_pool={arguments['global_pool']!r}")
    if changed:
        raise ConversionError(f"a Mixer must have the parts of timm's {name}; {source} was made with {changed[0]}")
    try:
        weights = load_file(cached_file(source, "model.safetensors", **options))
    except SafetensorError as error:
        raise ConversionError(f"the weights in {source} must be whole: {error}") from error
    fields = {"hidden_dropout_prob": arguments.get("proj_drop_rate") or 0.0, **_labels(stored)}
    size = arguments.get("img_size") or _image_size(source, told)
    return _mixer(name, weights, size, fields, told)


def read_timm_model(model: Any) -> TimmMixer:
    """Read a Mixer from a model of timm, which is left as it is.

    Raises:
        ConversionError: It is another model, or has other parts.
    """
    told = getattr(model, "pretrained_cfg", None) or {}
    name = told.get("architecture") or type(model).__name__
    if type(model).__name__ != "MlpMixer":
        raise ConversionError(f"of the models of timm only a mixer_* can be an AC-Mixer; got {name}")
    if "architecture" in told:
        _check_name(name)
    for path, module in model.named_modules():
        tanh = isinstance(module, nn.GELU) and module.approximate != "none"
        if type(module).__name__ not in PARTS or tanh:
            part = "GELU of tanh" if tanh else type(module).__name__
            raise ConversionError(f"a Mixer must have the parts of timm's mixer_*; {path} of this one is a {part}")
    if model.global_pool != "avg":
        raise ConversionError(f"a Mixer must have the parts of timm's mixer_*; global_pool is {model.global_pool!r}")
    fields = {
        "layer_norm_eps": _one("the eps of all norms", [m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)]),
        "hidden_dropout_prob": _one(
            "the dropout of all blocks", [m.p for m in model.blocks.modules() if isinstance(m, nn.Dropout)]
        ),
        **_labels(told),
    }
    weights = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    return _mixer(name, weights, model.stem.img_size, fields, told, frozen, model.training)


def _stored(source: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the `config.json` of a checkpoint."""
    hub = {name: value for name, value in options.items() if name in HUB_OPTIONS}
    return PreTrainedConfig.get_config_dict(os.fspath(source), **hub)[0]


def _check_kinds(source: str, stored: dict[str, Any]) -> None:
    """Raise `ConversionError` if a part of a `config.json` is of another kind than timm writes."""
    for what, kind in {"architecture": str, "model_args": dict, "pretrained_cfg": dict}.items():
        value = stored.get(what, {} if what == "model_args" else None)
        if not isinstance(value, kind):
            raise ConversionError(f"{what} of {source} must be as timm writes it, a {kind.__name__}; got {value!r}")


def _image_size(source: str, told: dict[str, Any]) -> list[int]:
    """Return height and width of the images that a config names."""
    size = told.get("input_size")
    if not isinstance(size, (list, tuple)) or len(size) != 3 or not all(isinstance(side, int) for side in size):
        raise ConversionError(f"input_size of {source} must be channels, height and width; got {size!r}")
    return list(size[1:])


def _check_name(name: str) -> None:
    if not name.startswith("mixer_"):
        reason = next((reason for beginning, reason in RELATIVES.items() if name.startswith(beginning)), "")
        raise ConversionError(f"of the models of timm only a mixer_* can be an AC-Mixer; got {name}{reason}")


def _one(what: str, values: list[float]) -> float:
    if len(set(values)) != 1:
        raise ConversionError(f"{what} must be the same; got {', '.join(map(str, sorted(set(values))))}")
    return values[0]


def _labels(told: dict[str, Any]) -> dict[str, Any]:
    """Return the names of the classes, if timm has as many as there are classes."""
    names = told.get("label_names") or []
    if not names or len(names) != told.get("num_classes"):
        return {}
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def _renamed(name: str, *, has_head: bool) -> str:
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name if has_head else name.removeprefix("mixer.")


def _mixer(
    name: str,
    weights: Weights,
    image_size: Any,
    fields: dict[str, Any],
    told: dict[str, Any],
    frozen: Iterable[str] = (),
    training: bool = False,
) -> TimmMixer:
    """Return the Mixer with these weights, whose shapes tell all sizes but that of the images."""
    needed = ("stem.proj.weight", "blocks.0.mlp_tokens.fc1.weight", "blocks.0.mlp_channels.fc1.weight")
    if absent := [weight for weight in needed if weight not in weights]:
        raise ConversionError(f"the weights of {name} do not map to an AC-Mixer: no {absent[0]}")
    stem, tokens, channels = (weights[weight].shape for weight in needed)
    if len(stem) != 4:
        raise ConversionError(f"the patches of {name} must be those of images, of 4 axes; got weights of {tuple(stem)}")
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    for what, (height, width) in (("images", sides), ("patches", stem[2:])):
        if height != width:
            raise ConversionError(
                f"the {what} of {name} must be square to be those of an AC-Mixer; got {height}x{width}"
            )
    layers = {int(match[1]) for weight in weights if (match := re.match(r"blocks\.(\d+)\.", weight))}
    has_head = "head.weight" in weights
    sizes = {
        "image_size": sides[0],
        "patch_size": stem[2],
        "num_channels": stem[1],
        "hidden_size": stem[0],
        "num_hidden_layers": max(layers) + 1,
        "token_intermediate_size": tokens[0],
        "intermediate_size": channels[0],
    }
    if has_head and "id2label" not in fields:
        sizes["num_labels"] = len(weights["head.weight"])
    return TimmMixer(
        name,
        {**sizes, **fields},
        {_renamed(weight, has_head=has_head): value for weight, value in weights.items()},
        told,
        frozenset(_renamed(weight, has_head=has_head) for weight in frozen),
        training,
    )
