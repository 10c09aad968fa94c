"""Several processes that do one job together, as torchrun and accelerate start them."""

import os
from typing import Any

import torch.distributed as dist


def is_first_process() -> bool:
    """Return whether this process is the one that writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def join_processes(cpu: bool | None = None) -> None:
    """Let the processes of a job know each other, if there are several.

    Args:
        cpu (`bool`, *optional*): Whether they compute on CPUs; by default if there is nothing else.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        from accelerate import PartialState

        PartialState(**({} if cpu is None else {"cpu": cpu}))


def wait_for_all() -> None:
    """Return when every process is here."""
    if dist.is_initialized():
        dist.barrier()


def same_everywhere(decision: Any) -> Any:
    """Return what the first process decided, in all of them."""
    if not dist.is_initialized():
        return decision
    decisions = [decision]
    dist.broadcast_object_list(decisions, src=0)
    return decisions[0]
