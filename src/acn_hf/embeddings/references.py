"""What embeddings keep of what others say about the same texts: their similarities, and who is near to whom."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..depth.errors import ProfileError
from ..depth.metrics import METRICS, Metric

SAMPLE = 1000
"""Of so many texts the pairs are looked at, or the nearest neighbours."""
ROWS = 256
"""Of so many texts at once the similarities to all others lie in memory."""

SPEARMAN = "spearman"
NEIGHBOURS = "neighbours"


def _kept(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
    return scores


def _mean(scores: np.ndarray, references: np.ndarray) -> float:
    return float(scores.mean())


OVERLAP = Metric(name=NEIGHBOURS, greater_is_better=True, score=_mean, needs="scores", per_example=_kept)
"""Of a text: the share of its nearest neighbours that it keeps."""


@dataclass
class Similarities:
    """Compares embeddings of some texts with others of the same texts.

    Args:
        embeddings (`torch.Tensor` of shape `(num_texts, dimension)`): Those to be kept.
        similarity (`Callable`): From two tensors of embeddings to the matrix of their similarities.
        sample (`int`): How many texts are looked at, drawn once.
    """

    embeddings: torch.Tensor
    similarity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    sample: int
    looked_at: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        number = len(self.embeddings)
        drawn = np.random.default_rng(0).choice(number, min(self.sample, number), replace=False)
        self.looked_at = torch.from_numpy(np.sort(drawn)).to(self.embeddings.device)

    def of_pairs(self, embeddings: torch.Tensor | None = None, similarity: Any = None) -> np.ndarray:
        """Return the similarities of all pairs of the texts that are looked at."""
        looked_at = (self.embeddings if embeddings is None else embeddings)[self.looked_at]
        matrix = (similarity or self.similarity)(looked_at, looked_at)
        above = torch.triu_indices(len(matrix), len(matrix), offset=1, device=matrix.device)
        return matrix[above[0], above[1]].float().cpu().numpy()

    def check_pairs(self) -> np.ndarray:
        """Return the similarities of pairs that are to be kept.

        Raises:
            ProfileError: They are all the same.
        """
        wanted = self.of_pairs()
        if np.allclose(wanted, wanted[0]):
            raise ProfileError(
                f"the similarities of full depth must differ, for depths to keep them; all of {len(wanted):,} are "
                f"{wanted[0]:.4g}"
            )
        return wanted

    def nearest(self, number: int, embeddings: torch.Tensor | None = None, similarity: Any = None) -> torch.Tensor:
        """Return the nearest of all texts to each of those that are looked at, of shape `(num_looked_at, number)`."""
        everything = self.embeddings if embeddings is None else embeddings
        found = []
        for rows in self.looked_at.split(ROWS):
            matrix = (similarity or self.similarity)(everything[rows], everything)
            matrix[torch.arange(len(rows), device=matrix.device), rows] = -torch.inf  # a text is no neighbour of itself
            found.append(matrix.topk(number, dim=1).indices)
        return torch.cat(found)


def spearman(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the rank correlation of two arrays of similarities; 0 where a depth tells no texts apart."""
    return float(METRICS[SPEARMAN].score(found, wanted))


def overlap(wanted: torch.Tensor, found: torch.Tensor) -> np.ndarray:
    """Return for each text the share of its nearest neighbours that are among those found."""
    hits = (wanted.unsqueeze(2) == found.to(wanted.device).unsqueeze(1)).any(dim=2)
    return hits.double().mean(dim=1).cpu().numpy()
