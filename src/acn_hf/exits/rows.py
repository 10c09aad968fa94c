"""Some examples of a batch: of tensors, masks, and whatever a layer is given."""

from collections.abc import Container
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

Path = tuple[Any, ...]


def rows_of(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return some rows of a tensor, which may lie on another device than their numbers."""
    return tensor[rows.to(tensor.device)]


def of_examples(value: Any, rows: torch.Tensor, batch_size: int, shared: Container[Path] = (), path: Path = ()) -> Any:
    """Return what a layer gets for some examples of a batch; what has no row for each example stays as it is.

    Args:
        value: A tensor, of which the first dimension may be that of the examples, a mask of flex attention, anything
            else, or a tuple, list or dictionary of such.
        rows (`torch.LongTensor` of shape `(num_rows,)`): The examples.
        batch_size (`int`): How many examples there are in `value`.
        shared (container of paths, *optional*): Tensors that are as long as the batch by chance.
        path (`tuple`, *optional*): Where `value` stands in what the caller has: names and numbers.
    """
    if isinstance(value, torch.Tensor):
        return rows_of(value, rows) if value.ndim and len(value) == batch_size and path not in shared else value
    if isinstance(value, BlockMask):
        return _block_mask_of(value, rows, batch_size)
    if isinstance(value, dict):
        parts = {name: of_examples(part, rows, batch_size, shared, (*path, name)) for name, part in value.items()}
        return parts if type(value) is dict else type(value)(parts)
    if isinstance(value, (tuple, list)):
        listed = [of_examples(part, rows, batch_size, shared, (*path, place)) for place, part in enumerate(value)]
        return type(value)(*listed) if hasattr(value, "_fields") else type(value)(listed)
    return value


def shapes_in(value: Any, path: Path = ()) -> dict[Path, torch.Size]:
    """Return the shape of every tensor in a value, by where it stands."""
    if isinstance(value, torch.Tensor):
        return {path: value.shape}
    if isinstance(value, dict):
        parts: Any = value.items()
    elif isinstance(value, (tuple, list)):
        parts = enumerate(value)
    else:
        return {}
    return {place: shape for name, part in parts for place, shape in shapes_in(part, (*path, name)).items()}


def _block_mask_of(mask: BlockMask, rows: torch.Tensor, batch_size: int) -> BlockMask:
    # Flex attention counts the arguments, to tell a mask from a score.
    def mask_mod(example: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return mask.mask_mod(rows[example], head, query, key)

    names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    blocks = {name: of_examples(getattr(mask, name), rows, batch_size) for name in names}
    return BlockMask.from_kv_blocks(
        **blocks, BLOCK_SIZE=mask.BLOCK_SIZE, mask_mod=mask_mod, seq_lengths=mask.seq_lengths
    )
