"""What the embeddings of every depth are worth: to any evaluator, or compared with those of full depth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..depth.errors import ProfileError
from ..depth.evidence import Evidence
from ..depth.profile import DepthProfile
from ..support.eval_mode import evaluating
from .grid import EmbeddingGrid
from .inputs import check_dimensions, different_texts, embed
from .memory import DepthMemory
from .references import NEIGHBOURS, OVERLAP, SAMPLE, SPEARMAN, Similarities, overlap, spearman

_OF_AN_EVALUATOR = "an evaluator does not show: it gives one score for all of them"
_OF_PAIRS = f"a correlation of all pairs does not have; metric={NEIGHBOURS!r} has some for each text"


def measure_embedding_profile(
    model: Any,
    data: Any,
    *,
    reference: Any = "evaluator",
    metric: str | None = None,
    depths: Iterable[int] | None = None,
    dimensions: Sequence[int] | None = None,
    batch_size: int = 32,
    sample: int = SAMPLE,
    neighbours: int = 10,
    device: str | torch.device | None = None,
    greater_is_better: bool | None = None,
) -> DepthProfile | EmbeddingGrid:
    """Measure the embeddings of a SentenceTransformer at every depth; each text is encoded once, for all of them.

    The embeddings of every depth lie in memory on the host meanwhile. The model is left as it was found.

    Args:
        model (`SentenceTransformer`): With a transformer of one stack of layers as its first module.
        data (evaluator, `Callable` or `list[str]`): An evaluator of sentence-transformers, or a function of your own
            from a `SentenceTransformer` to a score; or plain texts, where `reference` is not `"evaluator"`.
        reference (`"evaluator"`, `"self"` or `SentenceTransformer`, *optional*, defaults to `"evaluator"`): Who says
            what is right: the evaluator; or, without labels, what full depth of the model itself, or of another model,
            says about the texts.
        metric (`str`, *optional*): Of an evaluator the name of a score, where it is not to be its main one. Of texts
            `"spearman"`, the default, which is the rank correlation of the similarities of all pairs with those that
            the reference gives them; or `"neighbours"`, the share of the nearest neighbours of a text that are its
            nearest neighbours to the reference too.
        depths (iterable of `int`, *optional*): Defaults to all, `0..L`, or `1..L` of a class that needs a layer. Full
            depth is always measured too.
        dimensions (sequence of `int`, *optional*): To which the embeddings are cut, as `truncate_dim` does.
        batch_size (`int`, *optional*, defaults to 32): Texts in a batch; an evaluator has its own.
        sample (`int`, *optional*, defaults to 1000): Of so many texts, drawn once, the pairs are compared, or the
            nearest neighbours among all texts.
        neighbours (`int`, *optional*, defaults to 10): How many of the nearest.
        device (`str` or `torch.device`, *optional*): Where to measure. Defaults to where the model is.
        greater_is_better (`bool`, *optional*): For a score that is not better when greater. Defaults to what the
            evaluator says.

    Returns:
        `DepthProfile`, or with `dimensions` an `EmbeddingGrid` of them. Only `"neighbours"` knows what each text
        contributes, which `confidence` needs.

    Raises:
        DepthError: A depth is not one that the model has, or its layers are not a plain stack.
        ImportError: sentence-transformers is not installed.
        ProfileError: There are too few different texts, the evaluator has no main score or embeds no texts, a score or
            an embedding is not finite, or an argument is out of its range.
        TypeError: `model` is not a `SentenceTransformer`, or its first module is no transformer.

    Example:

    ```python
    >>> import tempfile
    >>> from acn_hf import measure_embedding_profile
    >>> from sentence_transformers import SentenceTransformer
    >>> from transformers import BertConfig, BertModel, BertTokenizerFast

    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    ...     BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    ...     BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)[:0]
    ...     model = SentenceTransformer(folder, device="cpu")
    ()
    >>> profile = measure_embedding_profile(model, ["a film", "good", "a good film"], reference="self")
    >>> profile.depths, profile.metric, round(profile.values[-1], 4)
    ((0, 1, 2), 'spearman', 1.0)

    ```
    """
    memory = DepthMemory(model, depths)
    wanted = _dimensions(model, data, dimensions)
    with evaluating(model, device):
        if isinstance(reference, str) and reference == "evaluator":
            ruler: Any = _EvaluatorScore(data, metric, greater_is_better)
        else:
            ruler = _against(reference, memory, data, metric, batch_size, sample, neighbours)
        found = [{depth: ruler(depth, memory.at(depth, one)) for depth in memory.reader.depths} for one in wanted]
    profiles = tuple(ruler.profile(values, memory) for values in found)
    return profiles[0] if dimensions is None else EmbeddingGrid(tuple(wanted), profiles)


def _dimensions(model: Any, data: Any, dimensions: Sequence[int] | None) -> list[Any]:
    """Return the dimensions that are measured, the largest first; `[None]` for the one that the model has.

    Raises:
        ProfileError: The embeddings have fewer, or the evaluator cuts them itself.
    """
    if dimensions is None:
        return [None]
    if getattr(data, "truncate_dim", None) is not None:
        raise ProfileError(
            f"dimensions are for an evaluator that does not cut embeddings itself; this one has truncate_dim="
            f"{data.truncate_dim}"
        )
    return check_dimensions(model, dimensions)


@dataclass
class _EvaluatorScore:
    """What an evaluator says about a model.

    Args:
        evaluator (`Callable`): Of sentence-transformers, or any function from a model to a score.
        metric (`str`, *optional*): Which of its scores, if not the main one.
        greater_is_better (`bool`, *optional*): Defaults to what the evaluator says.
    """

    evaluator: Callable[[Any], Any]
    metric: str | None
    greater_is_better: bool | None

    def __post_init__(self) -> None:
        if not callable(self.evaluator):
            raise ProfileError(
                "data must be an evaluator, unless reference says otherwise; for plain texts give reference='self'. "
                f"Got {type(self.evaluator).__name__}"
            )

    def __call__(self, depth: int, view: Any) -> float:
        scores = self.evaluator(view)
        if isinstance(scores, dict):
            score = self._chosen(scores)
        elif self.metric is None:
            score = scores
        else:
            raise ProfileError(f"metric is for an evaluator with several scores; {self.name} gives one")
        if view.memory.num_texts == 0:
            raise ProfileError(f"an evaluator must embed texts by the model that it is given; {self.name} did not")
        if not isinstance(score, (int, float, np.number)) or not np.isfinite(score):
            raise ProfileError(
                f"the score of {self.name} must be a finite number; got {score!r} at depth {depth} (depths= measures "
                "others alone)"
            )
        return float(score)

    @property
    def name(self) -> str:
        """What the evaluator is called."""
        return getattr(self.evaluator, "__name__", type(self.evaluator).__name__)

    @property
    def _main(self) -> str | None:
        return self.metric or getattr(self.evaluator, "primary_metric", None)

    def _chosen(self, scores: dict[str, Any]) -> Any:
        if self._main is None:
            raise ProfileError(
                f"an evaluator must have a main score (primary_metric), or metric must name one; {self.name} gives "
                f"{', '.join(scores) or 'none'}"
            )
        if self._main not in scores:
            raise ProfileError(
                f"metric must be one of the scores of {self.name}, {', '.join(scores) or 'none'}; got {self._main!r}"
            )
        return scores[self._main]

    def profile(self, values: dict[int, float], memory: DepthMemory) -> DepthProfile:
        """Return the profile of these scores."""
        is_better = self.greater_is_better
        if is_better is None:
            is_better = bool(getattr(self.evaluator, "greater_is_better", True))
        return _profile(
            memory, values, self._main or self.name, is_better, memory.num_texts, no_evidence=_OF_AN_EVALUATOR
        )


def _profile(
    memory: DepthMemory,
    values: dict[int, float],
    metric: str,
    greater_is_better: bool,
    number: int,
    **evidence: Any,
) -> DepthProfile:
    return DepthProfile(
        depths=tuple(values),
        values=tuple(values.values()),
        metric=metric,
        greater_is_better=greater_is_better,
        num_examples=number,
        num_parameters=tuple(memory.reader.parameters_at(depth) for depth in values),
        **evidence,
    )


def _against(
    reference: Any,
    memory: DepthMemory,
    data: Any,
    metric: str | None,
    batch_size: int,
    sample: int,
    neighbours: int,
) -> "_Pairs | _Neighbours":
    """Return what compares embeddings with those of a reference.

    Raises:
        ProfileError: An argument is out of its range, or there are too few different texts.
    """
    metric = SPEARMAN if metric is None else metric
    if metric not in (SPEARMAN, NEIGHBOURS):
        raise ProfileError(f"metric must be {SPEARMAN!r} or {NEIGHBOURS!r} for plain texts; got {metric!r}")
    if type(neighbours) is not int or neighbours < 1 or type(sample) is not int or sample < 3:
        raise ProfileError(f"neighbours must be 1 or more, and sample 3 or more; got {neighbours!r} and {sample!r}")
    rule = "data must be texts where reference is not 'evaluator'"
    texts = different_texts(data, 3 if metric == SPEARMAN else neighbours + 2, rule, repr(metric))
    if isinstance(reference, str):
        if reference != "self":
            raise ProfileError(f"reference must be 'evaluator', 'self' or a SentenceTransformer; got {reference!r}")
        reference = memory.at(memory.reader.depths[-1])
    with evaluating(reference, memory.reader.model.device):
        full = Similarities(embed(reference, texts, batch_size), reference.similarity, sample)
    return _Pairs(full, texts, batch_size) if metric == SPEARMAN else _Neighbours(full, texts, batch_size, neighbours)


@dataclass
class _Pairs:
    """The rank correlation of the similarities of all pairs with those of a reference.

    Args:
        full (`Similarities`): Those of the reference.
        texts (`list[str]`): All different.
        batch_size (`int`): Texts in a batch.
    """

    full: Similarities
    texts: list[str]
    batch_size: int

    def __post_init__(self) -> None:
        self.wanted = self.full.check_pairs()

    def __call__(self, depth: int, view: Any) -> float:
        found = self.full.of_pairs(embed(view, self.texts, self.batch_size), view.similarity)
        return spearman(self.wanted, found)

    def profile(self, values: dict[int, float], memory: DepthMemory) -> DepthProfile:
        """Return the profile of these correlations."""
        return _profile(memory, values, SPEARMAN, True, len(self.texts), no_evidence=_OF_PAIRS)


@dataclass
class _Neighbours:
    """The share of the nearest neighbours of each text that are those of a reference.

    Args:
        full (`Similarities`): Those of the reference.
        texts (`list[str]`): All different.
        batch_size (`int`): Texts in a batch.
        number (`int`): How many of the nearest.
    """

    full: Similarities
    texts: list[str]
    batch_size: int
    number: int

    def __post_init__(self) -> None:
        self.full.check_pairs()
        self.wanted = self.full.nearest(self.number)

    def __call__(self, depth: int, view: Any) -> np.ndarray:
        found = self.full.nearest(self.number, embed(view, self.texts, self.batch_size), view.similarity)
        return overlap(self.wanted, found)

    def profile(self, shares: dict[int, np.ndarray], memory: DepthMemory) -> DepthProfile:
        """Return the profile of these shares, of which each text has one."""
        evidence = Evidence(OVERLAP)
        evidence.extend([(shares, np.ones(len(self.full.looked_at)))])
        values = {depth: evidence.value(depth) for depth in shares}
        return _profile(memory, values, NEIGHBOURS, True, len(self.texts), evidence=evidence)
