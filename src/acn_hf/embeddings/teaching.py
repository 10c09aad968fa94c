"""A SentenceTransformer teaches every depth of its own copy, or another one does."""

import copy
import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import nn

from ..depth.errors import ProfileError
from ..depth.every_depth import truncate
from ..depth.layers import layers_of
from ..support.eval_mode import evaluating
from ..training.attention import LOOKED_AT, quick_attention
from ..training.finetuning import check_finite, check_whole, silence
from ..training.supervision import Weights, depth_weights
from .inputs import check_dimensions, different_texts, embed, full_dimension
from .losses import EveryDepthLoss, TeachingLoss
from .reading import DepthReader
from .references import SAMPLE, Similarities
from .student import studying

TEXTS, PAIRS = "texts", "pairs"
"""What the data sets are called."""
COLUMN = "text"
"""What the one column of texts is called."""


def teach_embeddings(
    model: Any,
    texts: list[str],
    args: Any,
    *,
    teacher: Any = None,
    weights: Weights = "uniform",
    dimensions: Sequence[int] = (),
    similarities: float = 0.1,
    loss: Callable[[Any], nn.Module] | None = None,
    pairs: Any = None,
    **trainer: Any,
) -> Any:
    """Train a copy of a SentenceTransformer so that every depth of it embeds as the model itself does.

    No labels are needed. The teacher embeds each text once, and its embeddings lie in memory meanwhile. The layers of
    the copy run once in a step, for all depths.

    Args:
        model (`SentenceTransformer`): With a transformer of one stack of layers as its first module. It is left as it
            is.
        texts (`list[str]`): What it is taught with, of the kind that it is used for.
        args (`SentenceTransformerTrainingArguments`): How long, how fast, and with how many texts in a batch. If its
            `resume_from_checkpoint` names a checkpoint, the run goes on from there.
        teacher (`SentenceTransformer`, *optional*): Another model whose embeddings have the same dimension. Defaults to
            `model`.
        weights (`"uniform"`, `"linear"`, `"full"` or sequence of `float`, *optional*, defaults to `"uniform"`):
            Weight of each depth's loss; see [`intermediate_supervision`].
        dimensions (sequence of `int`, *optional*): To which the embeddings are going to be cut (Matryoshka embeddings).
            The similarities of the first so many numbers are taught too.
        similarities (`float`, *optional*, defaults to 0.1): Weight of the similarities of the texts of a batch, beside
            that of the embeddings themselves, which is 1.
        loss (`Callable`, *optional*): From the copy to a loss of sentence-transformers, its class for example. It is
            added at every depth, for `pairs`.
        pairs (`datasets.Dataset`, *optional*): Labelled pairs, or whatever `loss` takes. Batches of texts and of pairs
            alternate as `args.multi_dataset_batch_sampler` says.
        trainer: Further arguments of `SentenceTransformerTrainer`: `callbacks`, `evaluator`, `optimizers`.

    Returns:
        `SentenceTransformer`: The copy, in eval mode. It is independent of `model` and of the Trainer.

    Raises:
        DepthError: `model` has no one stack of layers.
        FinetuningError: The weights are sharded over processes, or end as no finite numbers.
        ImportError: sentence-transformers is not installed.
        ProfileError: There are too few different texts, or the teacher gives all of them the same embedding.
        TypeError: `model` is not a `SentenceTransformer`, its first module is no transformer, `args` are not those of
            one, or `loss` is a loss and not a function to one.
        ValueError: A number is out of its range, teacher and model differ in the dimension of their embeddings, only
            one of `loss` and `pairs` is given, or the loss embeds its texts again in its backward pass.

    Source: Reimers and Gurevych 2020, arXiv 2004.09813 (a teacher's embeddings); Kusupati et al. 2022, arXiv 2205.13147
        (dimensions).

    Example:

    ```python
    >>> import tempfile
    >>> from acn_hf import teach_embeddings
    >>> from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
    >>> from transformers import BertConfig, BertModel, BertTokenizerFast

    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    ...     BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    ...     BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)[:0]
    ...     model = SentenceTransformer(folder, device="cpu")
    ...     how = {"max_steps": 1, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    ...     arguments = SentenceTransformerTrainingArguments(folder, **how)
    ...     taught = teach_embeddings(model, ["a film", "good", "a good film"], arguments)  # doctest: +ELLIPSIS
    ()
    {...}
    >>> taught.encode(["a good film"]).shape
    (1, 16)

    ```
    """
    return taught_embeddings(
        model,
        texts,
        args,
        teacher=teacher,
        weights=weights,
        dimensions=dimensions,
        similarities=similarities,
        loss=loss,
        pairs=pairs,
        **trainer,
    )


def taught_embeddings(
    model: Any,
    texts: list[str],
    args: Any,
    *,
    teacher: Any = None,
    weights: Weights = "uniform",
    dimensions: Sequence[int] = (),
    similarities: float = 0.1,
    loss: Callable[[Any], nn.Module] | None = None,
    pairs: Any = None,
    is_quiet: bool = False,
    **trainer: Any,
) -> Any:
    """Do what [`teach_embeddings`] does; a quiet training prints nothing but what its callbacks show."""
    teacher = model if teacher is None else teacher
    number = len(layers_of(DepthReader(model).transformer))
    of_depths = depth_weights(weights, number)
    depths = DepthReader(model, [depth for depth, weight in enumerate(of_depths) if weight]).depths
    shares = tuple(of_depths[depth] for depth in depths)
    arguments = _arguments(args, model)
    full, cut = _uncut(model), [one for one in (*dimensions, model.truncate_dim) if one is not None]
    cut = check_dimensions(full, cut) if cut else []
    _check(full, _uncut(teacher), similarities, loss, pairs)
    texts = different_texts(texts, 3, "texts must be a list of texts", "teaching")
    wanted, variance = _wanted(_uncut(teacher), full, texts, args)
    student, home = truncate(full, number), model.device
    with studying(student, depths):
        losses: dict[str, nn.Module] = {
            TEXTS: TeachingLoss(student, wanted, variance, shares, tuple(cut), similarities)
        }
        if loss is not None:
            losses[PAIRS] = EveryDepthLoss(student, loss(student), shares)
        _train(student, arguments, texts, pairs, losses, trainer, is_quiet)
    check_finite(student)
    taught = truncate(student.to(home), number)
    taught.truncate_dim = model.truncate_dim
    return taught.eval()


def _uncut(model: Any) -> Any:
    """Return a view of a model that gives its embeddings whole."""
    view = copy.copy(model)
    view.truncate_dim = None
    return view


def _check(model: Any, teacher: Any, similarities: float, loss: Any, pairs: Any) -> None:
    """Raise an error if arguments are out of their range, or do not fit each other.

    Raises:
        TypeError: `loss` is a loss of some model.
        ValueError: A number is out of its range, or something is missing or of another dimension.
    """
    if isinstance(loss, nn.Module):
        name = type(loss).__name__
        raise TypeError(f"loss must be a function from the copy to its loss (lambda student: {name}(student)); got one")
    if not 0 <= similarities < math.inf:
        raise ValueError(f"similarities must be a finite number >= 0; got {similarities!r}")
    if (loss is None) != (pairs is None):
        raise ValueError(f"loss and pairs belong together; got only {'pairs' if loss is None else 'loss'}")
    theirs, ours = full_dimension(teacher), full_dimension(model)
    if theirs != ours:
        raise ValueError(f"the embeddings of the teacher must have the dimension of the model's, {ours}; got {theirs}")


def _arguments(args: Any, model: Any) -> Any:
    """Return the arguments of the training, in which texts have the prompt that the model gives them by default.

    Raises:
        TypeError: They are not those of a SentenceTransformerTrainer.
        ValueError: They ask for several devices in one process.
    """
    from sentence_transformers import SentenceTransformerTrainingArguments

    if not isinstance(args, SentenceTransformerTrainingArguments):
        raise TypeError(f"args must be SentenceTransformerTrainingArguments; got {type(args).__name__}")
    if args.n_gpu > 1:
        raise ValueError(f"there must be one GPU for each process (torchrun); got {args.n_gpu}")
    if args.prompts or not model.default_prompt_name:
        return args
    own = copy.copy(args)
    own.prompts = {TEXTS: {COLUMN: model.prompts[model.default_prompt_name]}, PAIRS: {}}
    return own


def _prompt(args: Any) -> str | None:
    """Return what the user wants before each text, if anything was said about it."""
    prompts = args.prompts
    for name in (TEXTS, COLUMN):
        prompts = prompts.get(name, prompts) if isinstance(prompts, dict) else prompts
    return prompts if isinstance(prompts, str) else None


def _wanted(teacher: Any, model: Any, texts: list[str], args: Any) -> tuple[torch.Tensor, float]:
    """Return the teacher's embeddings of texts, on the host, and the variance of their similarities.

    Raises:
        ProfileError: All of their similarities are the same, or not finite.
    """
    with evaluating(teacher):
        found = embed(teacher, texts, args.per_device_eval_batch_size, prompt=_prompt(args))
    found = found.detach().clone().float().cpu()
    if not torch.isfinite(found).all():
        raise ProfileError("the embeddings of the teacher must be finite numbers; got nan or infinity")
    return found, float(Similarities(found, model.similarity, SAMPLE).check_pairs().var())


def _train(
    student: Any,
    args: Any,
    texts: list[str],
    pairs: Any,
    losses: dict[str, nn.Module],
    options: dict[str, Any],
    is_quiet: bool,
) -> None:
    """Train a student itself.

    Raises:
        FinetuningError: Its weights are sharded over processes.
    """
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer

    data: dict[str, Any] = {TEXTS: Dataset.from_dict({COLUMN: texts, "label": range(len(texts))})}
    if pairs is not None:
        data[PAIRS] = pairs
    if is_quiet:
        student.model_card_data.widget = [{}]  # else upstream looks for examples, and shows how far it is
    trainer = SentenceTransformerTrainer(student, args, train_dataset=data, loss=losses, **options)
    if is_quiet:
        silence(trainer)
    check_whole(trainer, "taught")
    with quick_attention(trainer, lambda: mean_tokens(student, texts)):
        trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)


def mean_tokens(model: Any, texts: list[str]) -> float:
    """Return how many tokens a SentenceTransformer reads of a text, in the mean of some."""
    tokens = model.tokenizer(texts[:LOOKED_AT], truncation=True, max_length=model.get_max_seq_length())
    return fmean(map(len, tokens["input_ids"]))
