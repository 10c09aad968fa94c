"""Whether the weights of a model hold numbers, which offloaded ones and those of the meta device do not, and which."""

import hashlib
from typing import Any

import torch
from torch import nn


def is_offloaded(model: nn.Module) -> bool:
    """Return whether accelerate keeps weights of a model elsewhere and brings them for each pass."""
    has_hooks = any(hasattr(module, "_hf_hook") for module in model.modules())
    return has_hooks and any(weight.is_meta for weight in model.parameters())


def absent_weights(model: nn.Module) -> str:
    """Return how many weights of a model hold no numbers, and where they are; nothing if all of them do."""
    absent = [name for name, weight in model.named_parameters() if weight.is_meta]
    if not absent:
        return ""
    place = "offloaded to the CPU or to disk" if is_offloaded(model) else "on the meta device"
    return f"{len(absent)} of this {type(model).__name__} are {place}, among them {absent[0]}"


def trained_in_half(model: nn.Module) -> str:
    """Return how many weights are to be trained in 16 bits, and what that means; nothing if none is."""
    sizes: dict[torch.dtype, int] = {}
    for weight in model.parameters():
        if weight.requires_grad and weight.is_floating_point():
            sizes[weight.dtype] = sizes.get(weight.dtype, 0) + weight.numel()
    half = {dtype: size for dtype, size in sizes.items() if dtype.itemsize < torch.float32.itemsize}
    if not half:
        return ""
    name = str(max(half, key=lambda dtype: half[dtype])).removeprefix("torch.")
    share = sum(half.values()) / sum(sizes.values())
    return (
        f"{share:.0%} of the weights are {name}, and are trained in it: steps that are small beside a weight are lost; "
        "load them as float32, and compute in bf16 if it is to be fast"
    )


def execution_device(model: Any) -> torch.device:
    """Return the device that a model computes on, which is not where its weights are if they are offloaded."""
    if not is_offloaded(model):
        return model.device
    hooks = [getattr(module, "_hf_hook", None) for module in model.modules()]
    devices = [device for hook in hooks if (device := getattr(hook, "execution_device", None)) is not None]
    return torch.device(devices[0]) if devices else model.device


def weights_digest(model: nn.Module) -> str:
    """Return what tells the weights of a model from all others."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor_bytes(value))
    return digest.hexdigest()


def tensor_bytes(value: torch.Tensor) -> Any:
    """Return the numbers of a tensor as they lie in memory."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
