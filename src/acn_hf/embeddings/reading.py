"""The embeddings of every depth, from one pass of the layers."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from ..depth.layers import is_acn, layers_of, prefix_view as first_layers
from ..depth.outputs import depth_outputs
from ..depth.reading import standing_for
from ..depth.self_check import check_by_example, check_lowest
from ..modeling.depth import check_depth, replace_submodule
from ..modeling.upstream import maybe_install_capturing_hooks
from ..support.sentence_models import ENCODER, is_of_kind, transformer_inside
from ..support.wrappers import unwrap

EMBEDDING = "sentence_embedding"
"""What sentence-transformers calls the embedding of a text among the features of a batch."""


def check_can_be_imported() -> None:
    """Raise `ImportError` if sentence-transformers is not installed."""
    try:
        import sentence_transformers  # noqa: F401 (is only looked for)
    except ImportError as error:
        raise ImportError("embeddings need sentence-transformers: pip install 'acn-hf[embeddings]'") from error


class DepthReader:
    """Reads a SentenceTransformer at every depth; what stands above the transformer runs once a depth.

    Args:
        model (`SentenceTransformer`): Is left as it is.
        depths (iterable of `int`, *optional*): Defaults to all, `0..L`, or `1..L` of a class that needs a layer. Full
            depth is always among them.

    Raises:
        DepthError: A depth is not one that the model has, or its layers are not a plain stack.
        TypeError: `model` is not a `SentenceTransformer`, or its first module is no transformer.
    """

    def __init__(self, model: Any, depths: Iterable[int] | None = None):
        check_can_be_imported()
        if not is_of_kind(model, ENCODER):
            raise TypeError(f"model must be a {ENCODER}; got {type(model).__name__}")
        self.model, self._run = model, type(model).forward
        self.path, transformer = transformer_inside(model)
        self.transformer = unwrap(transformer)
        number, lowest = len(layers_of(self.transformer)), check_by_example(self.transformer)
        chosen = range(lowest, number + 1) if depths is None else (check_depth(depth, number) for depth in depths)
        self.depths = tuple(sorted({*chosen, number}))
        check_lowest(self.transformer, self.depths[0], lowest)

    def __call__(self, features: dict[str, Any], **options: Any) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield `(depth, embeddings)` of a batch for ascending depths.

        Args:
            features (`dict`): What the tokenizer made of the texts. It is left as it is.
            options: Further arguments of a pass of the model.
        """
        outputs: list[Iterator[Any]] = []

        def answer(*_args: Any, **inputs: Any) -> Any:
            if not outputs:
                outputs.append(_outputs(self.transformer, inputs, self.depths))
            return next(outputs[0])

        view = replace_submodule(self.model, self.path, standing_for(self.transformer, answer))
        for depth in self.depths:
            yield depth, self._run(view, dict(features), **options)[EMBEDDING]

    def parameters_at(self, depth: int) -> int:
        """Return the number of parameters of the model that is cut there."""
        cut = {weight for layer in layers_of(self.transformer)[depth:] for weight in layer.parameters()}
        return sum(weight.numel() for weight in set(self.model.parameters()) - cut)


def _outputs(model: PreTrainedModel, inputs: dict[str, Any], depths: tuple[int, ...]) -> Iterator[Any]:
    """Yield what the transformer returns that is cut at each of some ascending depths."""
    if not is_acn(model) or model.base_model is not model:
        yield from (output for _, output in depth_outputs(model, inputs, depths))
        return
    maybe_install_capturing_hooks(model)
    asked = {**inputs, "return_dict": True, "output_hidden_states": True}
    states = first_layers(model, depths[-1])(**asked).hidden_states
    for depth in depths:
        yield model.readout(states[depth])
