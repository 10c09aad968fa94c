"""A SentenceTransformer in training whose passes give the embeddings of every depth."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from .reading import EMBEDDING, DepthReader

ASKS_FOR_EVERY_DEPTH = "asks_for_every_depth"
"""A batch of features with this key is answered by the embeddings of every depth."""
EVERY_DEPTH = "every_depth"


@dataclass
class Turns:
    """The passes of one step of a loss, which asks for the same embeddings at one depth after another.

    Args:
        place (`int`, *optional*, defaults to 0): Which of the depths it is the turn of.
    """

    place: int = 0
    _number: int = 0
    _kept: list[tuple[dict[str, Any], torch.Tensor]] = field(default_factory=list)

    def begin(self, place: int) -> None:
        """Answer the passes that follow at another depth."""
        self.place, self._number = place, 0

    def known(self, features: dict[str, Any]) -> torch.Tensor | None:
        """Return the embeddings of the pass that was the same in the turn before, if there was one."""
        if self._number < len(self._kept):
            seen, every = self._kept[self._number]
            if _same(seen, features):
                return every
        return None

    def keep(self, features: dict[str, Any], every: torch.Tensor) -> None:
        """Take the embeddings of this pass."""
        self._kept[self._number :] = [(dict(features), every)]

    def next_pass(self) -> None:
        """End this pass."""
        self._number += 1


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    tensors = {name: value for name, value in other.items() if isinstance(value, torch.Tensor) and name in one}
    return bool(tensors) and all(
        one[name] is value or (one[name].shape == value.shape and torch.equal(one[name], value))
        for name, value in tensors.items()
    )


class Student:
    """What a SentenceTransformer does otherwise while it is taught; its class is a subclass of this one too.

    The depths are read inside of its own pass, so that they run under the same autocast and the same hooks.
    """

    reader: DepthReader
    turns: Turns | None = None

    def forward(self, input: dict[str, Any], **options: Any) -> dict[str, Any]:
        features = {name: value for name, value in input.items() if name != ASKS_FOR_EVERY_DEPTH}
        if self.turns is None and len(features) == len(input):
            return super().forward(features, **options)  # type: ignore[misc]
        if self.turns is None:
            return {EVERY_DEPTH: self._read(features, options)}
        every = self.turns.known(features)
        if every is None:
            every = self._read(features, options)
            self.turns.keep(features, every)
        self.turns.next_pass()
        return {**features, EMBEDDING: every[self.turns.place]}

    def _read(self, features: dict[str, Any], options: dict[str, Any]) -> torch.Tensor:
        return torch.stack([embeddings for _, embeddings in self.reader(features, **options)])


@contextmanager
def studying(model: Any, depths: tuple[int, ...]) -> Iterator[DepthReader]:
    """Let a model be a student for as long as the block lasts.

    Args:
        model (`SentenceTransformer`): A copy that nobody else holds.
        depths (`tuple[int, ...]`): Those that are read in its passes.
    """
    kind = type(model)
    reader = DepthReader(model, depths)
    model.__class__ = type(kind.__name__, (Student, kind), {"__module__": kind.__module__, "reader": reader})
    try:
        yield reader
    finally:
        model.__class__ = kind
        model.__dict__.pop("turns", None)
