"""One depth profile measured by all processes of a training run."""

from collections.abc import Callable
from itertools import islice, zip_longest
from typing import Any

from accelerate.utils import gather_object
from transformers import PreTrainedModel

from ..support.eval_mode import evaluating
from .evidence import Evidence, check_labels, num_rows
from .metrics import resolve_metric
from .outputs import depth_outputs
from .profile import DepthProfile, profile_of
from .rows_or_batches import batches


def measure_together(
    model: PreTrainedModel,
    data: Any,
    *,
    metric: Any,
    batch_size: int,
    collate_fn: Callable | None = None,
    process_index: int = 0,
    num_processes: int = 1,
) -> DepthProfile:
    """Measure one depth profile with several processes; each reads its share of the batches and returns the whole.

    It equals, to the bit, what one process measures with the same batch size.

    Args:
        model (`PreTrainedModel`): With a head, the same in every process.
        data, metric, batch_size, collate_fn: See [`measure_depth_profile`]; the same in every process.
        process_index (`int`, *optional*, defaults to 0): Which process this is.
        num_processes (`int`, *optional*, defaults to 1): How many there are; each must call this.

    Raises:
        Exception: What [`measure_depth_profile`] raises; an error of one process is raised in all of them.
    """
    evidence, num_examples, failure = Evidence(resolve_metric(metric)), 0, None
    try:
        with evaluating(model):
            every_batch = batches(model, data, batch_size=batch_size, collate_fn=collate_fn)
            for batch in islice(every_batch, process_index, None, num_processes):
                check_labels(model, batch)
                evidence.add(depth_outputs(model, batch), batch, model)
                num_examples += num_rows(batch)
    except Exception as error:  # raised below, when no process is left waiting for this one
        failure = error
    mine = [(evidence.batches(), num_examples, failure)]
    parts = gather_object(mine) if num_processes > 1 else mine
    for _, _, failure in parts:
        if failure is not None:
            raise failure
    whole = Evidence(resolve_metric(metric))
    turns = zip_longest(*(kept for kept, _, _ in parts))
    whole.extend(batch for turn in turns for batch in turn if batch is not None)
    return profile_of(model, whole, sum(number for _, number, _ in parts))
