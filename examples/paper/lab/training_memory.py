"""The memory that a step of training takes at its peak: weights, gradients, moments of the optimiser, activations.

On a GPU it is what torch has allocated. On a CPU a fresh process trains each network in a fork of its own: the peak of
the fork's resident memory above that before the network was built. It trains a network of one layer first, so that code
and libraries that are read at the first step do not count.

    cd examples/paper && python -m lab.training_memory '{"networks": [...], "fields": {...}, "batch_size": 64}'
"""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from acn_hf.depth import example_inputs

from .networks import Network


def peak_training_bytes(networks: Sequence[Network], fields: dict[str, Any], batch_size: int) -> list[int]:
    """Return the peak memory of a step of training each network.

    Args:
        networks (sequence of `Network`): Which; their weights do not matter.
        fields (`dict`): The fields of their configs that follow from the data.
        batch_size (`int`): Examples in the step, at least 1.

    Raises:
        RuntimeError: The process that trains fails.
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1; got {batch_size}")
    if torch.cuda.is_available():
        return [_peak_on_gpu(network, fields, batch_size) for network in networks]
    told = {"networks": [asdict(network) for network in networks], "fields": fields, "batch_size": batch_size}
    done = subprocess.run(
        [sys.executable, "-m", "lab.training_memory", json.dumps(told)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads do not survive a fork
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the process that measures memory failed: {done.stderr.strip()}")
    peaks: list[int] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def training_step(model: PreTrainedModel, optimizer: torch.optim.Optimizer, batch_size: int) -> None:
    """Make one step on an example input, repeated."""
    inputs = example_inputs(model, batch_size)
    labels = torch.zeros(batch_size, dtype=torch.long, device=model.device)
    model.train()
    model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _train(network: Network, fields: dict[str, Any], batch_size: int, device: str = "cpu") -> None:
    """Make two steps: in the second the moments of the optimiser stand beside the activations."""
    model = network.build(fields, seed=0).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        training_step(model, optimizer, batch_size)


def _peak_on_gpu(network: Network, fields: dict[str, Any], batch_size: int) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _train(network, fields, batch_size, "cuda")
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_of_this_process(network: Network, fields: dict[str, Any], batch_size: int) -> int:
    _train(replace(network, num_hidden_layers=1), fields, batch_size=1)
    before = _resident_so_far()
    _train(network, fields, batch_size)
    return _resident_so_far() - before


def _resident_so_far() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(described: str) -> None:
    told = json.loads(described)
    networks, fields, batch_size = [Network(**one) for one in told["networks"]], told["fields"], told["batch_size"]
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(_peak_of_this_process, [(one, fields, batch_size) for one in networks], chunksize=1)
    print(json.dumps(peaks))


if __name__ == "__main__":
    main(sys.argv[1])
