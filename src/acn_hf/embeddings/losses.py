"""What a taught SentenceTransformer is trained by: its teacher's embeddings, or any loss, at every depth."""

from typing import Any

import torch
from torch import nn

from ..support.wrappers import unwrap_parallel
from .student import ASKS_FOR_EVERY_DEPTH, EVERY_DEPTH, Turns


class TeachingLoss(nn.Module):
    """The distance to a teacher's embeddings and to their similarities, at every depth.

    Both are relative, so that neither depends on how long embeddings are: the first to the mean squared length of the
    teacher's embeddings, the second to the variance of their similarities.

    Args:
        model (`SentenceTransformer`): A student.
        wanted (`torch.Tensor` of shape `(num_texts, dimension)`): The teacher's embeddings; labels are their rows.
        variance (`float`): Of the similarities of the teacher's embeddings.
        weights (`tuple[float, ...]`): Of the depths that the student reads.
        dimensions (`tuple[int, ...]`): To which embeddings are cut, for each of which similarities are taught. `()` is
            none but the one they have.
        similarities (`float`): Weight of the similarities; that of the embeddings is 1.
    """

    def __init__(
        self,
        model: Any,
        wanted: torch.Tensor,
        variance: float,
        weights: tuple[float, ...],
        dimensions: tuple[int, ...],
        similarities: float,
    ):
        super().__init__()
        self.model = model
        self.wanted, self.variance, self.weights = wanted, variance, weights
        self.dimensions = tuple({wanted.shape[1]: None, **dict.fromkeys(dimensions)})
        self.similarities = similarities
        self.similarity = model.similarity
        self.scale = float(wanted.square().sum(dim=1).mean())

    def forward(self, sentence_features: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch of one column of texts, whose labels are their rows."""
        (features,) = sentence_features
        every = self.model({**features, ASKS_FOR_EVERY_DEPTH: True})[EVERY_DEPTH]
        wanted = self.wanted[labels.to(self.wanted.device)].to(every.device, torch.float32)
        losses = [self._loss(one, wanted) for one in every.float()]
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses, strict=True)]).sum()

    def _loss(self, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        loss = (found - wanted).square().sum(dim=1).mean() / self.scale
        others = ~torch.eye(len(found), dtype=torch.bool, device=found.device)
        if not self.similarities or not others.any():
            return loss
        right = self.similarity(wanted, wanted)[others]
        cut = [found[:, :dimension] for dimension in self.dimensions]
        errors = [(self.similarity(one, one)[others] - right).square().mean() for one in cut]
        return loss + self.similarities * torch.stack(errors).mean() / self.variance

    def get_config_dict(self) -> dict[str, Any]:
        """Return what a model card says about the loss."""
        return {"weights": self.weights, "dimensions": self.dimensions, "similarities": self.similarities}


class EveryDepthLoss(nn.Module):
    """Any loss of sentence-transformers, at every depth; the layers run once for all of them.

    Args:
        model (`SentenceTransformer`): A student.
        loss (`nn.Module`): A loss of that model.
        weights (`tuple[float, ...]`): Of the depths that the student reads.

    Raises:
        ValueError: The loss embeds texts again in its backward pass.
    """

    def __init__(self, model: Any, loss: nn.Module, weights: tuple[float, ...]):
        super().__init__()
        again = [part for part in loss.modules() if getattr(part, "uses_gradient_cache", False)]
        if again:
            raise ValueError(
                "loss must embed its texts once to be one for every depth; "
                f"{type(again[0]).__name__} does it again in its backward pass"
            )
        self.model, self.loss, self.weights = model, loss, weights

    def forward(self, sentence_features: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the loss at every depth."""
        student, features, turns = unwrap_parallel(self.model), list(sentence_features), Turns()
        losses = []
        student.turns = turns
        try:
            for place, weight in enumerate(self.weights):
                turns.begin(place)
                loss = self.loss([dict(one) for one in features], labels)
                loss = torch.stack(list(loss.values())).sum() if isinstance(loss, dict) else loss
                losses.append(weight * loss)
        finally:
            student.turns = None
        return torch.stack(losses).sum()

    def get_config_dict(self) -> dict[str, Any]:
        """Return what a model card says about the loss."""
        return {"loss": type(self.loss).__name__, "weights": self.weights}
