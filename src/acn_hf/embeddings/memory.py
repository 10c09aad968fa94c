"""The embeddings of texts at every depth, each computed once and remembered, and models that answer from memory."""

import copy
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from ..depth.errors import ProfileError
from ..support.eval_mode import evaluating
from ..support.sentence_models import OF_A_TRAINER, new_card
from .reading import EMBEDDING, DepthReader

_ASKED = "asked"
"""Under this name a batch says which texts it is of."""


@dataclass(frozen=True)
class _Asked:
    """Texts that are to be embedded, and what the real model would be called with.

    Args:
        texts (`list`): Each a text, or a tuple of several.
        method (`str`): The method of the model that makes features of them.
        how (`dict`): Its other arguments.
    """

    texts: list[Any]
    method: str
    how: dict[str, Any]


class DepthMemory:
    """The embeddings of texts at every depth; they lie in memory on the host.

    Args:
        model (`SentenceTransformer`): Is left as it is.
        depths (iterable of `int`, *optional*): See `DepthReader`.

    Raises: See `DepthReader`.
    """

    def __init__(self, model: Any, depths: Iterable[int] | None = None):
        self.reader = DepthReader(model, depths)
        self._kept: dict[Any, torch.Tensor] = {}

    @property
    def num_texts(self) -> int:
        """How many different texts were embedded."""
        return len({text for text, _ in self._kept})

    def at(self, depth: int, dimension: int | None = None) -> Any:
        """Return a view of the model that embeds as the one does that is cut at a depth.

        Every method of a `SentenceTransformer` that embeds texts works, and answers from memory what it can.

        Args:
            depth (`int`): One of those read.
            dimension (`int`, *optional*): Of the embeddings. Defaults to what the model itself gives.
        """
        view = copy.copy(self.reader.model)
        kind = type(view)
        view.__class__ = type(kind.__name__, (_AtOneDepth, kind), {"__module__": kind.__module__})
        for name in (*OF_A_TRAINER, "preprocess", "tokenize"):
            view.__dict__.pop(name, None)
        view.__dict__.update(_forward_hooks=OrderedDict(), _forward_pre_hooks=OrderedDict())
        view.__dict__.update(memory=self, place=self.reader.depths.index(depth))
        view.model_card_data = new_card(view.model_card_data)  # evaluators write their scores into it
        if dimension is not None:
            view.truncate_dim = dimension
        return view

    def embeddings(self, asked: _Asked, features: dict[str, Any], options: dict[str, Any]) -> torch.Tensor:
        """Return the embeddings of a batch of texts, of shape `(batch_size, num_depths, dimension)`, on the host.

        Args:
            asked (`_Asked`): Which texts.
            features (`dict`): What the features of the batch hold besides.
            options (`dict`): Further arguments of a pass of the model.

        Raises:
            ProfileError: A text is none, or an embedding is not finite.
        """
        how = repr((asked.how, features, options))
        keys = [(_key(text), how) for text in asked.texts]
        missing = {key: text for key, text in zip(keys, asked.texts, strict=True) if key not in self._kept}
        if missing:
            made = self._embed(_Asked(list(missing.values()), asked.method, asked.how), features, options)
            self._kept.update(zip(missing, made, strict=True))
        return torch.stack([self._kept[key] for key in keys])

    def _embed(self, asked: _Asked, more: dict[str, Any], options: dict[str, Any]) -> torch.Tensor:
        from sentence_transformers.util import batch_to_device

        model = self.reader.model
        features = getattr(model, asked.method)(asked.texts, **asked.how)
        features = batch_to_device({**features, **more}, model.device)
        with evaluating(model):
            read = dict(self.reader(features, **options))
        for depth, embeddings in read.items():
            if not torch.isfinite(embeddings).all():
                raise ProfileError(f"embeddings must be finite numbers; got nan or infinity at depth {depth}")
        return torch.stack(list(read.values()), dim=1).cpu()


class _AtOneDepth:
    """What a view of a SentenceTransformer does otherwise: it asks a memory.

    Its batches hold texts, and tokens are made only of those that the memory does not know.
    """

    memory: DepthMemory
    place: int

    def preprocess(self, inputs: Any, prompt: str | None = None, **how: Any) -> dict[str, Any]:
        return {_ASKED: _Asked(list(inputs), "preprocess", {"prompt": prompt, **how})}

    def tokenize(self, texts: Any, **how: Any) -> dict[str, Any]:
        return {_ASKED: _Asked(list(texts), "tokenize", how)}

    def forward(self, input: dict[str, Any], **options: Any) -> dict[str, Any]:
        more = {name: value for name, value in input.items() if name != _ASKED}
        embeddings = self.memory.embeddings(input[_ASKED], more, options)[:, self.place]
        return _Embeddings({EMBEDDING: embeddings.to(self.memory.reader.model.device)})


class _Embeddings(dict):
    """Features of a batch that hold nothing but embeddings."""

    def __missing__(self, name: str) -> Any:
        raise ProfileError(f"only embeddings of texts can be read at every depth; {name} were asked for")


def _key(text: Any) -> Any:
    """Return what a text is remembered by.

    Raises:
        ProfileError: It is no text, and no list or tuple of some.
    """
    if isinstance(text, str):
        return text
    if isinstance(text, (list, tuple)) and all(isinstance(part, str) for part in text):
        return tuple(text)
    raise ProfileError(f"what is embedded must be texts; got {type(text).__name__}")


def depth_embeddings(
    model: Any, texts: list[str], *, depths: Iterable[int] | None = None, batch_size: int = 32, **options: Any
) -> torch.Tensor:
    """Return the embeddings of texts at every depth, from one pass through the layers.

    Args:
        model (`SentenceTransformer`): With a transformer as its first module. It is left as it is.
        texts (`list[str]`): What `model.encode` takes.
        depths (iterable of `int`, *optional*): Defaults to all, `0..L`, or `1..L` of a class that needs a layer. Full
            depth is always among them.
        batch_size (`int`, *optional*, defaults to 32): Texts in a batch.
        options: Further arguments of `model.encode`: `prompt_name`, `truncate_dim`, `normalize_embeddings`.

    Returns:
        `torch.Tensor` of shape `(num_depths, num_texts, dimension)`: the rows of a depth equal what
        `truncate(model, depth).encode(texts)` returns, bit for bit where no text occurs twice.

    Raises:
        DepthError: A depth is not one that the model has, or its layers are not a plain stack.
        ImportError: sentence-transformers is not installed.
        ProfileError: What is to be embedded is no text, or an embedding is not finite.
        TypeError: `model` is not a `SentenceTransformer`, or its first module is no transformer.

    Example:

    ```python
    >>> import tempfile
    >>> from acn_hf import depth_embeddings
    >>> from sentence_transformers import SentenceTransformer
    >>> from transformers import BertConfig, BertModel, BertTokenizerFast

    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4}
    ...     BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    ...     BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)[:0]
    ...     model = SentenceTransformer(folder, device="cpu")
    ()
    >>> depth_embeddings(model, ["a film", "a good film"]).shape
    torch.Size([5, 2, 16])

    ```
    """
    memory = DepthMemory(model, depths)
    with evaluating(model):
        return torch.stack(
            [
                memory.at(depth).encode(
                    list(texts), batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False, **options
                )
                for depth in memory.reader.depths
            ]
        )
