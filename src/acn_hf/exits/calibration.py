"""Choose the boldest policy of early exit that loses no more accuracy than it may."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..depth.layers import layers_of
from ..depth.metrics import IGNORED_LABEL, ROUNDING, ProfileError
from ..depth.outputs import depth_outputs
from ..depth.rows_or_batches import batches
from ..modeling.depth import output_logits
from ..support.eval_mode import evaluating
from ..support.wrappers import unwrap
from .departures import least_scores
from .early_exit import check_fits, counted_tokens
from .exiting_stack import lowest_depth
from .policies import ExitPolicy, PolicyRecord
from .report import check_labels_count, count_hits, labels_of


@dataclass(frozen=True)
class ExitCalibration(PolicyRecord):
    """A policy that was chosen on data, and what it does there.

    Args:
        policy (`ExitPolicy`): The chosen one.
        tolerance (`float`): How much accuracy it was allowed to lose.
        full_depth_accuracy (`float`): Of the whole network.
        accuracy (`float`): With the policy.
        mean_depth (`float`): The mean number of layers that ran on an example.
        num_examples (`int`): Number of rows of the data that were read.
    """

    policy: ExitPolicy
    tolerance: float
    full_depth_accuracy: float
    accuracy: float
    mean_depth: float
    num_examples: int


def calibrate_exit(
    policy: ExitPolicy,
    model: Any,
    data: Any,
    tolerance: float = 0.005,
    *,
    batch_size: int = 32,
    collate_fn: Callable | None = None,
    device: str | torch.device | None = None,
    counted: Callable | None = None,
) -> ExitCalibration:
    """Choose the threshold, or the patience, with which examples leave earliest and accuracy stays within a tolerance.

    One pass over the data, which should be none that the model was trained on. Of every example only its score and its
    number of right predictions at each depth are kept, whatever the number of classes; among all thresholds that
    differ on the data the search is exact. If none of them is within the tolerance, the chosen policy has a `min_depth`
    of all the layers and no `depths`, and no example leaves early.

    Args:
        policy (`ExitPolicy`): What kind of policy, and its `min_depth` or `depths`; its threshold is not looked at.
        model (`PreTrainedModel` or `PeftModel`): See [`predict_early_exit`]. It is left as it was found.
        data (`datasets.Dataset`, `torch.utils.data.DataLoader`, or iterable of rows or batches):
            What the model takes, labels included; other columns are dropped.
        tolerance (`float`, *optional*, defaults to 0.005): In [0, 1]: how much lower than at full depth the accuracy
            may be. Of tokens, those whose label is not -100 make the accuracy.
        batch_size (`int`, *optional*, defaults to 32): Rows in a batch, for a data set.
        collate_fn (`Callable`, *optional*): Makes a batch of rows; defaults to [`~transformers.default_data_collator`].
        device (`str` or `torch.device`, *optional*): Where to measure. Defaults to where the model is.
        counted (`Callable`, *optional*): See [`predict_early_exit`]. Without labels, other tokens count by default than
            here; give the same function to both.

    Returns:
        `ExitCalibration`: The chosen policy, and its accuracy and mean depth on the data.

    Raises:
        DepthError: The policy names a depth that the model does not have, or its layers are not a plain stack.
        ProfileError: The data are empty or hold no labels, or the logits are no finite numbers, or `tolerance` does not
            lie in [0, 1].
        TypeError: `model` is not one of transformers, has no head that gives probabilities of classes, or was adapted
            by prompts, or `policy` has no bound that can be calibrated.
        ValueError: `counted` does not fit the inputs or the head.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, ConfidenceExit, calibrate_exit

    >>> model = AcnBertForSequenceClassification(AcnBertConfig(num_hidden_layers=4, hidden_size=48))
    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    >>> calibration = calibrate_exit(ConfidenceExit(0.9), model, [batch], tolerance=1.0)
    >>> calibration.mean_depth, calibration.num_examples
    (0.0, 2)

    ```
    """
    if isinstance(tolerance, bool) or not 0 <= tolerance <= 1:
        raise ProfileError(f"tolerance must lie in [0, 1]; got {tolerance!r}")
    inner = unwrap(model)
    check_fits(inner, policy)
    policy.with_bound(policy.bound)  # a policy that has none to choose is refused before the data are read
    evidence: list[_Evidence] = []
    with evaluating(inner, device):
        for batch in batches(inner, data, batch_size=batch_size, collate_fn=collate_fn):
            evidence.append(_evidence(inner, batch, policy, counted))
    return _choose(policy, _together(evidence), float(tolerance))


@dataclass(frozen=True)
class _Evidence:
    """What is kept of some examples.

    Args:
        depths (`tuple[int, ...]`): Those at which an example may leave, ascending, and full depth.
        scores (`np.ndarray` of shape `(num_examples, num_depths - 1)`): The least score of each example at each depth
            at which it may leave early.
        hits (`np.ndarray` of shape `(num_examples, num_depths)`): Right predictions of each at each depth.
        num_labels (`int`): Labels that count.
    """

    depths: tuple[int, ...]
    scores: np.ndarray
    hits: np.ndarray
    num_labels: int


def _evidence(model: PreTrainedModel, batch: dict[str, Any], policy: ExitPolicy, counted: Callable | None) -> _Evidence:
    """Return what is kept of one batch."""
    labels, tokens = labels_of(batch), counted_tokens(model, batch, counted)
    features = {name: value for name, value in batch.items() if name != "labels"}
    num_layers = len(layers_of(model))
    early = [depth for depth in range(lowest_depth(model, policy, features), num_layers) if policy.reads(depth)]
    scores: list[np.ndarray] = []
    hits: list[np.ndarray] = []
    memory = None
    for depth, output in depth_outputs(model, features, [*early, num_layers]):
        logits = output_logits(output)
        if not torch.isfinite(logits).all():
            raise ProfileError(f"the logits must be finite numbers; got nan or infinity at depth {depth}")
        hits.append(count_hits(logits, labels).cpu().numpy())
        if depth == num_layers:
            break
        if tokens is None:
            least, memory = policy.score(logits, depth, memory)
        else:
            of_tokens, memory = policy.score(logits[tokens], depth, memory)
            least = least_scores(of_tokens, tokens.nonzero()[:, 0], len(logits))
        scores.append(least.double().cpu().numpy())
    num_examples = len(hits[0])
    table = np.stack(scores, axis=1) if scores else np.empty((num_examples, 0))
    return _Evidence((*early, num_layers), table, np.stack(hits, axis=1), int((labels != IGNORED_LABEL).sum()))


def _together(parts: list[_Evidence]) -> _Evidence:
    if not parts:
        raise ProfileError("the data must hold at least one example; got none")
    whole = _Evidence(
        parts[0].depths,
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.hits for part in parts]),
        sum(part.num_labels for part in parts),
    )
    if len(whole.hits) == 0:
        raise ProfileError("the data must hold at least one example; got none")
    check_labels_count(whole.num_labels)
    return whole


def _choose(policy: ExitPolicy, evidence: _Evidence, tolerance: float) -> ExitCalibration:
    """Return the lowest bound within the tolerance, or the policy by which nobody leaves early."""
    num_examples, num_layers = len(evidence.hits), evidence.depths[-1]
    full = float(evidence.hits[:, -1].sum() / evidence.num_labels)
    chosen, accuracy, mean_depth = replace(policy, min_depth=num_layers, depths=None), full, float(num_layers)
    for bound, hits, layers_skipped in _bounds(evidence, policy.lowest_bound):
        if full - hits / evidence.num_labels <= tolerance + ROUNDING:
            chosen, accuracy = policy.with_bound(bound), float(hits / evidence.num_labels)
            mean_depth = float(num_layers - layers_skipped / num_examples)
    return ExitCalibration(chosen, tolerance, full, accuracy, mean_depth, num_examples)


def _bounds(evidence: _Evidence, lowest: float) -> Iterator[tuple[float, int, int]]:
    """Yield `(bound, hits, layers skipped)` for all bounds that differ on the examples, from the highest down.

    As the bound goes down, an example moves to an earlier depth whenever the bound passes the greatest score that the
    example has had up to there. These moves, sorted, are all that there is to sum up.
    """
    num_depths = evidence.scores.shape[1]  # without full depth
    if num_depths == 0:
        return
    best = np.maximum.accumulate(evidence.scores, axis=1)
    rises = np.ones(best.shape, dtype=bool)
    rises[:, 1:] = best[:, 1:] > best[:, :-1]
    at = np.where(rises, np.arange(num_depths), num_depths)
    later = np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1]
    left_before = np.concatenate([later[:, 1:], np.full((len(at), 1), num_depths)], axis=1)
    examples, depths = np.nonzero(rises & (best >= lowest))
    values, before = best[examples, depths], left_before[examples, depths]
    order = np.argsort(-values, kind="stable")
    values, hits = values[order], evidence.hits
    gained = np.cumsum((hits[examples, depths] - hits[examples, before])[order])
    at_depth = np.array(evidence.depths)
    skipped = np.cumsum((at_depth[before] - at_depth[depths])[order])
    observed = np.unique(evidence.scores)
    for last in np.nonzero(np.append(values[1:] != values[:-1], True))[0] if len(values) else ():
        if np.isfinite(values[last]):  # examples without a token that counts leave at any bound
            yield _between(observed, values[last]), int(hits[:, -1].sum() + gained[last]), int(skipped[last])


def _between(observed: np.ndarray, value: float) -> float:
    """Return a bound halfway between an observed score and the next lower one, so that rounding moves no example."""
    place = int(np.searchsorted(observed, value))
    if place == 0:
        return float(value)
    middle = float(np.float32((observed[place - 1] + value) / 2))
    return middle if observed[place - 1] < middle <= value else float(value)
