"""The stages of `compress_embeddings`: a SentenceTransformer teaches every depth of its copy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..depth.layers import is_acn, layers_of
from ..depth.profile import DepthProfile
from ..depth.spread import spread_layers
from ..embeddings.profile import measure_embedding_profile
from ..embeddings.references import NEIGHBOURS
from ..embeddings.teaching import taught_embeddings
from ..publishing.facts import training_fields
from ..support.sentence_models import card_of_copy, inner_model
from .any_job import AnyJob, Short

TrainingArguments = Any
"""`SentenceTransformerTrainingArguments`, of a package that need not be installed."""
MakeArguments = Callable[[int], TrainingArguments]
"""From the number of layers of a model to how it is trained."""


@dataclass(kw_only=True)
class EmbeddingJob(AnyJob):
    """One call of `compress_embeddings`; its makers are functions from a number of layers to training arguments.

    Args:
        original (`SentenceTransformer`): What is to be shorter, before anything was taught.
        reference (`SentenceTransformer`): With whose embeddings those of every depth are compared.
        metric (`str`, *optional*): Of the data; see [`measure_embedding_profile`].
        train (`list[str]`): The texts that are taught with.
        teaching (`dict`): Further arguments of [`teach_embeddings`], for every stage.
    """

    original: Any
    reference: Any
    metric: str | None = None
    train: list[str] = field(default_factory=list)
    teaching: dict[str, Any] = field(default_factory=dict)

    def measure(self, model: Any, data: Any, **options: Any) -> DepthProfile:
        """Return how well every depth does, to an evaluator, or compared with the reference on texts."""
        is_evaluator = callable(data)
        is_of_same_kind = is_evaluator == callable(self.data)
        metric = self.metric if is_of_same_kind else None
        if not is_of_same_kind:
            options.pop("greater_is_better", None)
        if not is_evaluator:
            options |= {"reference": self.reference}
            metric = metric or NEIGHBOURS
        profile = measure_embedding_profile(model, data, metric=metric, **options)
        assert isinstance(profile, DepthProfile), "no dimensions are asked for"
        return profile

    def leaves_untaught(self, before: DepthProfile, profile: DepthProfile) -> bool:
        """Return whether full depth is better as it was: then nobody needs to embed anything again."""
        return profile.is_better(before.values[-1], profile.values[-1])

    def remarks(self, short: Short, before: DepthProfile, profile: DepthProfile, model: Any) -> tuple[str, ...]:
        """Return what to say where training was of no use."""
        untaught = (
            f"no depth below {short.depth} was chosen, and nothing is cut off: the model is as it was, since teaching "
            f"made its full depth worse in {profile.metric}"
        )
        is_untaught = "teach" in self.makers and profile is before
        return (*([untaught] if is_untaught else ()), *super().remarks(short, before, profile, model))

    def healing_start(self, long: Any, depth: int) -> Any:
        """Return the layers of the original at equal distances; of an ACN, whose depths are sums, the first that are
        taught.

        Embeddings are made in the last layers: those that were made for it learn them faster than the first layers do,
        even where every depth was taught before (docs/experiments.md, "Embeddings at every depth").
        """
        if is_acn(inner_model(self.original)):
            return super().healing_start(long, depth)
        return spread_layers(self.original, depth)

    def taught(self, student: Any, maker: MakeArguments, weights: str) -> Any:
        """Return what the reference makes of a model; its card is that of the student, and holds no texts."""
        number = len(layers_of(inner_model(student)))
        arguments = maker(number)
        stage = "taught" if weights == "uniform" else f"healed-{number}"
        self.stages.note(stage, training=training_fields(arguments))
        taught = taught_embeddings(
            student, self.train, arguments, teacher=self.reference, weights=weights, is_quiet=True, **self.teaching
        )
        taught.model_card_data = card_of_copy(student)
        taught.model_card_data.register_model(taught)
        return taught
