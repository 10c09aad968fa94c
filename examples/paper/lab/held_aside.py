"""Training examples that no network of the laboratory has seen: on them depths and thresholds are chosen."""

import datasets

from acn_hf.data import DataError

from .laboratory import Laboratory
from .tasks import load_task


def held_aside(laboratory: Laboratory, family: str, number: int) -> datasets.Dataset:
    """Return the training examples that follow those which the networks learn from, at most `number`.

    Raises:
        DataError: There are none.
    """
    whole = load_task(laboratory.task(family, num_train=None)).train
    seen = laboratory.size.num_train
    if seen is None or seen >= len(whole):
        raise DataError(f"num_train must leave some of the {len(whole)} training examples aside; got {seen}")
    return whole.select(range(seen, min(seen + number, len(whole))))
