"""The main job: teach every depth, measure, choose, cut, heal, and say what was gained."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .compression.job import Job
from .compression.result import CompressionResult
from .depth.choice import Choice
from .depth.metrics import ProfileError
from .support.weights import weights_digest
from .support.wrappers import unwrap
from .training.answers import AnswerBook
from .training.finetuning import Finetune, check_maker
from .training.stages import Stages
from .training.teaching import SOFT_LABELS

ASKING = "Asking the teacher"


def compress(
    model: Any,
    data: Any,
    *,
    tolerance: float | None = None,
    relative: bool = False,
    confidence: float | None = None,
    depth: int | None = None,
    max_latency_ms: float | None = None,
    max_parameters: float | None = None,
    max_mb: float | None = None,
    tune: Finetune | None = None,
    teach: Finetune | None = None,
    teacher: Any = None,
    soft_labels: float | None = None,
    num_depths: int | None = None,
    heal: Finetune | None = None,
    choose_healed: bool | None = None,
    finetune: Finetune | None = None,
    test: Any = None,
    merge_adapter: bool = True,
    calm: bool = True,
    work_dir: Any = None,
    resume: bool = False,
    strict: bool = False,
    costs: bool = False,
    progress: Callable[[Iterable[Any], str], Iterable[Any]] | None = None,
    note: Callable[[str], None] | None = None,
    **options: Any,
) -> CompressionResult:
    """Find the smallest depth that does the task, and return the model cut there, taught and healed if asked to.

    The stages, each of which may be left out: the model is fine-tuned (`tune`); it teaches every depth of its own copy
    (`teach`); every depth is measured on `data`; one is chosen; the model is cut there, and trained a little more with
    the same teacher (`heal`); it is measured on data that nothing has seen (`test`).

    Args:
        model (`PreTrainedModel` or `PeftModel`): Any model with a head and one stack of layers; it is left as it is.
            What `torch.compile` and data parallelism return is taken for the model inside.
        data: What the depth is chosen on; see [`measure_depth_profile`]. Report the result on other data, `test`. If
            anything is trained, it is read several times, so it must not be an iterator.
        tolerance (`float`, *optional*):
            How much worse than that of `model` at full depth the metric may be. Defaults to 0.005.
        relative (`bool`, *optional*, defaults to `False`): See [`DepthProfile.effective_depth`].
        confidence (`float`, *optional*): See [`DepthProfile.effective_depth`].
        depth (`int`, *optional*): In `[0, L]`. Cut here, whatever the tolerance says.
        max_latency_ms (`float`, *optional*): Take the best depth within this; see [`DepthProfile.within`].
        max_parameters (`float`, *optional*): The same.
        max_mb (`float`, *optional*): The same.
        tune (`Callable`, *optional*): From a copy of the model to a [`~transformers.Trainer`] that is ready to train
            it, `lambda copy: Trainer(copy, arguments, train_dataset=train)`. What it trains takes the place of `model`,
            whose head may be new.
        teach (`Callable`, *optional*): From a copy to the Trainer in which every depth of it is taught; see [`teach`].
        teacher (`PreTrainedModel`, *optional*): Who teaches and heals, with the same head. Defaults to `model`.
        soft_labels (`float`, *optional*): Share of the teacher's answers in the loss of `teach` and `heal`, above 0;
            the rest is the loss of the labels, which say what the teacher does not. Defaults to 0.5.
        num_depths (`int`, *optional*): Number of depths beside full depth that are taught in a step, in turn, for heads
            that are expensive, as in masked language modelling. Defaults to all.
        heal (`Callable`, *optional*): From the cut model to the Trainer in which the teacher trains it. It may be
            called for several depths, so let its `output_dir` depend on the config of the model.
        choose_healed (`bool`, *optional*): Whether depths below the chosen one are cut and healed too, by bisection, as
            long as they are good enough then. Each costs that part of a run which it has of the layers. By default, if
            there is a `heal`, and neither a depth, nor a limit, nor a confidence is given.
        finetune (`Callable`, *optional*): From the cut model to a Trainer that is ready to train it, without a teacher.
            If `arguments.resume_from_checkpoint` names a checkpoint, it goes on from there. Layers may leave meanwhile.
            Fine-tuned, a network does with fewer layers, so `depth` is better given than chosen.
        test (*optional*): Data on which nothing is chosen, in the form of `data`.
        merge_adapter (`bool`, *optional*, defaults to `True`):
            Whether the short model of an adapted one is an ordinary model, with the adapters in its weights, all of
            which are trained. If not, it keeps the adapters of its layers, and training goes on with them.
        calm (`bool`, *optional*, defaults to `True`): See [`teach`].
        work_dir (`str` or `os.PathLike`, *optional*): Folder in which each stage of training is stored when it is done.
        resume (`bool`, *optional*, defaults to `False`): Go on after the stages that `work_dir` holds. A stage that was
            stopped goes on from what `args.resume_from_checkpoint` of its Trainer names.
        strict (`bool`, *optional*, defaults to `False`): Whether a doubt about the choice is an error.
        costs (`bool`, *optional*, defaults to `False`): Whether latency, FLOPs and bytes of every depth are measured,
            as they are anyway where there are limits; the page of `result.report` shows them.
        progress (`Callable`, *optional*): From things that are taken one by one, and what is done with them, to what is
            iterated over.
        note (`Callable`, *optional*): Is told each doubt as soon as there is one, those about the data before anything
            is trained. `doubts` of the result holds all of them.
        options: Further arguments of [`measure_depth_profile`].

    Returns:
        `CompressionResult`: The short model is independent of `model`, of the Trainers, and of what the functions saw.

    Raises:
        BudgetError: No depth is within the limits.
        DepthError: A depth is not a whole number in `[0, L]`.
        FinetuningError: A Trainer trains another model, it shards the weights, or they end as no finite numbers.
        ProfileError: No profile can be made of the data, a tolerance is out of range, a depth is asked for in two
            ways, the data cannot be read twice, or `strict` and there are doubts.
        StageError: `work_dir` belongs to another job, or holds one that is not to be resumed.
        TypeError: `model` is not one of transformers, has no head, or was adapted by prompts, which are not in its
            layers; or a stage is no function, returns no Trainer, or one whose `train_dataset` is not made of rows.

    Example:

    ```python
    >>> import torch
    >>> from acn_hf import AcnBertConfig, AcnBertForSequenceClassification, compress

    >>> config = AcnBertConfig(num_hidden_layers=4, hidden_size=64, num_attention_heads=4)
    >>> model = AcnBertForSequenceClassification(config)
    >>> batch = {"input_ids": torch.tensor([[1, 2], [3, 4]]), "labels": torch.tensor([0, 1])}
    >>> result = compress(model, [batch], tolerance=1.0)
    >>> result.depth, result.model.config.num_hidden_layers
    (0, 0)

    ```
    """
    limits = {"max_latency_ms": max_latency_ms, "max_parameters": max_parameters, "max_mb": max_mb}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    choice = Choice(depth, given, tolerance, relative, confidence)
    choice.check(model)
    asked = {"tune": tune, "teach": teach, "heal": heal, "finetune": finetune}
    makers = {name: maker for name, maker in asked.items() if maker is not None}
    for name, maker in makers.items():
        check_maker(name, maker)
    _check(list(makers), data, test, teacher, soft_labels, choose_healed, choice)
    if depth is not None and options.get("depths") is not None:
        options["depths"] = [*options["depths"], depth]
    show, tell = progress or (lambda items, description: items), note or (lambda doubt: None)
    contents = {} if work_dir is None else _weights_of(model, teacher)
    stages = Stages.begin(work_dir, resume, {"the list of stages": list(makers)}, contents)
    with tempfile.TemporaryDirectory() as scratch:
        book = AnswerBook(Path(scratch) if work_dir is None else Path(work_dir), lambda asked: show(asked, ASKING))
        job = Job(
            data=data,
            options=options,
            choice=choice,
            makers=makers,
            stages=stages,
            book=book,
            soft_labels=SOFT_LABELS if soft_labels is None else soft_labels,
            num_depths=num_depths,
            merge_adapter=merge_adapter,
            calm=calm,
            strict=strict,
            costs=costs,
            progress=show,
            note=tell,
        )
        return job.run(model, teacher, choice.searches(choose_healed), test)


def _check(
    trains: list[str],
    data: Any,
    test: Any,
    teacher: Any,
    soft_labels: float | None,
    choose_healed: bool | None,
    choice: Choice,
) -> None:
    """Refuse arguments that do not go together, before anything is done."""
    if trains and isinstance(data, Iterator):
        raise ProfileError(
            f"with {trains[0]} the data are read twice, so they must be a data set, a DataLoader or a list of batches; "
            f"got an iterator, {type(data).__name__}"
        )
    if isinstance(test, Iterator):
        raise ProfileError(f"test is read twice, so it must not be an iterator; got {type(test).__name__}")
    if teacher is not None and not {"teach", "heal"} & set(trains):
        raise ProfileError(f"a teacher needs teach or heal, in which it teaches; got {type(teacher).__name__} alone")
    if soft_labels is not None and not 0 < soft_labels <= 1:
        raise ProfileError(f"soft_labels must lie in (0, 1]; got {soft_labels!r}")
    if soft_labels is not None and not {"teach", "heal"} & set(trains):
        raise ProfileError(f"soft_labels needs teach or heal, in which a teacher answers; got {soft_labels} alone")
    if {"heal", "finetune"} <= set(trains):
        raise ProfileError("heal and finetune both train the cut model, with and without a teacher: give one of them")
    choice.check_search(choose_healed, heals="heal" in trains)


def _weights_of(model: Any, teacher: Any) -> dict[str, tuple[str, str]]:
    """Return what the models are called whose weights must be the same for a job to go on, with their digests."""
    named = {"model": model} if teacher is None else {"model": model, "teacher": teacher}
    return {name: (f"the {name}", weights_digest(unwrap(one))) for name, one in named.items()}
