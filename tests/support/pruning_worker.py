"""What two processes do in `test_gradual_pruning_distributed.py`; started by torchrun: `pruning_worker.py FOLDER`."""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from acn_hf import PruningCallback
from acn_hf.training.gradual_pruning import METHODS, SCORES
from tests.support.distributed_worker import RUN
from tests.support.training import trainer, weights
from tests.training.test_shedding import Scripted


def run(folder: Path, method: str, *, sheds: bool, accumulation: int = 1):
    """Train with pruning, and return what this process ended with."""
    done = trainer(
        folder,
        **{**RUN, "eval_strategy": "no", "save_strategy": "no", "gradient_accumulation_steps": accumulation},
    )
    PruningCallback(0.75, method=method, start=0.0, end=0.8).attach(done)
    if sheds:
        Scripted(2, 2, 0, 0).attach(done)
    done.train()
    scores = done.optimizer.param_groups[0].get(SCORES, {})
    sparsities = [entry["sparsity"] for entry in done.state.log_history if "loss" in entry]
    return {"weights": weights(done.model), "scores": dict(scores), "sparsities": sparsities}


def main() -> None:
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")  # those of torchrun and gloo are not ours
    for method in METHODS:
        for sheds in (False, True):
            for accumulation in (1, 2):
                result = run(folder / "run", method, sheds=sheds, accumulation=accumulation)
                name = f"{method}-{sheds}-{accumulation}-{dist.get_rank()}.pt"
                torch.save(result, folder / name)
                dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
