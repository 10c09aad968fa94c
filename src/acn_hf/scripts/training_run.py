"""What the example scripts share: how a run begins, which data it reads, and the run itself."""

import gc
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch.distributed as dist
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel, Trainer, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME

from ..depth.distributed_profile import measure_together
from ..depth.doubts import same_answers
from ..depth.layers import is_acn, layers_of
from ..depth.metrics import Metric
from ..depth.profile import DepthProfile
from ..modeling.depth import DepthError
from ..modeling.full_disk import full_disk_named
from ..publishing.model_card import CardTrainer, write_model_card
from ..support.stopping import EXIT_CODE, on_stop, stopped
from ..support.weights import trained_in_half
from ..training.annealing import ResidualAnnealingCallback
from ..training.attention import quick_attention
from ..training.callbacks import PROFILE_NAME, DepthProfileCallback, IntermediateSupervisionCallback
from ..training.checkpoints import checkpoints_in, is_whole, newest_checkpoint, read_by_their_names
from ..training.shedding import LayerSheddingCallback
from .arguments import DepthArguments
from .data_arguments import DataArguments
from .gradient_flow import add_gradient_flow, report_gradient_flow
from .labelled_data import first_rows
from .task_metric import TaskTrainer, check_metric, metric_functions
from .teachers import distillation_of, taught

logger = logging.getLogger(__name__)

RUN_FILES = ("config.json", TRAINER_STATE_NAME, "checkpoint-*")
"""What shows that a folder holds a run."""


def start(arguments: TrainingArguments) -> str | None:
    """Set up logging and seeds, and return the checkpoint to resume from, if any.

    Raises:
        ValueError: There is nothing to do, nothing to resume from, or another run in the output folder.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    transformers.utils.logging.set_verbosity(arguments.get_process_log_level())
    if arguments.local_process_index != 0:
        datasets.disable_progress_bars()
    set_seed(arguments.seed)
    if not (arguments.do_train or arguments.do_eval or arguments.do_predict):
        raise ValueError("there is nothing to do; give --do_train, --do_eval or --do_predict")
    return last_checkpoint(arguments)


def last_checkpoint(arguments: TrainingArguments) -> str | None:
    """Return the checkpoint to resume from: the one named, or for `True` the last whole one of the output folder.

    Raises:
        ValueError: There is none, or half of one; or the output folder holds a run, and none is to be resumed.
    """
    asked, folder = arguments.resume_from_checkpoint, Path(str(arguments.output_dir))
    if not arguments.do_train or asked in (None, False, "False", "false"):
        found = sorted(path.name for pattern in RUN_FILES for path in folder.glob(pattern))
        if arguments.do_train and found:
            raise ValueError(
                f"--output_dir must be new, or --resume_from_checkpoint True go on from its last checkpoint; "
                f"{folder} holds {', '.join(found[:3])}"
            )
        return None
    if str(asked).lower() != "true":
        if not is_whole(Path(str(asked))):
            raise ValueError(f"--resume_from_checkpoint must be True or the folder of a whole checkpoint; got {asked}")
        return str(asked)
    for path in checkpoints_in(folder):
        if is_whole(path):
            return str(path)
        logger.warning(f"{path} is left aside: the run was stopped while it was written")
    raise ValueError(f"--resume_from_checkpoint needs a whole checkpoint in --output_dir; {folder} holds none")


def kept(arguments: TrainingArguments) -> str:
    """Return what is left of a run that is stopped while it trains, and how to go on."""
    newest = newest_checkpoint(Path(str(arguments.output_dir)))
    if newest is None:
        by_steps = f"--save_steps {arguments.save_steps:g}"
        due = by_steps if arguments.save_strategy == "steps" else f"--save_strategy {arguments.save_strategy.value}"
        return f"nothing is kept: no checkpoint was due yet ({due})"
    return f"{newest} is kept; the same command with --resume_from_checkpoint True goes on from there"


def run_labelled(
    model: PreTrainedModel,
    arguments: TrainingArguments,
    depth: DepthArguments,
    rows: dict[str, tuple[Any, Callable]],
    processor: Any,
    *,
    metric: str,
    checkpoint: str | None,
    data: DataArguments,
) -> None:
    """Train and measure a model of labelled data; see [`run`].

    Args:
        model (`PreTrainedModel`): What is trained.
        arguments (`TrainingArguments`): How.
        depth (`DepthArguments`): What is done with depth.
        rows (`dict`): For each split what `prepare` returned: rows, and the function that makes a batch of them.
        processor: Tokenizer or image processor.
        metric (`str`): Metric of the task, for the depths if no other was asked for.
        checkpoint (`str`, *optional*): Where to resume from.
        data (`DataArguments`): Which data were read, for the card.
    """
    parts = {split: part for split, (part, _) in rows.items()}
    trainer = TaskTrainer(
        model=model,
        args=arguments,
        train_dataset=parts.get("train"),
        eval_dataset=parts.get("validation"),
        data_collator=next(collate for _, collate in rows.values()),
        processing_class=processor,
        **metric_functions(depth.metric_or(metric), model.config),
    )
    run(trainer, depth, metric=metric, checkpoint=checkpoint, test=parts.get("test"), data=data)


def add_depth_callbacks(
    trainer: Trainer, arguments: DepthArguments, metric: str
) -> IntermediateSupervisionCallback | None:
    """Add what was asked for to a Trainer, and return what supervises the depths, if anything does.

    Raises:
        DepthError: Something was, and the model has no stack of layers.
        OSError: There is no such teacher.
        ValueError: The model is not an ACN, whose scales are to be annealed or whose gradient flow is to be measured,
            there is nothing to measure on, or the teacher has another head or other classes.
    """
    asked = {
        "profile_every": arguments.profile_every is not None,
        "gradient_flow_every": arguments.gradient_flow_every is not None,
        "supervision": arguments.weights != "full" or arguments.teacher is not None,
        "residual_annealing": arguments.residual_annealing is not None,
        "shed_tolerance": arguments.shed_tolerance is not None,
    }
    model = trainer.accelerator.unwrap_model(trainer.model)
    if any(asked.values()):
        layers_of(model)
    if asked["residual_annealing"] and not is_acn(model):
        raise ValueError(f"--residual_annealing needs an ACN, which has scales; got a {model.config.model_type}")
    if asked["gradient_flow_every"] and not is_acn(model):
        raise ValueError(f"--gradient_flow_every needs an ACN, at any scale; got a {model.config.model_type}")
    measured = ("profile_every", "gradient_flow_every", "shed_tolerance")
    if any(asked[name] for name in measured) and trainer.eval_dataset is None:
        options = "--profile_every, --gradient_flow_every and --shed_tolerance"
        raise ValueError(f"{options} measure on the validation data; give --do_eval too")
    if asked["shed_tolerance"] and arguments.shed_every is None and trainer.args.eval_strategy == "no":
        raise ValueError(
            "--shed_tolerance needs measurements; give --shed_every, or --eval_strategy with steps or epoch"
        )
    chosen = arguments.metric_or(metric)
    if arguments.profile_every is not None:
        DepthProfileCallback(metric=chosen, every=arguments.profile_every).attach(trainer)
    supervision = None
    if asked["supervision"]:
        distillation = distillation_of(arguments, model)
        supervision = IntermediateSupervisionCallback(
            arguments.weights, arguments.supervision_depths, distillation, arguments.supervision_until
        )
        supervision.attach(trainer)
    if arguments.residual_annealing is not None:
        first, last = arguments.residual_annealing
        fraction, shape = arguments.residual_annealing_fraction, arguments.residual_annealing_shape
        begin, order = arguments.residual_annealing_begin, arguments.residual_annealing_order
        ResidualAnnealingCallback(first, last, fraction, shape, begin=begin, order=order).attach(trainer)
    if arguments.shed_tolerance is not None:
        number, data = arguments.shed_examples, trainer.eval_dataset
        LayerSheddingCallback(
            None if number is None else first_rows(data, number),
            metric=chosen,
            tolerance=arguments.shed_tolerance,
            margin=arguments.shed_margin,
            patience=arguments.shed_patience,
            start=arguments.shed_start,
            every=arguments.shed_every,
        ).attach(trainer)
    return supervision


def run(
    trainer: CardTrainer,
    depth: DepthArguments,
    *,
    metric: str,
    checkpoint: str | None = None,
    test: Any = None,
    data: Any = None,
) -> None:
    """Train, evaluate, and write all there is to know about it into the output folder, the model card included.

    With `push_to_hub` the folder is then uploaded.

    Args:
        trainer (`CardTrainer`): With a train set, an eval set, or both, and the tokenizer or image processor.
        depth (`DepthArguments`): What is done with depth.
        metric (`str`): Metric of the task, for the depths if no other was asked for.
        checkpoint (`str`, *optional*): Where to resume from.
        test (*optional*): Data that neither training nor a choice has seen; their metrics come last.
        data (*optional*): Arguments that say which data were read, for the card.
    """
    check_metric(trainer.accelerator.unwrap_model(trainer.model), depth.metric_or(metric))
    if trainer.args.do_train:
        if text := trained_in_half(trainer.model):
            logger.warning(f"{text} (--dtype float32)")
        supervision = add_depth_callbacks(trainer, depth, metric)
        flow = add_gradient_flow(trainer, depth)
        with full_disk_named(str(trainer.args.output_dir)), on_stop(lambda: kept(trainer.args)):
            with read_by_their_names(trainer), quick_attention(trainer), taught(trainer, supervision):
                metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
            trainer.save_model()
        _report(trainer, "train", metrics, trainer.train_dataset)
        trainer.save_state()
        report_gradient_flow(trainer, flow)
    with on_stop(f"the trained model is in {trainer.args.output_dir}" if trainer.args.do_train else ""):
        _measure(trainer, depth.metric_or(metric), test, data)


def _measure(trainer: CardTrainer, metric: Metric, test: Any, data: Any) -> None:
    """Do what is left when the model is trained: evaluate, write the card, upload."""
    if trainer.args.do_eval:
        metrics = trainer.evaluate()
        if type(trainer.accelerator.unwrap_model(trainer.model)).__name__.endswith("ForMaskedLM"):
            metrics["perplexity"] = math.exp(min(metrics["eval_loss"], 100))
        _report(trainer, "eval", metrics, trainer.eval_dataset)
        _profile(trainer, metric)
    if trainer.args.do_predict and test is not None:
        _report(trainer, "test", trainer.evaluate(test, metric_key_prefix="test"), test)
    if trainer.args.do_train:
        _write_card(trainer, data)
        if trainer.args.push_to_hub:
            trainer.push_to_hub()


def _write_card(trainer: CardTrainer, data: Any) -> None:
    model, folder = trainer.accelerator.unwrap_model(trainer.model), Path(str(trainer.args.output_dir))
    if _has_depth(model) and trainer.is_world_process_zero():
        profile = DepthProfile.load(folder / PROFILE_NAME) if trainer.args.do_eval else None
        named = getattr(data, "validation_split", None) if getattr(data, "dataset_name", None) else None
        split = None if profile is None else named or "validation"
        facts: dict[str, Any] = {"name": folder.resolve().name, "dataset": _name(data), "split": split}
        write_model_card(folder, model, profile=profile, training=trainer.args, **facts)


def _has_depth(model: PreTrainedModel) -> bool:
    try:
        return bool(layers_of(model)) or is_acn(model)
    except DepthError:
        return False


def _report(trainer: Trainer, split: str, metrics: dict[str, Any], data: Any) -> None:
    if hasattr(data, "__len__"):
        metrics[f"{split}_samples"] = len(data)
    trainer.log_metrics(split, metrics)
    trainer.save_metrics(split, metrics)


def _profile(trainer: Trainer, metric: Metric) -> None:
    """Measure every depth on the validation data, print the table, and write it to `depth_profile.json`."""
    model, arguments = trainer.accelerator.unwrap_model(trainer.model), trainer.args
    if not _has_depth(model):
        return
    profile = measure_together(
        model,
        trainer.eval_dataset,
        metric=metric,
        batch_size=arguments.per_device_eval_batch_size,
        collate_fn=trainer.data_collator,
        process_index=arguments.process_index,
        num_processes=arguments.world_size,
    )
    if trainer.is_world_process_zero():
        profile.save(Path(str(arguments.output_dir)) / PROFILE_NAME)
        print(profile)
        for sentence in same_answers(profile, model=model):
            print(sentence)


def _name(data: Any) -> str | None:
    """Return what the data are called: the last part of a path, or a name on the Hub as it is."""
    source = getattr(data, "dataset_name", None)
    if source is not None:
        return Path(source).resolve().name if Path(source).exists() else source
    files = getattr(data, "train_file", None) or []
    return ", ".join(Path(name).name for name in ([files] if isinstance(files, str) else files)) or None


def run_script(main: Callable[[], None]) -> None:
    """Run the main function of a script.

    What was wrong with its input becomes one line and exit code 1, and Ctrl-C one line that says what is kept.
    """
    try:
        main()
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # else its threads may abort the process when it ends
        return
    except KeyboardInterrupt as stop:
        said, code = stopped(stop), EXIT_CODE
    except (ValueError, OSError, ImportError, StrictDataclassError) as error:
        said, code = f"error: {' '.join(str(error).split())}", 1
    if code == EXIT_CODE:
        gc.collect()  # a progress bar writes a last line when it goes; what is said comes after it
        print(file=sys.stderr)
    print(said, file=sys.stderr)
    raise SystemExit(code)
