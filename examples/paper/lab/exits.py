"""Early exit by entropy, through the shared head of a network or through one head of its own for each depth.

Everything that decides when an example leaves is read from `Evidence`, which one pass over the data gives; what the
passes in which examples leave cost is measured on these passes themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from acn_hf import EntropyExit
from acn_hf.exits import ExitingConnection, ExitPolicy, long_connection_path, run_early_exit, run_full_depth
from acn_hf.modeling.depth import encoder_layers, head_output, replace_submodule

MIN_DEPTH = 1
"""Nobody leaves before the first layer, where the losses at all depths train nothing."""


class Branches(nn.Module):
    """Stands in for the classifier: one linear head for each depth, all of them on what the shared head reads.

    Args:
        weight (`torch.Tensor` of shape `(L + 1, num_classes, hidden_size)`): Of the heads.
        bias (`torch.Tensor` of shape `(L + 1, num_classes)`): Of the heads.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.depth: int | torch.Tensor = len(weight) - 1
        """That of all examples, or of each."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if isinstance(self.depth, int):
            return nn.functional.linear(features, self.weight[self.depth], self.bias[self.depth])
        weight, bias = self.weight[self.depth], self.bias[self.depth]
        return torch.baddbmm(bias.unsqueeze(2), weight, features.unsqueeze(2)).squeeze(2)


class BranchingConnection(ExitingConnection):
    """An exiting connection that asks the branch of each depth."""

    def __init__(self, model: PreTrainedModel, policy: ExitPolicy):
        super().__init__(model, policy, None, {})
        self.branches = model.classifier

    def run(self, layers: Any, embeddings: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        depth_states = super().run(layers, embeddings, *args, **kwargs)
        self.branches.depth = self.departures.exit_depths
        return depth_states

    def _logits(self, depth: int, states: torch.Tensor, tokens: None) -> torch.Tensor:
        self.branches.depth = depth  # the classifier stands at the depth that is judged
        return super()._logits(depth, states, tokens)


def with_branches(model: PreTrainedModel, data: Sequence[Mapping[str, torch.Tensor]]) -> PreTrainedModel:
    """Return a view of a network that has a classifier for each depth: logistic regressions on the frozen network.

    Args:
        model (`PreTrainedModel`): It is left as it is.
        data (sequence of `dict`): Batches to learn from.

    Raises:
        ValueError: A class does not occur in them.
    """
    reader = replace_submodule(model, "classifier", nn.Identity())
    labels = torch.cat([batch["labels"] for batch in data]).cpu().numpy()
    missing = sorted(set(range(model.config.num_labels)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"every class must occur among the examples that branches learn from; got none of {missing}")
    heads = [_fit(features, labels) for features in _at_every_depth(reader, data).numpy()]
    weight, bias = (torch.stack([torch.tensor(head[part]) for head in heads]) for part in (0, 1))
    branches = Branches(weight.to(model.dtype), bias.to(model.dtype)).to(model.device)
    return replace_submodule(model, "classifier", branches).eval()


def _fit(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of a multinomial logistic regression, with the scaling of the features inside."""
    scaler, regression = fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    fitted.fit(features, labels)
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # two classes, whose logits differ by this
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    return weight, bias - weight @ scaler.mean_


@torch.no_grad()
def _at_every_depth(model: PreTrainedModel, data: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """Return what the head says of every example, of shape `(L + 1, num_examples, ...)`."""
    parts = []
    for batch in data:
        inputs = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
        states = model.base_model(**inputs, output_hidden_states=True).hidden_states
        parts.append(torch.stack([_head(model, state, depth) for depth, state in enumerate(states)]).cpu())
    return torch.cat(parts, dim=1)


def _head(model: PreTrainedModel, state: torch.Tensor, depth: int) -> torch.Tensor:
    if isinstance(model.classifier, Branches):
        model.classifier.depth = depth
    return head_output(model, state, {}).logits


@dataclass(frozen=True)
class Evidence:
    """What a network says of some examples at every depth.

    Args:
        entropies (`np.ndarray` of shape `(num_examples, L + 1)`): As shares of the largest, those of `EntropyExit`.
        hits (`np.ndarray` of shape `(num_examples, L + 1)`): Whether the prediction is right.
    """

    entropies: np.ndarray
    hits: np.ndarray

    @property
    def accuracies(self) -> list[float]:
        """The accuracy at every depth, when nobody leaves early."""
        return self.hits.mean(axis=0).tolist()

    def exit_depths(self, threshold: float) -> np.ndarray:
        """Return the first depth of each example, from `MIN_DEPTH` on, whose entropy is at most the threshold."""
        sure = self.entropies <= threshold
        sure[:, :MIN_DEPTH], sure[:, -1] = False, True
        return sure.argmax(axis=1)

    def accuracy(self, depths: np.ndarray) -> float:
        """Return the accuracy when every example leaves at its own depth."""
        return float(self.hits[np.arange(len(depths)), depths].mean())

    def calibrate(self, thresholds: Sequence[float], tolerance: float) -> float | None:
        """Return the largest threshold whose accuracy is within the tolerance of full depth, `None` if none is."""
        least = self.accuracies[-1] - tolerance
        good = [value for value in thresholds if self.accuracy(self.exit_depths(value)) >= least]
        return max(good, default=None)


def gather(model: PreTrainedModel, data: Sequence[Mapping[str, torch.Tensor]]) -> Evidence:
    """Return the evidence on some batches, which hold labels."""
    logits = _at_every_depth(model, data)
    labels = torch.cat([batch["labels"] for batch in data]).cpu()
    entropies = torch.stack([-EntropyExit(0.0).score(one, 0, None)[0] for one in logits], dim=1)
    return Evidence(entropies.numpy(), (logits.argmax(dim=-1) == labels).T.numpy())


def policy_of(threshold: float | None, num_layers: int) -> EntropyExit:
    """Return the policy of a threshold; without one nobody leaves early, and the head is read once."""
    return EntropyExit(0.0, min_depth=num_layers) if threshold is None else EntropyExit(threshold, min_depth=MIN_DEPTH)


@torch.no_grad()
def leave_early(
    model: PreTrainedModel, batch: Mapping[str, torch.Tensor], policy: ExitPolicy
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and exit depths of a batch, whose examples leave it when they are done."""
    if not isinstance(model.classifier, Branches):
        output = run_early_exit(model, batch, policy)
        return output.logits, output.exit_depths
    connection = BranchingConnection(model, policy)
    view = replace_submodule(model, long_connection_path(model), connection)
    logits = view(**{name: value for name, value in batch.items() if name != "labels"}).logits
    return logits, connection.departures.exit_depths


@torch.no_grad()
def stay(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of a batch at full depth."""
    if isinstance(model.classifier, Branches):
        model.classifier.depth = len(encoder_layers(model))
    return run_full_depth(model, batch)


@dataclass(frozen=True)
class LeaveAt(ExitPolicy):
    """Leave at one depth; the head is read at those before it all the same."""

    depth: int

    @property
    def bound(self) -> float:
        return 1.0

    def score(self, logits: torch.Tensor, depth: int, memory: Any) -> tuple[torch.Tensor, None]:
        return torch.full((len(logits),), float(depth >= self.depth), device=logits.device), None


def flops_of(run: Callable[[], Any]) -> int:
    """Return the floating-point operations that torch counts, those of attention among them."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def flops_at_exits(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> list[float]:
    """Return the operations of one example that leaves at each depth, `0..L`, every reading of the head included."""
    num_layers, size = len(encoder_layers(model)), len(next(iter(batch.values())))
    policies = [LeaveAt(depth, min_depth=min(depth, MIN_DEPTH)) for depth in range(num_layers + 1)]
    return [flops_of(lambda policy=policy: leave_early(model, batch, policy)) / size for policy in policies]
