"""A short model that begins with layers from all over a long one."""

from typing import Any

from ..modeling.depth import DepthError
from ..support.sentence_models import inner_model
from .every_depth import truncate
from .layers import layers_of


def spread_layers(model: Any, depth: int) -> Any:
    """Return a copy of a model that has so many of its layers, at equal distances, the last among them.

    It computes nothing that `model` does: it is what a training begins with. It keeps what the last layers do for the
    head, where the first layers that [`truncate`] keeps were made for the layers behind them.

    Args:
        model (`PreTrainedModel`, `PeftModel` or `SentenceTransformer`): See [`truncate`]. It is left as it is.
        depth (`int`): In `[0, L]`.

    Raises:
        DepthError: `depth` is not a whole number in `[0, L]`, the layers of the model are not a plain stack, or one of
            them has weights of other shapes.
        TypeError: See [`truncate`].

    Source: Sanh et al. 2019, arXiv 1910.01108, section 3 (every other layer).
    """
    short = truncate(model, depth)
    every, kept = layers_of(inner_model(model)), layers_of(inner_model(short))
    for place, layer in enumerate(kept):
        taken = every[round((place + 1) * len(every) / depth) - 1].state_dict()
        shapes, others = ({name: tensor.shape for name, tensor in one.items()} for one in (layer.state_dict(), taken))
        if shapes != others:
            name = min(name for name in {**shapes, **others} if shapes.get(name) != others.get(name))
            raise DepthError(f"layers are spread where all have the same weights; {name} of theirs differ in shape")
        layer.load_state_dict(taken)
    return short
