"""Pruning in two processes: both hold the same zeros, and they are those of one process with twice the batch."""

import pytest
import torch

from acn_hf import PruningCallback
from acn_hf.training.gradual_pruning import METHODS
from tests.support.distributed_worker import RUN
from tests.support.pruned_in_two import each_pruning, name_of
from tests.support.training import same_weights, trainer, weights

pytestmark = pytest.mark.slow  # as those of test_distributed.py


@each_pruning
def test_both_processes_hold_the_same(two, method, sheds, accumulation):
    one, other = two("pruned")[name_of(method, sheds, accumulation)]
    assert same_weights(one["weights"], other["weights"])
    assert same_weights(one["scores"], other["scores"])
    assert one["sparsities"] == other["sparsities"]
    assert one["sparsities"][-1] == pytest.approx(0.75, abs=0.05 if sheds else 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_zeros_of_one_process_with_the_doubled_batch(two, method, tmp_path):
    together, _ = two("pruned")[name_of(method, sheds=False, accumulation=1)]
    alone = trainer(tmp_path, **{**RUN, "per_device_train_batch_size": 16, "eval_strategy": "no"})
    PruningCallback(0.75, method=method, start=0.0, end=0.8).attach(alone)
    alone.train()
    zeros = [
        torch.cat([(tensor == 0).flatten() for name, tensor in found.items() if "layers" in name and tensor.ndim == 2])
        for found in (together["weights"], weights(alone.model))
    ]
    assert zeros[0].sum() == zeros[1].sum() > 0
    # Sums over 8 + 8 instead of 16 examples differ by rounding, which may turn over the order of two close scores.
    assert (zeros[0] != zeros[1]).float().mean() < 0.005
