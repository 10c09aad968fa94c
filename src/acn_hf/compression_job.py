"""What the stages of `compress` share, and the search for the smallest depth that is good enough when it is healed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .compression_result import TestValues
from .depth.choice import Choice
from .depth.every_depth import truncate
from .depth.evidence import Evidence
from .depth.layers import layers_of
from .depth.metrics import ProfileError
from .depth.profile import DepthProfile, measure_depth_profile
from .support.processes import same_everywhere
from .support.wrappers import unwrap
from .training.answers import AnswerBook
from .training.distillation import DistillationLoss
from .training.finetuning import Finetune
from .training.stages import Stages
from .training.teaching import taught_by


@dataclass
class Job:
    """One call of `compress`.

    Args:
        data: What a depth is chosen on.
        options (`dict`): Arguments of [`measure_depth_profile`].
        stages (`Stages`): What is trained already.
        book (`AnswerBook`): What the teacher said already.
        merge_adapter (`bool`): See [`compress`].
        distillation (`DistillationLoss`, *optional*): The teacher, where there is one.
    """

    data: Any
    options: dict[str, Any]
    stages: Stages
    book: AnswerBook
    merge_adapter: bool = True
    distillation: DistillationLoss | None = None
    models: dict[int, Any] = field(default_factory=dict)
    """What was cut at a depth and healed."""
    ends: dict[int, DepthProfile] = field(default_factory=dict)
    """Its metric."""

    @property
    def healed(self) -> dict[int, float]:
        """The metric of what was cut and healed, by depth."""
        return {depth: profile.values[-1] for depth, profile in sorted(self.ends.items())}

    def cut(self, model: Any, depth: int | None = None) -> Any:
        """Return the first layers of a model, by default all, as a model that nobody else holds."""
        whole = len(layers_of(unwrap(model)))
        return truncate(model, whole if depth is None else depth, merge_adapter=self.merge_adapter)

    def profile(self, model: Any) -> DepthProfile:
        """Return the metric at every depth of a model."""
        return measure_depth_profile(model, self.data, **self.options)

    def taught(self, student: Any, make_trainer: Finetune, weights: str) -> Any:
        """Return what the teacher makes of a model."""
        assert self.distillation is not None
        return taught_by(self.distillation, student, make_trainer, weights, book=self.book)

    def end_of(self, model: Any, num_examples: int) -> DepthProfile:
        """Return the metric of a model at its full depth, on data that must hold so many examples."""
        profile = measure_depth_profile(model, self.data, **{**self.options, "depths": []})
        if profile.num_examples != num_examples:
            raise ProfileError(
                "when models are trained the data must hold the same examples whenever they are read; they held "
                f"{num_examples} before and {profile.num_examples} after"
            )
        return profile

    def tested(self, test: Any, full: Any, short: Any) -> TestValues:
        """Return the metric of two models on other data."""
        options = {**self.options, "depths": []}
        at_full, at_short = (measure_depth_profile(model, test, **options) for model in (full, short))
        return TestValues(at_full.values[-1], at_short.values[-1], at_full.num_examples)

    def heal(self, long: Any, depth: int, make_trainer: Finetune, num_examples: int) -> float:
        """Cut a model at a depth, let the teacher train what is left, keep it, and return its metric."""
        if depth not in self.ends:
            name = f"healed-{depth}"
            train: Callable[[Any], Any] = lambda short: self.taught(short, make_trainer, "full")  # noqa: E731
            self.models[depth] = self.stages.trained(name, self.cut(long, depth), train).eval()
            self.ends[depth] = self.end_of(self.models[depth], num_examples)
        return self.ends[depth].values[-1]

    def smallest_healed(
        self, long: Any, make_trainer: Finetune, profile: DepthProfile, choice: Choice, reference: float, chosen: int
    ) -> int:
        """Return the smallest depth that is good enough when the model is cut there and healed, by bisection.

        Args:
            long (`PreTrainedModel`): What is cut.
            make_trainer (`Callable`): See `heal` of [`compress`].
            profile (`DepthProfile`): Of `long`.
            choice (`Choice`): What is good enough.
            reference (`float`): The metric that it is compared with.
            chosen (`int`): A depth that is good enough as it is cut, or full depth.
        """
        depths = [depth for depth in profile.depths if 0 < depth < chosen]
        low, high = 0, len(depths)
        while low < high:
            middle = (low + high) // 2
            value = self.heal(long, depths[middle], make_trainer, profile.num_examples)
            if same_everywhere(choice.is_good_enough(value, profile, reference)):
                high = middle
            else:
                low = middle + 1
        return [*depths, chosen][low]


def against(before: DepthProfile, short: DepthProfile, depth: int, at: int) -> DepthProfile | None:
    """Return the profile that a short model makes with the model that it came from, of which two depths are known.

    Args:
        before (`DepthProfile`): Whose full depth counts.
        short (`DepthProfile`): Of the short model, or of a longer one before it was cut, on the same data.
        depth (`int`): Layers of the short model, fewer than there were before.
        at (`int`): Depth of `short` that counts.
    """
    full = before.depths[-1]
    if depth >= full or before.evidence is None or short.evidence is None:
        return None
    evidence = Evidence(before.evidence.metric)
    for (kept, references), (ours, _) in zip(before.evidence.batches(), short.evidence.batches(), strict=True):
        evidence.extend([({depth: ours[at], full: kept[full]}, references)])
    return DepthProfile(
        (depth, full),
        (short.value_at(at), before.values[-1]),
        before.metric,
        before.greater_is_better,
        before.num_examples,
        (short.num_parameters[short.depths.index(at)], before.num_parameters[-1]),
        evidence,
    )


def unseen(items: Iterable[Any], description: str) -> Iterable[Any]:
    """Return the items as they are, where nobody wants to see how many were taken."""
    return items
