"""Where the neurons of a layer are, in any model: found by asking its class for a model with one neuron less."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..depth.layers import is_acn, layers_of, layers_path, prefix
from ..depth.self_check import shapes
from ..depth.stack import find_stack

USUAL_FIELD = "intermediate_size"


@dataclass(frozen=True)
class Width:
    """How many neurons the MLPs of a model have, and what reads them.

    Args:
        field (`str`): What the config calls their number.
        width (`int`): Their number, the same in every layer.
        reader (`str`): Name of the linear module that reads them, seen from each layer; empty if there is no layer.
        beside (`tuple[str, ...]`): Names of such modules beside the layers, in a pooler for instance, seen from the
            model: the config counts their neurons too.
    """

    field: str
    width: int
    reader: str
    beside: tuple[str, ...] = ()

    def readers(self, model: PreTrainedModel) -> list[nn.Module | None]:
        """Return all modules of a model that read neurons, those of the layers first; `None` where there is none."""
        modules = [dict(layer.named_modules()).get(self.reader) for layer in layers_of(model)]
        return [*modules, *(model.get_submodule(name) for name in self.beside)]


def counting_config(model: PreTrainedModel) -> PreTrainedConfig:
    """Return the config that counts the layers and neurons of a model, its own or one inside it."""
    return model.config if is_acn(model) else find_stack(model).config


def find_width(model: PreTrainedModel) -> Width:
    """Return where the neurons of a model are.

    No list of names says which field of a config counts them. It is the one by which, made smaller by one, one
    `torch.nn.Linear` in a layer reads one number less, and what writes that number gets one row less, or two.

    Raises:
        TypeError: There is no such field, or the layers differ.
    """
    usual = type(counting_config(model)).attribute_map.get(USUAL_FIELD, USUAL_FIELD)
    if not len(layers_of(model)):
        return Width(usual, getattr(counting_config(model), usual), "")
    plain = shapes(_one_layer(model))
    for field in _numbers(counting_config(model), usual):
        found = _changed_by(field, model, plain)
        if found is not None:
            _check_readers(model, found)
            return found
    kinds = sorted({type(module).__name__ for layer in layers_of(model) for module in _with_matrices(layer)})
    raise TypeError(
        "the neurons of a layer must be read by one torch.nn.Linear, and be counted by a field of the config; no field "
        f"of {type(counting_config(model)).__name__} does that. The matrices of {type(model).__name__} are in "
        f"{', '.join(kinds)}"
    )


def _numbers(config: PreTrainedConfig, usual: str) -> Iterator[str]:
    """Yield the names of the fields that may hold a number of neurons, the usual one first."""
    fields = [name for name, value in vars(config).items() if type(value) in (int, type(None)) and name[0] != "_"]
    return iter(sorted(fields, key=lambda name: name != usual))


def _one_layer(model: PreTrainedModel, **changed: Any) -> PreTrainedModel:
    """Return a model like the first layer of another, without storage, whose config says something else."""
    view, configs = prefix(model, 1)
    for name, value in changed.items():
        setattr(configs[id(counting_config(model))], name, value)
    with torch.device("meta"):
        return type(model)(view.config)


def _changed_by(field: str, model: PreTrainedModel, plain: dict[str, torch.Size]) -> Width | None:
    """Return where the neurons are if a field counts them."""
    before = getattr(counting_config(model), field)
    wanted = 1 if before is None or before < 2 else before - 1
    if wanted == before:
        return None
    try:
        probe = _one_layer(model, **{field: wanted})
    except Exception:  # each class refuses what cannot be with errors of its own
        return None
    changed = {name: shape for name, shape in shapes(probe).items() if shape != plain.get(name)}
    readers = [name for name, shape in changed.items() if len(shape) == 2 and shape[0] == plain.get(name, shape)[0]]
    first = f"{layers_path(model)}.0."
    inside = [name for name in readers if name.startswith(first)]
    rows = sum(shape[0] for name, shape in changed.items() if name.startswith(first) and len(shape) == 2)
    # Attention has three rows for one number that is read: queries, keys and values.
    if len(inside) != 1 or rows - plain[inside[0]][0] not in (wanted, 2 * wanted):
        return None
    names = [name.removesuffix(".weight") for name in readers]
    if any(changed[name][1] != wanted or plain[name] != (changed[name][0], plain[inside[0]][1]) for name in readers):
        return None
    if not all(isinstance(probe.get_submodule(name), nn.Linear) for name in names):
        return None
    reader = inside[0].removesuffix(".weight")
    return Width(
        field, plain[inside[0]][1], reader.removeprefix(first), tuple(name for name in names if name != reader)
    )


def _check_readers(model: PreTrainedModel, found: Width) -> None:
    widths = [module.in_features if isinstance(module, nn.Linear) else 0 for module in found.readers(model)]
    if set(widths) != {found.width}:
        raise TypeError(f"every layer must have {found.width} neurons, as the first one has; got {widths}")


def _with_matrices(layer: nn.Module) -> list[nn.Module]:
    return [m for m in layer.modules() if any(weight.dim() > 1 for weight in m.parameters(recurse=False))]
