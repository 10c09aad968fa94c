"""What a policy of early exit costs and saves on a data set."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from transformers import PreTrainedModel

from ..depth.evidence import check_numbers_of_classes
from ..depth.layers import layers_of, layers_path
from ..depth.metrics import IGNORED_LABEL, ProfileError
from ..depth.profile import batches
from ..modeling.depth import replace_submodule
from ..support.eval_mode import evaluating
from ..support.records import render
from ..support.wrappers import unwrap
from .early_exit import check_fits, run_early_exit
from .policies import ExitPolicy, PolicyRecord


@dataclass(frozen=True)
class EarlyExitReport(PolicyRecord):
    """What a policy does on a data set.

    Args:
        policy (`ExitPolicy`): The policy.
        accuracy (`float`): Share of the labels, those of -100 apart, that are predicted at the exit depths.
        exit_counts (`tuple[int, ...]`): Entry `k` is the number of examples that left at depth `k`, for all `0..L`.
        full_depth_accuracy (`float`, *optional*): The same share at full depth, if it was measured.
        early_exit_ms (`float`, *optional*): Time of all batches with the policy, if it was measured.
        full_depth_ms (`float`, *optional*): Time of all batches at full depth, if it was measured.

    Raises:
        ProfileError: There is no example.
    """

    policy: ExitPolicy
    accuracy: float
    exit_counts: tuple[int, ...]
    full_depth_accuracy: float | None = None
    early_exit_ms: float | None = None
    full_depth_ms: float | None = None

    def __post_init__(self) -> None:
        if sum(self.exit_counts) == 0:
            raise ProfileError("the data must hold at least one example; got none")

    @property
    def num_examples(self) -> int:
        """Number of rows of the data that were read."""
        return sum(self.exit_counts)

    @property
    def mean_depth(self) -> float:
        """The mean number of layers that ran on an example."""
        return sum(depth * count for depth, count in enumerate(self.exit_counts)) / self.num_examples

    @property
    def time_ratio(self) -> float | None:
        """The time with the policy as a share of the time at full depth, if both were measured."""
        if self.early_exit_ms is None or self.full_depth_ms is None:
            return None
        return self.early_exit_ms / self.full_depth_ms

    def __str__(self) -> str:
        table = Table("depth", "examples that leave", "share")
        for depth, count in enumerate(self.exit_counts):
            table.add_row(str(depth), f"{count:,}", f"{count / self.num_examples:.1%}")
        return f"{self.policy}: accuracy {self.accuracy:.4f}, mean depth {self.mean_depth:.2f}\n{render(table)}"


def measure_early_exit(
    model: Any,
    data: Any,
    policy: ExitPolicy,
    *,
    batch_size: int = 32,
    collate_fn: Callable | None = None,
    device: str | torch.device | None = None,
    counted: Callable | None = None,
    compare: bool = False,
) -> EarlyExitReport:
    """Measure accuracy, exit depths and time of a policy on a data set.

    Args:
        model (`PreTrainedModel` or `PeftModel`): See [`predict_early_exit`]. It is left as it was found.
        data (`datasets.Dataset`, `torch.utils.data.DataLoader`, or iterable of rows or batches):
            What the model takes, labels included; other columns are dropped.
        policy (`ExitPolicy`): When an example leaves.
        batch_size (`int`, *optional*, defaults to 32): Rows in a batch, for a data set.
        collate_fn (`Callable`, *optional*): Makes a batch of rows; defaults to [`~transformers.default_data_collator`].
        device (`str` or `torch.device`, *optional*): Where to measure. Defaults to where the model is.
        counted (`Callable`, *optional*): See [`predict_early_exit`].
        compare (`bool`, *optional*, defaults to `False`): Whether each batch also runs at full depth, and both are
            timed. The first batch runs once before, untimed.

    Returns:
        `EarlyExitReport`: Saves as JSON; [`plot_exit_depths`] draws it.

    Raises:
        DepthError: The policy names a depth that the model does not have, or its layers are not a plain stack.
        ProfileError: The data are empty or hold no labels.
        TypeError: `model` is not one of transformers, has no head that gives probabilities of classes, or was adapted
            by prompts.
        ValueError: `counted` does not fit the inputs or the head.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, ConfidenceExit, measure_early_exit

    >>> model = AcnBertForSequenceClassification(AcnBertConfig(num_hidden_layers=4, hidden_size=48))
    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    >>> measure_early_exit(model, [batch], ConfidenceExit(0.0)).exit_counts
    (2, 0, 0, 0, 0)

    ```
    """
    inner = unwrap(model)
    check_fits(inner, policy)
    counts = torch.zeros(len(layers_of(inner)) + 1, dtype=torch.long)
    hits = full_hits = num_labels = 0
    times: list[float] = []
    full_times: list[float] = []
    with evaluating(inner, device):
        for batch in batches(inner, data, batch_size=batch_size, collate_fn=collate_fn):
            labels = labels_of(batch)
            if compare and not times:
                run_early_exit(inner, batch, policy, counted)
                run_full_depth(inner, batch)
            output, elapsed = _timed(run_early_exit, inner, batch, policy, counted)
            counts += torch.bincount(output.exit_depths.cpu(), minlength=len(counts))
            hits += int(count_hits(output.logits, labels).sum())
            num_labels += int((labels != IGNORED_LABEL).sum())
            times.append(elapsed)
            if compare:
                logits, elapsed = _timed(run_full_depth, inner, batch)
                full_hits += int(count_hits(logits, labels).sum())
                full_times.append(elapsed)
    if not counts.any():
        raise ProfileError("the data must hold at least one example; got none")
    check_labels_count(num_labels)
    compared = (full_hits / num_labels, sum(times), sum(full_times)) if compare else ()
    return EarlyExitReport(policy, hits / num_labels, tuple(counts.tolist()), *compared)


def run_full_depth(model: PreTrainedModel, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return the logits at full depth, by a view like those of early exit, but without an exit."""
    path = layers_path(model)
    view = replace_submodule(model, path, model.get_submodule(path))
    return view(**{name: value for name, value in inputs.items() if name != "labels"}).logits


def labels_of(batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the labels of a batch.

    Raises:
        ProfileError: There are none, or they are no numbers of classes.
    """
    labels = batch.get("labels")
    if labels is None:
        raise ProfileError(f"the data must hold labels; got only {', '.join(batch) or 'nothing'}")
    if labels.is_floating_point():
        raise ProfileError(f"labels must be the numbers of classes; got {labels.dtype}")
    return labels


def count_hits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the number of right predictions of each example; labels of -100 are never right.

    Raises:
        ProfileError: There is not one label for each prediction, or a label is not the number of a class.
    """
    if labels.shape != logits.shape[:-1]:
        raise ProfileError(f"labels of shape {tuple(labels.shape)} do not fit logits of shape {tuple(logits.shape)}")
    check_numbers_of_classes(labels, logits.shape[-1])
    right = logits.argmax(dim=-1) == labels.to(logits.device)
    return right.reshape(len(labels), labels[:1].numel()).sum(dim=1)


def check_labels_count(num_labels: int) -> None:
    """Raise `ProfileError` if no label counts."""
    if num_labels == 0:
        raise ProfileError(f"at least one label must count; all are {IGNORED_LABEL}")


def _timed(function: Callable[..., Any], model: PreTrainedModel, *args: Any) -> tuple[Any, float]:
    """Return what a function of a model returns and the milliseconds that it took."""
    start = _now(model.device)
    result = function(model, *args)
    return result, (_now(model.device) - start) * 1000


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
