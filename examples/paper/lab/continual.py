"""Tasks that are learned one after another: what is remembered, and a way to remember more."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


class SynapticIntelligence:
    """Holds back the weights that earlier tasks needed.

    While a task is learned, every weight adds up `-gradient * step`, its own part of the fall of the loss. When the
    task ends, this sum over `distance ** 2 + damping`, where the distance is what the weight has moved, is added to its
    importance, and later tasks pay `strength * importance * distance ** 2` for moving it.

    The pull of this penalty is added to the gradients when the optimizer steps, so that the loss whose gradients are
    taken stays that of the task.

    Args:
        named_parameters (iterable of `tuple[str, nn.Parameter]`): The weights that all tasks share, without the heads;
            those that are not trained are left out. They must be on their device already.
        strength (`float`, *optional*, defaults to 1.0): Of the penalty, `c` in the paper, at least 0.
        damping (`float`, *optional*, defaults to 0.001): Keeps the importance of a weight that hardly moves finite,
            `xi` in the paper, greater than 0.

    Raises:
        ValueError: No weight is trained, or a number is out of its range.

    Source: Continual Learning Through Synaptic Intelligence, arXiv 1703.04200, equations 3 to 5. Differs from the
    paper, as the code of its authors does: importance is never less than 0.

    Example:

    ```python
    >>> import torch
    >>> from lab.continual import SynapticIntelligence

    >>> trunk = torch.nn.Linear(1, 1, bias=False)
    >>> intelligence = SynapticIntelligence(trunk.named_parameters())
    >>> optimizer = torch.optim.SGD(trunk.parameters(), lr=0.1)
    >>> for inputs in torch.ones(2, 1), torch.zeros(2, 1):
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         (trunk(inputs) - 1).square().mean().backward()
    ...         with intelligence.step():
    ...             optimizer.step()
    ...     intelligence.end_task()
    >>> bool(intelligence.importance["weight"] > 0)
    True

    ```
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], *, strength: float = 1.0, damping: float = 0.001
    ):
        if not math.isfinite(strength) or strength < 0:
            raise ValueError(f"strength must be a number >= 0; got {strength}")
        if not math.isfinite(damping) or damping <= 0:
            raise ValueError(f"damping must be a number > 0; got {damping}")
        self.strength = strength
        self.damping = damping
        self._weights = {name: weight for name, weight in named_parameters if weight.requires_grad}
        if not self._weights:
            raise ValueError("named_parameters must hold weights that are trained; got none")
        self.importance = {name: torch.zeros_like(weight.detach()) for name, weight in self._weights.items()}
        self._path = {name: torch.zeros_like(weight.detach()) for name, weight in self._weights.items()}
        self._anchors = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def penalty(self) -> torch.Tensor:
        """Return what the weights would pay where they are now; nothing during the first task."""
        parts = [
            (self.importance[name] * (weight - self._anchors[name]).square()).sum()
            for name, weight in self._weights.items()
        ]
        return self.strength * torch.stack(parts).sum()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Watch a step of an optimizer, after the backward pass of a task's loss, and add the pull of the penalty."""
        taken = []
        for name, weight in self._weights.items():
            if weight.grad is not None:
                gradient, start = weight.grad.clone(), weight.detach().clone()
                weight.grad += 2 * self.strength * self.importance[name] * (start - self._anchors[name])
                taken.append((self._path[name], gradient, start, weight))
        yield
        for path, gradient, start, weight in taken:
            path -= gradient * (weight.detach() - start)

    def end_task(self) -> None:
        """Turn what the weights have done for the task into importance, and hold them where they are now."""
        for name, weight in self._weights.items():
            distance = weight.detach() - self._anchors[name]
            self.importance[name] += self._path[name] / (distance.square() + self.damping)
            self.importance[name].clamp_(min=0)
            self._path[name].zero_()
            self._anchors[name].copy_(weight.detach())


def average_accuracy(matrix: Sequence[Sequence[float]]) -> float:
    """Return the mean accuracy over all tasks, after the last was learned.

    Args:
        matrix (sequence of sequences of `float`): `matrix[i][j]` is the accuracy on task `j` after task `i` was
            learned; row `i` needs the tasks `0..i`, and what it says of later ones is not looked at.

    Raises:
        ValueError: There is no task, a row is too short, or an accuracy lies outside `[0, 1]`.

    Source: Riemannian Walk for Incremental Learning, arXiv 1801.10112, section 3.1 (average accuracy).
    """
    last = _learned(matrix)[-1]
    return math.fsum(last) / len(last)


def average_forgetting(matrix: Sequence[Sequence[float]]) -> float:
    """Return how much accuracy was lost, as the mean over all tasks but the last.

    Of a task this is the best accuracy it had before the last task was learned, minus that at the end; it is negative
    where later tasks have helped.

    Args:
        matrix (sequence of sequences of `float`): See [`average_accuracy`].

    Raises:
        ValueError: There are fewer than two tasks, a row is too short, or an accuracy lies outside `[0, 1]`.

    Source: Riemannian Walk for Incremental Learning, arXiv 1801.10112, section 3.2 (forgetting). Differs from the
    paper: the accuracy that a task has before it is learned does not count.
    """
    *earlier, last = _learned(matrix)
    if not earlier:
        raise ValueError("matrix must have the accuracies of at least 2 tasks, for one to be forgotten; got 1")
    lost = [max(row[task] for row in earlier[task:]) - last[task] for task in range(len(earlier))]
    return math.fsum(lost) / len(lost)


def _learned(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the accuracies on the tasks that were learned, a triangle."""
    if not len(matrix):
        raise ValueError("matrix must have a row for each task; got none")
    for learned, row in enumerate(matrix, start=1):
        if len(row) < learned:
            raise ValueError(f"row {learned - 1} of matrix must have an accuracy for {learned} tasks; got {len(row)}")
    triangle = [[float(value) for value in row[:learned]] for learned, row in enumerate(matrix, start=1)]
    for row in triangle:
        for value in row:
            if not 0 <= value <= 1:
                raise ValueError(f"an accuracy must lie in [0, 1]; got {value}")
    return triangle
