"""Take massive activations out of a copy before it is taught, where they keep its lower depths from saying anything.

In some transformers one unit of the states of one token, mostly the first, is as large as all others together. The
norms divide by it, so the rest of that token's state hardly depends on the text, and the gradient of a head that reads
it is divided too: at lower depths such a head answers one class, however long it is taught. The unit comes from a few
huge weights. They are clipped, and the norms let less of the unit through; what that costs at full depth is taught too.

Source: massive activations, arXiv 2402.17762; outlier units of norms, arXiv 2105.06990. What is done about them here is
our own, and `docs/experiments.md` has the measurements.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import datasets
import torch
from torch import nn
from torch.utils.data import Subset
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import has_length

from ..depth.layers import layers_of
from ..depth.outputs import depth_outputs
from ..depth.rows_or_batches import batches
from ..modeling.depth import output_logits
from ..modeling.injected import adapter_configs
from ..support.eval_mode import RandomState, evaluating
from ..support.records import Record
from ..support.wrappers import unwrap
from .distillation import LABELS
from .supervision import Weights, depth_weights

LARGEST_SHARE = 0.5
"""Of the square of a state: a unit that has more of it is massive."""
STANDARD_DEVIATIONS = 6.0
"""Weights are clipped beyond so many of their matrix."""
LET_THROUGH = 0.3
"""What the norms let through of a massive unit."""
SILENT = 0.01
"""A depth is silent whose logits differ between examples by less than this part of what those of full depth do."""
NUM_EXAMPLES, BATCH_SIZE = 64, 16
"""By so many examples it is seen."""
ALIKE = 0.8
"""How well the logits of full depth must correlate with what they were, for the change to be kept."""


@dataclass(frozen=True)
class Calmed(Record):
    """What was done to a model.

    Args:
        units (`tuple[int, ...]`): The massive ones.
        silent (`tuple[int, ...]`): The depths that were silent.
        num_clipped (`int`): How many weights were clipped.
    """

    units: tuple[int, ...]
    silent: tuple[int, ...]
    num_clipped: int

    def __str__(self) -> str:
        units, silent = ", ".join(map(str, self.units)), ", ".join(map(str, self.silent))
        return (
            f"massive activations (unit {units}) kept depth {silent} from telling examples apart; they were taken out "
            f"of the copy before it learned from the teacher ({self.num_clipped:,} weights clipped)"
        )


def calm(
    model: PreTrainedModel, examples: Iterable[dict[str, Any]], teacher: PreTrainedModel, depths: Iterable[int]
) -> Calmed | None:
    """Change a model that has silent depths because of massive activations; leave any other as it is.

    Args:
        model (`PreTrainedModel`): With a head; it is changed itself.
        examples (iterable of `dict`): Batches of a few examples, on its device.
        teacher (`PreTrainedModel`): What the logits of each depth are to become; on the same device.
        depths (iterable of `int`): Which depths are taught.

    Returns:
        `Calmed`: What was done; `None` if nothing was: no depth is silent, no unit is massive, it did not help, or the
        teacher says more than one vector about an example.
    """
    examples, taught = list(examples), set(depths)
    answers: list[torch.Tensor] = []
    for batch in examples:
        with evaluating(teacher):
            answers.append(output_logits(teacher(**_unlabelled(batch))).float())
        if answers[-1].ndim != 2:  # it reads all tokens, which always differ
            return None
    if not answers:
        return None
    wanted = _centred(answers).std().item()
    before = _logits(model, examples, taught)
    silent = [depth for depth, logits in before.items() if depth and logits.std() < SILENT * wanted]
    units = massive_units(model, examples) if silent else []
    if not units:
        return None
    kept = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        num_clipped = sum(map(_clip, _matrices(model)))
        for parameter in _norms(model):
            parameter[units] *= LET_THROUGH
    after = _logits(model, examples, taught)
    still = [depth for depth in silent if after[depth].std() < SILENT * wanted]
    last = len(layers_of(model))
    if len(still) < len(silent) and (last in silent or _correlation(before[last], after[last]) >= ALIKE):
        return Calmed(tuple(units), tuple(silent), num_clipped)
    model.load_state_dict(kept)
    return None


def calm_student(trainer: Trainer, teacher: PreTrainedModel, weights: Weights) -> Calmed | None:
    """Do the same to what a Trainer is going to train, by a few of the rows that it trains on.

    In every process the rows are the same, and so is what is done. Weights below adapters are left as they are: these
    must fit the model that they were made for.

    Args:
        trainer (`Trainer`): Has not begun to train.
        teacher (`PreTrainedModel`): Of the model that it trains.
        weights: Which depths are taught; see [`intermediate_supervision`].
    """
    if adapter_configs(unwrap(trainer.model)):
        return None
    rows: Any = trainer.train_dataset
    if has_length(rows):
        places = sorted({round(place) for place in torch.linspace(0, len(rows) - 1, NUM_EXAMPLES).tolist()})
        rows = rows.select(places) if isinstance(rows, datasets.Dataset) else Subset(rows, places)
    model, device = unwrap(trainer.model), trainer.args.device
    last = len(layers_of(model))
    taught = {depth for depth, weight in enumerate(depth_weights(weights, last)) if weight} | {last}
    state = RandomState.now()  # the training that follows draws what it would have drawn
    with evaluating(teacher, device):
        model.to(device)
        some = batches(model, rows, batch_size=BATCH_SIZE, collate_fn=trainer.data_collator)
        calmed = calm(model, islice(some, NUM_EXAMPLES // BATCH_SIZE), teacher, taught)
    state.restore()
    return calmed


def massive_units(model: PreTrainedModel, examples: Iterable[dict[str, Any]]) -> list[int]:
    """Return the units which in more than half of the examples are most of the state of some token, after some layer.

    Args:
        model (`PreTrainedModel`): With one stack of layers.
        examples (iterable of `dict`): Batches.
    """
    found: list[torch.Tensor] = []
    number = 0
    for batch in examples:
        states: list[torch.Tensor] = []
        with ExitStack() as hooks, evaluating(model):
            for layer in layers_of(model):
                handle = layer.register_forward_hook(partial(_keep_state, states))
                hooks.callback(handle.remove)
            model(**_unlabelled(batch))
        number += len(states[0])
        mask = batch.get("attention_mask")
        for place, state in enumerate(states):
            share = state.float().square()
            share = share / share.sum(-1, keepdim=True).clamp(min=1e-12)
            if isinstance(mask, torch.Tensor) and mask.shape == share.shape[:-1]:
                share = share * (mask != 0).unsqueeze(-1)
            counts = (share.flatten(1, -2).amax(1) > LARGEST_SHARE).sum(0)
            if len(found) <= place:
                found.append(counts)
            else:
                found[place] = found[place] + counts
    massive = torch.stack(found).amax(0) > number / 2
    return torch.nonzero(massive).flatten().tolist()


def _keep_state(states: list[torch.Tensor], layer: nn.Module, args: tuple, output: Any) -> None:
    states.append(output if isinstance(output, torch.Tensor) else output[0])


def _logits(model: PreTrainedModel, examples: list[dict[str, Any]], depths: set[int]) -> dict[int, torch.Tensor]:
    """Return the logits of some depths, those of all examples in a line, without their mean."""
    parts: dict[int, list[torch.Tensor]] = {}
    with evaluating(model):
        for batch in examples:
            for depth, output in depth_outputs(model, batch, sorted(depths)):
                parts.setdefault(depth, []).append(output_logits(output).float().flatten(0, -2))
    return {depth: _centred(part) for depth, part in parts.items()}


def _centred(logits: list[torch.Tensor]) -> torch.Tensor:
    whole = torch.cat(logits)
    return (whole - whole.mean(0)).flatten()


def _unlabelled(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in LABELS}


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return nn.functional.cosine_similarity(one, other, dim=0).item()


def _matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    """Return the weights of the matrices in the layers."""
    modules = (module for layer in layers_of(model) for module in layer.modules())
    return [module.weight for module in modules if isinstance(module, nn.Linear)]


def _clip(weight: torch.Tensor) -> int:
    """Clip a matrix, and return how many of its weights it was."""
    bound = STANDARD_DEVIATIONS * weight.std()
    number = int((weight.abs() > bound).sum())
    weight.clamp_(-bound, bound)
    return number


def _norms(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return gains and biases of the norms below the head: what multiplies a state unit by unit."""
    width = next(weight.shape[1] for weight in _matrices(model))
    norms = [module for module in model.base_model.modules() if _is_norm(module, width)]
    return [parameter for module in norms for parameter in module.parameters(recurse=False)]


def _is_norm(module: nn.Module, width: int) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.shape == (width,)
