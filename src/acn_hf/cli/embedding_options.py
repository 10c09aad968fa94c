"""Options of `--embeddings`, and those of others that say nothing there."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from .options import ChoiceOptions, ConversionOptions, DataOptions, FinetuningOptions, given
from .teaching_options import TeachingOptions

_embeddings = functools.partial(typer.Option, rich_help_panel="Embeddings")

NO_LABELS = "embeddings have no labels"
COLUMNS = "only texts are embedded, those of --text-column"
NO_HEAD = "there is no head"
AS_IT_IS = "the model stays what it is"
USELESS: dict[type, dict[str, str]] = {
    DataOptions: {
        "image_column": COLUMNS,
        "label_column": NO_LABELS,
        "question_column": COLUMNS,
        "context_column": COLUMNS,
        "answers_column": NO_LABELS,
        "choices_column": COLUMNS,
        "max_length": "the model itself says how long a text may be",
    },
    TeachingOptions: {
        "task": "what is taught are the embeddings",
        "tune_epochs": NO_HEAD,
        "soft_labels": NO_LABELS,
        "no_calm": "nothing is clipped",
    },
    ConversionOptions: {"convert": AS_IT_IS},
    FinetuningOptions: {"finetune": "embeddings are taught (--teach)"},
}
"""Why an option of another group says nothing about embeddings."""


@dataclass(frozen=True)
class EmbeddingOptions:
    """Whether the model makes embeddings, and by what they are judged."""

    embeddings: Annotated[
        bool,
        _embeddings(
            "--embeddings",
            help="MODEL is a SentenceTransformer, DATA are texts without labels. --metric is neighbours (the default), "
            "spearman, or the name of a score of the evaluator; of texts --tolerance is 0.05 if it is not given.",
        ),
    ] = False
    evaluator: Annotated[
        str | None,
        _embeddings(
            metavar="FILE.py[:NAME]|MODULE:NAME",
            help="Evaluator of sentence-transformers that judges every depth, or a function that returns one. For "
            "compress DATA then are texts to test on.",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.evaluator is not None and not self.embeddings:
            raise typer.BadParameter("--evaluator is for --embeddings, which must be given too")

    def check_others(self, choice: ChoiceOptions, test: str | None, *groups: Any) -> None:
        """Refuse options that say nothing about embeddings.

        Args:
            choice (`ChoiceOptions`): What is measured, and how the depth is chosen.
            test (`str`, *optional*): Data to test on.
            groups: Other groups of options.
        """
        for group in groups:
            for name in given(group):
                reason = USELESS.get(type(group), {}).get(name)
                if reason is not None:
                    option = name.replace("_", "-")
                    raise typer.BadParameter(f"--{option} must not be given with --embeddings: {reason}")
        if self.evaluator is not None and test is not None:
            raise typer.BadParameter(
                "--test must not be given with --evaluator: that chooses the depth, and DATA are what is tested on"
            )
        if self.evaluator is not None and choice.confidence is not None:
            raise typer.BadParameter(
                "--confidence needs what each text contributes, and an evaluator gives one score for all of them"
            )
        if choice.lower_is_better and self.evaluator is None:
            raise typer.BadParameter("--lower-is-better is for a score of --evaluator, which must be given too")
