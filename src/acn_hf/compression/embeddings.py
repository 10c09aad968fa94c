"""The main job for embeddings: teach every depth of a SentenceTransformer, measure, choose, cut, heal."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..depth.choice import Choice
from ..depth.metrics import ProfileError
from ..embeddings.inputs import different_texts
from ..embeddings.reading import DepthReader
from ..embeddings.references import SPEARMAN
from ..support.sentence_models import ENCODER, is_of_kind
from ..support.weights import weights_digest
from ..support.wrappers import unwrap_parallel
from ..training.stages import Stages
from .embedding_job import EmbeddingJob, MakeArguments
from .result import CompressionResult

TOLERANCE = 0.05
"""How many of its nearest neighbours a text may lose if nobody says it."""


def compress_embeddings(
    model: Any,
    data: Any,
    *,
    metric: str | None = None,
    tolerance: float | None = None,
    relative: bool = False,
    confidence: float | None = None,
    depth: int | None = None,
    max_latency_ms: float | None = None,
    max_parameters: float | None = None,
    max_mb: float | None = None,
    train: list[str] | None = None,
    teach: Any = None,
    heal: Any = None,
    teacher: Any = None,
    teaching: dict[str, Any] | None = None,
    choose_healed: bool | None = None,
    test: Any = None,
    work_dir: Any = None,
    resume: bool = False,
    strict: bool = False,
    costs: bool = False,
    progress: Callable[[Iterable[Any], str], Iterable[Any]] | None = None,
    note: Callable[[str], None] | None = None,
    **options: Any,
) -> CompressionResult:
    """Find the smallest depth whose embeddings are good enough, and return the SentenceTransformer that is cut there.

    No labels are needed. The stages, each of which may be left out: the model teaches every depth of a copy of itself
    (`teach`); every depth is measured on `data`; one is chosen, and the copy is cut there; so many layers of `model`,
    at equal distances, are taught too, at that depth alone (`heal`), and the better one stays; it is measured on data
    that nothing has seen (`test`).

    Args:
        model (`SentenceTransformer`): With a transformer of one stack of layers as its first module. It is left as it
            is.
        data (`list[str]` or evaluator): What the depth is chosen on. Texts: their embeddings at every depth are
            compared with those that `model` itself gives, or `teacher`. An evaluator of sentence-transformers, or a
            function of your own from a `SentenceTransformer` to a score: by this score.
        metric (`str`, *optional*): Of texts `"neighbours"`, the default, or `"spearman"`; of an evaluator the name of a
            score, where it is not to be its main one. See [`measure_embedding_profile`].
        tolerance (`float`, *optional*): How much worse than that of `model` at full depth the metric may be. Defaults
            to 0.05 of texts, which lets a text lose every twentieth of its nearest neighbours, and to 0.005 of
            evaluators.
        relative (`bool`, *optional*, defaults to `False`): See [`DepthProfile.effective_depth`].
        confidence (`float`, *optional*): See [`DepthProfile.effective_depth`]; of `"neighbours"` alone.
        depth (`int`, *optional*): In `[0, L]`. Cut here, whatever the tolerance says.
        max_latency_ms (`float`, *optional*): Take the best depth within this; see [`DepthProfile.within`].
        max_parameters (`float`, *optional*): The same.
        max_mb (`float`, *optional*): The same.
        train (`list[str]`, *optional*): The texts that are taught with; other ones than those of `data` and `test`.
        teach (`SentenceTransformerTrainingArguments` or `Callable`, *optional*): How every depth is taught: the
            arguments of that training, or a function to them from the number of layers.
        heal (`SentenceTransformerTrainingArguments` or `Callable`, *optional*): How the short model is taught that
            begins with layers at equal distances; of an ACN with the first ones, taught already. That may be tried at
            several depths, so a function can give each its own `output_dir`.
        teacher (`SentenceTransformer`, *optional*): Another model that teaches, and that texts are compared with; its
            embeddings have the same dimension. Defaults to `model`.
        teaching (`dict`, *optional*): Further arguments of [`teach_embeddings`], for both stages: `dimensions`,
            `similarities`, `loss` with `pairs`, `callbacks`.
        choose_healed (`bool`, *optional*): Whether depths below the chosen one are cut and healed too; see
            [`compress`].
        test (*optional*): Texts, or an evaluator, by which nothing is chosen.
        work_dir (`str` or `os.PathLike`, *optional*): Folder in which each stage of training is stored when it is done.
        resume (`bool`, *optional*, defaults to `False`): Go on after the stages that `work_dir` holds. A stage that was
            stopped goes on from what `resume_from_checkpoint` of its arguments names.
        strict (`bool`, *optional*, defaults to `False`): Whether a doubt about the choice is an error.
        costs (`bool`, *optional*, defaults to `False`): Whether latency, FLOPs and bytes of every depth are measured,
            as they are anyway where there are limits; the page of `result.report` shows them.
        progress (`Callable`, *optional*): See [`compress`].
        note (`Callable`, *optional*): Is told each doubt as soon as there is one.
        options: Further arguments of [`measure_embedding_profile`]: `depths`, `batch_size`, `sample`, `neighbours`,
            `greater_is_better`.

    Returns:
        `CompressionResult`: Its `model` is a `SentenceTransformer` that shares nothing with the others. Where nothing
        is cut off, and teaching made full depth worse, it is a copy of `model` as it was.

    Raises:
        BudgetError: No depth is within the limits.
        DepthError: A depth is not a whole number in `[0, L]`, or the layers of the model are not a plain stack.
        FinetuningError: The weights are sharded over processes, or end as no finite numbers.
        ImportError: sentence-transformers is not installed.
        ProfileError: There are too few different texts, the evaluator has no main score, an argument is out of its
            range, arguments do not go together, or `strict` and there are doubts.
        StageError: `work_dir` belongs to another job, or holds one that is not to be resumed.
        TypeError: `model` is not a `SentenceTransformer`, its first module is no transformer, or `teach` and `heal` are
            neither arguments nor functions.
        ValueError: Teacher and model differ in the dimension of their embeddings.

    Example:

    ```python
    >>> import tempfile
    >>> from acn_hf import compress_embeddings
    >>> from sentence_transformers import SentenceTransformer
    >>> from transformers import BertConfig, BertModel, BertTokenizerFast

    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4}
    ...     BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    ...     BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)[:0]
    ...     model = SentenceTransformer(folder, device="cpu")
    ()
    >>> result = compress_embeddings(model, ["a film", "good", "a good film"], neighbours=1, depth=2)
    >>> result.depth, result.model.encode(["a film"]).shape
    (2, (1, 16))

    ```
    """
    model = unwrap_parallel(model)
    DepthReader(model, options.get("depths"))  # refuses what has no depth
    is_of_texts = not callable(data)
    limits = {"max_latency_ms": max_latency_ms, "max_parameters": max_parameters, "max_mb": max_mb}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if tolerance is None and is_of_texts and depth is None and not given:
        tolerance = TOLERANCE
    choice = Choice(depth, given, tolerance, relative, confidence)
    choice.check(model)
    _check_data(data, test, metric, confidence)
    if test is not None and not callable(test):
        least = 3 if metric == SPEARMAN and is_of_texts else options.get("neighbours", 10) + 2
        test = different_texts(test, least, "test must be a list of texts, or an evaluator", "a test")
    makers = _makers(teach, heal)
    if train is not None:
        train = different_texts(train, 3, "train must be a list of texts", "teaching")
    _check_training(makers, train, teacher, teaching or {}, choose_healed, choice)
    if depth is not None and options.get("depths") is not None:
        options["depths"] = [*options["depths"], depth]
    teachers = {"model": model} if teacher is None else {"model": model, "teacher": unwrap_parallel(teacher)}
    digests = {name: (f"the {name}", weights_digest(one)) for name, one in teachers.items()} if work_dir else {}
    job = EmbeddingJob(
        data=data,
        options=options,
        choice=choice,
        makers=makers,
        stages=Stages.begin(work_dir, resume, {"the list of stages": list(makers)}, digests),
        strict=strict,
        costs=costs,
        progress=progress or (lambda items, description: items),
        note=note or (lambda doubt: None),
        original=model,
        reference=teachers.get("teacher", model),
        metric=metric,
        train=train or [],
        teaching=dict(teaching or {}),
    )
    return job.run(model, teacher, choice.searches(choose_healed), test)


def _check_data(data: Any, test: Any, metric: str | None, confidence: float | None) -> None:
    """Refuse data that can be read but once, and a confidence that the data cannot give.

    Raises:
        ProfileError: They are so.
    """
    for name, texts in (("data", data), ("test", test)):
        if isinstance(texts, Iterator):
            raise ProfileError(f"{name} is read several times, so it must be a list of texts; got an iterator")
    if confidence is not None and (callable(data) or metric == SPEARMAN):
        what = "an evaluator gives one score" if callable(data) else f"{SPEARMAN!r} is one number"
        raise ProfileError(
            f"confidence needs what each text contributes, and {what} for all of them; got confidence={confidence}"
        )


def _makers(teach: Any, heal: Any) -> dict[str, MakeArguments]:
    """Return a function from a number of layers to training arguments for each stage that is asked for.

    Raises:
        TypeError: One is neither arguments nor a function.
    """
    from sentence_transformers import SentenceTransformerTrainingArguments

    def maker(arguments: Any) -> MakeArguments:
        return lambda number: arguments

    makers = {}
    for name, given in (("teach", teach), ("heal", heal)):
        if given is None:
            continue
        is_ready = isinstance(given, SentenceTransformerTrainingArguments)
        if not is_ready and not callable(given):
            raise TypeError(
                f"{name} must be SentenceTransformerTrainingArguments, or a function to them from the number of "
                f"layers; got {type(given).__name__}"
            )
        makers[name] = maker(given) if is_ready else given
    return makers


def _check_training(
    makers: dict[str, MakeArguments],
    train: Any,
    teacher: Any,
    teaching: dict[str, Any],
    choose_healed: bool | None,
    choice: Choice,
) -> None:
    """Refuse arguments that do not go together, before anything is done.

    Raises:
        ProfileError: They do not.
        TypeError: The teacher is no SentenceTransformer.
    """
    if makers and train is None:
        raise ProfileError(f"{next(iter(makers))} needs train, the texts that are taught with; got none")
    if train is not None and not makers:
        raise ProfileError("train needs teach or heal, which say how long is taught with these texts; got neither")
    if teacher is not None and not makers:
        raise ProfileError(f"a teacher needs teach or heal, in which it teaches; got {type(teacher).__name__} alone")
    if teacher is not None and not is_of_kind(unwrap_parallel(teacher), ENCODER):
        raise TypeError(f"teacher must be a {ENCODER}; got {type(teacher).__name__}")
    known = ("dimensions", "similarities", "loss", "pairs", "callbacks", "evaluator", "optimizers")
    if unknown := sorted(set(teaching) - set(known)):
        raise ProfileError(f"teaching must hold arguments of teach_embeddings, {', '.join(known)}; got {unknown[0]}")
    choice.check_search(choose_healed, heals="heal" in makers)
