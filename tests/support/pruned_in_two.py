"""Pruning in each of two processes: one of the checks of `distributed_worker.py`."""

from pathlib import Path
from typing import Any

import torch.distributed as dist

from acn_hf import PruningCallback
from acn_hf.training.gradual_pruning import METHODS, SCORES
from tests.support.covering import covering
from tests.support.training import trainer, weights
from tests.training.test_shedding import Scripted

each_pruning = covering(method=METHODS, sheds=[False, True], accumulation=[1, 2])
"""Parametrise a test over what is pruned in two processes."""


def name_of(method: str, sheds: bool, accumulation: int) -> str:
    """Return the name of a run."""
    return f"{method}-{sheds}-{accumulation}"


def pruned_runs(folder: Path, options: dict[str, Any], whole: bool) -> dict[str, list[dict[str, Any]]]:
    """Train with pruning, in every way or in those of the array and the plain ones; return what each process has."""
    results = {}
    for param in each_pruning.args[1]:
        method, sheds, accumulation = param.values
        if param.marks and (sheds or accumulation > 1) and not whole:
            continue
        result = run(folder, options, method, sheds=sheds, accumulation=accumulation)
        both = [None, None]
        dist.all_gather_object(both, result)
        results[name_of(method, sheds, accumulation)] = both
    return results


def run(folder: Path, options: dict[str, Any], method: str, *, sheds: bool, accumulation: int) -> dict[str, Any]:
    """Train with pruning, and return what this process ended with."""
    more = {"eval_strategy": "no", "save_strategy": "no", "gradient_accumulation_steps": accumulation}
    done = trainer(folder, **{**options, **more})
    PruningCallback(0.75, method=method, start=0.0, end=0.8).attach(done)
    if sheds:
        Scripted(2, 2, 0, 0).attach(done)
    done.train()
    scores = done.optimizer.param_groups[0].get(SCORES, {})
    sparsities = [entry["sparsity"] for entry in done.state.log_history if "loss" in entry]
    return {"weights": weights(done.model), "scores": dict(scores), "sparsities": sparsities}
