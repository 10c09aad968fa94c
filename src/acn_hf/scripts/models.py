"""The model that a script trains: a new one, a checkpoint, or the one that a run is resumed from."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from .. import auto
from ..conversion.convert import retyped
from ..data.labels import knows
from ..data.rows import DataError
from ..depth.every_depth import truncate
from ..depth.stack import fields_by_layer
from ..modeling.configuration_acn import AcnConfig
from ..support.auto_classes import served_classes
from ..training.shedding import DEPTH
from .arguments import ModelArguments

ENDS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
"""Fields for the tokens at both ends of a text, which not every family has."""


def build_model(
    auto_class: Any,
    arguments: ModelArguments,
    *,
    default_type: str,
    from_data: dict[str, Any] | None = None,
    checkpoint: str | None = None,
) -> PreTrainedModel:
    """Build a new model, load a checkpoint, or load the one that a run is resumed from.

    Args:
        auto_class: Which head, for example `AutoModelForMaskedLM`.
        arguments (`ModelArguments`): What was asked for.
        default_type (`str`): The `model_type` of a new model if none was asked for.
        from_data (`dict`, *optional*): Fields of the config that follow from the data, for example `id2label`.
        checkpoint (`str`, *optional*): Where a run is resumed from; its config counts, also where layers have left
            since the run began.

    Raises:
        OSError: There is no such checkpoint or config.
        ValueError: A field does not exist or is out of range, a resumed run asks for another model, or the weights of
            a checkpoint are not whole.
    """
    if checkpoint is not None:
        stored = AutoConfig.from_pretrained(checkpoint)
        _check_same(stored, arguments, checkpoint)
        model = _read(auto_class, checkpoint)
        if type(model).__name__ not in (stored.architectures or [type(model).__name__]):
            raise ValueError(
                f"the resumed run must have the head of its checkpoint {checkpoint}, {stored.architectures[0]}; "
                f"got {type(model).__name__}"
            )
        return model
    source = arguments.model_name_or_path
    if source is not None:
        if arguments.initializer_range is not None:
            raise ValueError(
                f"--initializer_range is for the first weights of a new model; those of {source} are trained already"
            )
        return _load(auto_class, source, arguments, from_data or {})
    config = _changed(_new_config(arguments, default_type), arguments, from_data or {})
    try:
        return auto_class.from_config(config)
    except (AssertionError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"no model can be built with these fields of its config: {error!r}") from error


def load_teacher(source: str, **options: Any) -> PreTrainedModel:
    """Load a checkpoint, residual or ACN, with the head that it was saved with.

    Args:
        source (`str`): A folder, or a name on the Hub.
        options: Passed on to `from_pretrained`.

    Raises:
        OSError: There is no such checkpoint.
        ValueError: It does not say its class, or its weights are not whole.
    """
    names = AutoConfig.from_pretrained(source, **options).architectures or [""]
    kind = auto.model_classes().get(names[0]) or getattr(transformers, names[0], None)
    if kind is None:
        raise ValueError(f"a teacher must say the class that it was saved as; {source} says {names[0] or 'none'}")
    return _read(kind, source, **options)


def _read(auto_class: Any, source: str, **options: Any) -> PreTrainedModel:
    try:
        return auto_class.from_pretrained(source, **options)
    except SafetensorError as error:
        raise ValueError(f"the weights in {source} must be whole: {error}") from error


def _load(auto_class: Any, source: str, arguments: ModelArguments, from_data: dict[str, Any]) -> PreTrainedModel:
    stored, depth = AutoConfig.from_pretrained(source, **arguments.hub_options()), arguments.num_hidden_layers
    _check_prefix(stored, arguments)
    config = _retyped(stored, arguments.model_type)
    if not served_classes(auto_class.__name__, type(config)):
        raise ValueError(f"transformers has no {auto_class.__name__} for the {config.model_type} in {source}")
    if not isinstance(config, AcnConfig) and depth is not None:
        whole = _load(auto_class, source, replace(arguments, num_hidden_layers=None), from_data)
        return truncate(whole, depth)  # which knows what else of a config counts layers
    if depth is not None:
        prefix = AutoConfig.from_pretrained(source, **arguments.hub_options(), num_hidden_layers=depth)
        config = _retyped(prefix, arguments.model_type)
    if knows(config, from_data.get("label2id", {})):
        from_data = {name: value for name, value in from_data.items() if name not in ("id2label", "label2id")}
    try:
        return _read(
            auto_class,
            source,
            config=_changed(config, arguments, from_data),
            ignore_mismatched_sizes=arguments.ignore_mismatched_sizes,
            **({} if arguments.dtype == "auto" else {"dtype": arguments.dtype}),
            **arguments.hub_options(),
        )
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise ValueError(
            f"{source} must have the shapes that are listed above; --ignore_mismatched_sizes starts those parameters "
            "anew, for a head with other classes"
        ) from None


def _new_config(arguments: ModelArguments, default_type: str) -> Any:
    if arguments.config_name is not None:
        config = AutoConfig.from_pretrained(arguments.config_name, **arguments.hub_options())
        return _retyped(config, arguments.model_type)
    return AutoConfig.for_model(arguments.model_type or default_type)


def _retyped(config: Any, model_type: str | None) -> Any:
    """Return the config with the class of `model_type`, if another one is asked for, and all fields it shares."""
    if model_type in (None, config.model_type):
        return config
    kind = type(AutoConfig.for_model(model_type))
    if not issubclass(kind, type(config)):
        raise ValueError(f"--model_type must be {config.model_type} or an ACN of it; got {model_type}")
    return retyped(config, kind)


def _changed(config: Any, arguments: ModelArguments, from_data: dict[str, Any]) -> Any:
    """Return a config with the fields that follow from the data and, above them, those that were asked for."""
    if len(from_data.get("id2label", range(2))) < 2:
        names = ", ".join(map(repr, from_data["label2id"]))
        raise DataError(f"there must be at least two classes to tell apart; every label is {names}")
    kind, before = type(config), config
    # The token that pads is one of every family; others are those of a family whose config names them.
    from_data = {
        name: value for name, value in from_data.items() if name not in ENDS or getattr(config, name, None) is not None
    }
    config = kind.from_dict({**config.to_dict(), **from_data})
    if arguments.config_overrides is not None:
        if not all("=" in item for item in arguments.config_overrides.split(",")):
            raise ValueError(f"--config_overrides must read a=1,b=2; got {arguments.config_overrides}")
        config.update_from_string(arguments.config_overrides)
        follows = hasattr(config, "encoder_stride") and "encoder_stride=" not in arguments.config_overrides
        if follows and "patch_size=" in arguments.config_overrides:
            config.encoder_stride = config.patch_size  # a decoder of images makes one patch of each token
    asked = {
        name: getattr(arguments, name)
        for name in ("num_hidden_layers", "residual_scale", "attention_residual", "readout")
        if getattr(arguments, name) is not None
    }
    for_an_acn = sorted(set(asked) - {"num_hidden_layers"})
    if not isinstance(config, AcnConfig) and for_an_acn:
        raise ValueError(f"only an ACN takes --{', --'.join(for_an_acn)}; got a {config.model_type}")
    fields = {**config.to_dict(), **asked, **_first_weights(config, arguments.initializer_range)}
    if asked.get("num_hidden_layers", num_layers(config)) != num_layers(before):
        # Whose entries are those of layers that are no more: the class makes them anew.
        fields = {name: value for name, value in fields.items() if name not in fields_by_layer(before)}
    return kind.from_dict(fields)  # checks all fields together


def fitting_initializer_range(hidden_size: int) -> float:
    """Return the standard deviation of first weights that fit a width: the 0.02 of transformers at 768."""
    return 0.02 * math.sqrt(768 / hidden_size)


def _first_weights(config: Any, asked: str | None) -> dict[str, float]:
    """Return the field of a config that says how large the first weights are, if somebody asked for it.

    Raises:
        ValueError: It is not a number above 0, or the config does not say what it would follow from.
    """
    if asked is None:
        return {}
    if not hasattr(config, "initializer_range"):
        raise ValueError(f"--initializer_range is a field that the config of a {config.model_type} does not have")
    if asked == "auto":
        width = getattr(config, "hidden_size", None)
        if not isinstance(width, int):
            raise ValueError(
                f"--initializer_range auto needs one hidden_size, which a {config.model_type} does not say"
            )
        return {"initializer_range": fitting_initializer_range(width)}
    try:
        value = float(asked)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"--initializer_range must be auto or a number above 0; got {asked}")
    return {"initializer_range": value}


def num_layers(config: Any) -> int | None:
    """Return the number of layers that a config counts itself, by whatever name; `None` where one inside it does."""
    return getattr(config, "num_hidden_layers", None)


def _check_prefix(stored: Any, arguments: ModelArguments) -> None:
    wanted, number = arguments.num_hidden_layers, num_layers(stored)
    if wanted is not None and number is not None and not 0 <= wanted <= number:
        raise ValueError(
            f"--num_hidden_layers must lie in [0, {number}], the layers of {arguments.model_name_or_path}; got {wanted}"
        )


def _check_same(stored: Any, arguments: ModelArguments, checkpoint: str) -> None:
    """Refuse to resume a run with flags that describe another model than its checkpoint."""
    if arguments.model_type not in (None, stored.model_type):
        raise ValueError(f"{checkpoint} is of model_type {stored.model_type} and cannot become {arguments.model_type}")
    asked = _changed(stored, arguments, {})
    depth, fields = num_layers(asked), asked.to_dict()
    if arguments.model_name_or_path is not None and arguments.num_hidden_layers is None:
        depth = num_layers(AutoConfig.from_pretrained(arguments.model_name_or_path, **arguments.hub_options()))
    if depth == _depth_at_start(checkpoint):  # layers may have left since
        depth = num_layers(stored)
    if num_layers(asked) != num_layers(stored):
        counted = {type(stored).attribute_map.get("num_hidden_layers"), *fields_by_layer(stored)}
        fields = {name: value for name, value in fields.items() if name not in counted}
    before = stored.to_dict()
    for name, value in {**fields, "num_hidden_layers": depth}.items():
        known = num_layers(stored) if name == "num_hidden_layers" else before.get(name)
        if known != value:
            raise ValueError(
                f"the resumed run must have the {name} of its checkpoint {checkpoint}, {known}; got {value}"
            )


def _depth_at_start(checkpoint: str) -> int | None:
    """Return the depth with which the run began that wrote a checkpoint, if its layers may leave."""
    state = Path(checkpoint) / TRAINER_STATE_NAME
    history = TrainerState.load_from_json(str(state)).log_history if state.exists() else []
    return next((entry[f"eval_{DEPTH}"] for entry in history if f"eval_{DEPTH}" in entry), None)


def label_fields(classes: list[str] | None) -> dict[str, Any]:
    """Return the fields of a config that say what there is to predict: classes, or without them one number."""
    if classes is None:
        return {"num_labels": 1, "problem_type": "regression"}
    return {"id2label": dict(enumerate(classes)), "label2id": {name: index for index, name in enumerate(classes)}}


def tokenizer_source(arguments: ModelArguments, checkpoint: str | None) -> str:
    """Return where the tokenizer lies.

    Raises:
        DataError: Nobody said.
    """
    source = checkpoint or arguments.tokenizer_name or arguments.model_name_or_path
    if source is None:
        raise DataError("there must be a tokenizer; give --model_name_or_path or --tokenizer_name")
    return source


def vocabulary_fields(tokenizer: Any, arguments: ModelArguments) -> dict[str, Any]:
    """Return the fields of a new model's config that follow from the tokenizer.

    A checkpoint has its own. Where it does not say what fills up a text, as many a language model, the tokenizer does.
    """
    source = arguments.model_name_or_path
    if source is not None:
        config = AutoConfig.from_pretrained(source, **arguments.hub_options())
        is_known = getattr(config, "pad_token_id", None) is not None
        return {} if is_known else {"pad_token_id": tokenizer.pad_token_id}
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    ends = (tokenizer.bos_token_id or begin, tokenizer.eos_token_id or end, begin, end)
    named = {name: number for name, number in zip(ENDS, ends, strict=True) if number is not None}
    return {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **named}
