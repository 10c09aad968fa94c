"""The stages of every compression, whatever is measured and whoever teaches; the smallest depth that will do."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..depth.choice import Choice
from ..depth.cost import measure_cost
from ..depth.depth_cost import DepthCost, measure_depth_cost
from ..depth.doubts import doubts_about, doubts_about_data, same_answers
from ..depth.every_depth import truncate, view_at
from ..depth.evidence import Evidence
from ..depth.layers import layers_of
from ..depth.metrics import ProfileError
from ..depth.profile import DepthProfile
from ..depth.tradeoffs import DepthTradeoffs
from ..publishing.compressed import TestValues
from ..report.answers import Measurements
from ..support.processes import same_everywhere
from ..support.provenance import circumstances
from ..support.sentence_models import inner_model
from ..training.calming import Calmed
from ..training.stages import Stages
from .result import CompressionResult

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""From things that are taken one by one, and what is done with them, to what is iterated over."""


@dataclass(frozen=True)
class Short:
    """A model that was cut.

    Args:
        model (`PreTrainedModel`, `PeftModel` or `SentenceTransformer`): Itself.
        depth (`int`): Its number of layers.
        trained (`DepthProfile`, *optional*): Its metric, if it was trained after it was cut.
    """

    model: Any
    depth: int
    trained: DepthProfile | None = None


@dataclass(kw_only=True)
class AnyJob(ABC):
    """One call of a function that compresses; its subclasses say how a model is measured and taught.

    Args:
        data: What the depth is chosen on.
        options (`dict`): Arguments of what measures.
        choice (`Choice`): How the depth is chosen.
        makers (`dict[str, Callable]`): How each stage is trained, by its name: `tune`, `teach`, `heal`, `finetune`.
        stages (`Stages`): What is trained already.
        merge_adapter, strict, costs (`bool`): See [`compress`].
        progress, note (`Callable`): See [`compress`].
    """

    data: Any
    options: dict[str, Any]
    choice: Choice
    makers: dict[str, Any]
    stages: Stages
    strict: bool
    progress: Progress
    note: Callable[[str], None]
    merge_adapter: bool = True
    costs: bool = False
    tradeoffs: DepthTradeoffs | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """How long was measured in this run: `measured` the metric on the data, `tested` on other data, `cost`."""
    healed: dict[int, Short] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    """Those that were told."""

    @abstractmethod
    def measure(self, model: Any, data: Any, **options: Any) -> DepthProfile:
        """Return the metric at every depth of a model, unless `options` ask for others."""

    @abstractmethod
    def taught(self, student: Any, maker: Any, weights: str) -> Any:
        """Return what the teacher makes of a model.

        Args:
            student: A copy that nobody else holds.
            maker: How the stage is trained.
            weights (`str`): `"uniform"` for every depth, `"full"` for a model that was cut.
        """

    def tuned(self, model: Any) -> Any:
        """Return the model that is to be shorter, ready to be measured."""
        return model

    def leaves_untaught(self, before: DepthProfile, profile: DepthProfile) -> bool:
        """Return whether a model from which nothing is cut off stays as it was, though every depth of it was taught.

        Args:
            before (`DepthProfile`): The metric at every depth before it was taught.
            profile (`DepthProfile`): And after.
        """
        return False

    def meet_teacher(self, model: Any, teacher: Any, before: DepthProfile) -> tuple[str, ...]:
        """Get to know who teaches, before anything is taught, and return what is to be told of that."""
        return ()

    def run(self, model: Any, teacher: Any, searches: bool, test: Any) -> CompressionResult:
        """Go through the stages.

        Args:
            model (`PreTrainedModel`, `PeftModel` or `SentenceTransformer`): What is to be shorter; it is left as it is.
            teacher (*optional*): Who teaches, another model of its kind.
            searches (`bool`): Whether smaller depths are healed too.
            test (*optional*): Data on which nothing is chosen.
        """
        model = self.tuned(model)
        before = self.measured(model)
        cost = self.cost_within_limits(model, before)
        if self.makers:
            self.warn(self.data_doubts(before, model))
            self.warn(doubts_about(before, None, before.depths[-1], model=inner_model(model)))
        if {"teach", "heal"} & set(self.makers):
            self.tell(self.meet_teacher(model, teacher, before))
        long, profile = model, before
        if teach := self.makers.get("teach"):
            long = self.stages.trained(
                "taught", self.cut(model), lambda copy: self.taught(copy, teach, "uniform")
            ).eval()
            profile = self.measured(long)
        if cost is not None:
            if profile.num_parameters != before.num_parameters:  # adapters were merged
                cost = self.cost_of(long, profile)
            self.tradeoffs = profile.tradeoffs(cost)
        chosen = same_everywhere(self.choice.depth_of(profile, before.values[-1], self.tradeoffs))
        short = self.shortened(long, profile, before.values[-1], chosen, searches)
        if short.depth == profile.depths[-1] and long is not model and self.leaves_untaught(before, profile):
            long, profile, short = model, before, Short(self.cut(model), short.depth)
            self.tradeoffs = None if cost is None else before.tradeoffs(cost)
        if short.depth not in profile.depths:  # layers left while it trained
            self.options["depths"] = [*profile.depths, short.depth]
            profile = self.measured(long)
        return self.result(model, long, short, before, profile, test)

    def result(
        self, model: Any, long: Any, short: Short, before: DepthProfile, profile: DepthProfile, test: Any
    ) -> CompressionResult:
        """Return what came out, and what speaks against it."""
        beside = against(before, profile, short)
        is_said = bool(self.makers and self.data_doubts(before, model))
        allowed = None if is_said or not self.choice.is_by_tolerance else self.choice.allowed(before.values[-1])
        self.warn(doubts_about(beside or profile, allowed, short.depth, model=inner_model(model)))
        self.tell(self.remarks(short, before, profile, model))
        # The whole model as a view, so that a `forward` bound to it, with autocast, is not timed against one without.
        whole, notes = view_at(long, profile.depths[-1]), self.stages.notes
        stages = ["taught", f"healed-{short.depth}"] if short is self.healed.get(short.depth) else ["taught"]
        calmed = [notes[stage]["calmed"] for stage in stages if "calmed" in notes.get(stage, {})]
        tested = None if test is None else self.tested(test, model, short.model)
        if self.costs and self.tradeoffs is None:
            self.tradeoffs = profile.tradeoffs(self.cost_of(long, profile))
        return CompressionResult(
            short.model,
            short.depth,
            profile,
            cost_before=self.timed("cost", measure_cost, whole),
            cost_after=self.timed("cost", measure_cost, view_at(short.model.eval(), short.depth)),
            finetuned=None if short.trained is None else short.trained.values[-1],
            before=None if profile is before or long is model else before,
            healed={depth: one.trained.values[-1] for depth, one in sorted(self.healed.items()) if one.trained},
            test=tested,
            interval=_interval(beside),
            doubts=tuple(self.doubts),
            tradeoffs=self.tradeoffs,
            calmed=Calmed.from_dict(calmed[0]) if calmed else None,
            training={name: one["training"] for name, one in notes.items() if "training" in one},
            seconds={**self.stages.seconds, **self.seconds},
            circumstances=circumstances(None),
            choice=self.choice.to_dict(),
            measurements=self.measurements(short, before, profile),
        )

    def measurements(self, short: Short, before: DepthProfile, profile: DepthProfile) -> Measurements | None:
        """Return what was measured of the model of each depth, where there are answers to single examples."""
        return None

    def cut(self, model: Any, depth: int | None = None) -> Any:
        """Return the first layers of a model, by default all, as a model that nobody else holds."""
        whole = len(layers_of(inner_model(model)))
        return truncate(model, whole if depth is None else depth, merge_adapter=self.merge_adapter)

    def timed(self, what: str, measure: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what a function measures, and add how long that took."""
        start = time.monotonic()
        measured = measure(*args, **options)
        self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - start
        return measured

    def measured(self, model: Any, **options: Any) -> DepthProfile:
        """Return the metric at every depth of a model, unless `options` ask for others."""
        return self.timed("measured", self.measure, model, self.data, **{**self.options, **options})

    def cost_of(self, model: Any, profile: DepthProfile) -> DepthCost:
        """Return what each depth of a profile costs, as the first process measured it."""
        options = {"depths": profile.depths, "progress": lambda depths: self.progress(depths, "Measuring the cost")}
        return same_everywhere(self.timed("cost", measure_depth_cost, model, **options))

    def cost_within_limits(self, model: Any, profile: DepthProfile) -> DepthCost | None:
        """Return what each depth costs if there are limits, which one meets: that none does is seen before training."""
        if not self.choice.limits:
            return None
        cost = self.cost_of(model, profile)
        profile.tradeoffs(cost).within(**self.choice.limits)
        return cost

    def end_of(self, model: Any, num_examples: int) -> DepthProfile:
        """Return the metric of a model at its full depth, on data that must hold so many examples."""
        profile = self.measured(model, depths=[])
        if profile.num_examples != num_examples:
            raise ProfileError(
                "when models are trained the data must hold the same examples whenever they are read; they held "
                f"{num_examples} before and {profile.num_examples} after"
            )
        return profile

    def tested(self, test: Any, full: Any, short: Any) -> TestValues:
        """Return the metric of two models on other data."""
        options = {**self.options, "depths": []}
        at_full, at_short = (self.timed("tested", self.measure, model, test, **options) for model in (full, short))
        return TestValues(at_full.values[-1], at_short.values[-1], at_full.num_examples, at_full.metric)

    def data_doubts(self, profile: DepthProfile, model: Any) -> tuple[str, ...]:
        """Return why the data can choose no depth, whatever is trained; mostly nothing."""
        allowed = self.choice.allowed(profile.values[-1]) if self.choice.is_by_tolerance else None
        return doubts_about_data(profile, allowed, model=inner_model(model))

    def warn(self, doubts: tuple[str, ...]) -> None:
        """Tell doubts, or raise `ProfileError` if they are not to be left at words."""
        if self.strict and doubts:
            raise ProfileError(f"strict refuses a choice about which there are doubts: {'; '.join(doubts)}")
        self.tell(doubts)

    def tell(self, doubts: tuple[str, ...]) -> None:
        """Tell what speaks against the choice, each thing once."""
        for doubt in doubts:
            if doubt not in self.doubts:
                self.doubts.append(doubt)
                self.note(doubt)

    def shortened(self, long: Any, profile: DepthProfile, reference: float, chosen: int, searches: bool) -> Short:
        """Return the model that is cut at a depth, and trained then if that was asked for; see `smallest_healed`."""
        if "heal" in self.makers:
            return self.smallest_healed(long, profile, reference, chosen, searches)
        return Short(self.cut(long, chosen), chosen)

    def heal(self, long: Any, depth: int, profile: DepthProfile) -> Short:
        """Let the teacher train a model of some depth."""
        if depth not in self.healed:
            short = self.stages.trained(
                f"healed-{depth}",
                self.healing_start(long, depth),
                lambda copy: self.taught(copy, self.makers["heal"], "full"),
            ).eval()
            self.healed[depth] = Short(short, depth, self.end_of(short, profile.num_examples))
        return self.healed[depth]

    def healing_start(self, long: Any, depth: int) -> Any:
        """Return what is healed at a depth: by default the first layers of the model whose every depth was taught."""
        return self.cut(long, depth)

    def smallest_healed(self, long: Any, profile: DepthProfile, reference: float, chosen: int, searches: bool) -> Short:
        """Return the model that is healed at a depth, or at a smaller one that is good enough, found by bisection.

        What healing made worse is returned as it was cut; where nothing is cut off there is nothing to heal.

        Args:
            long (`PreTrainedModel`): What is cut.
            profile (`DepthProfile`): Of `long`.
            reference (`float`): What the metric is compared with.
            chosen (`int`): A depth that is good enough as it is cut, or full depth.
            searches (`bool`): Whether smaller ones are tried.
        """
        depths = [depth for depth in profile.depths if 0 < depth < chosen] if searches else []
        low, high = 0, len(depths)
        while low < high:
            middle = (low + high) // 2
            end = self.heal(long, depths[middle], profile).trained
            assert end is not None
            if same_everywhere(self.choice.is_good_enough(end.values[-1], profile, reference)):
                high = middle
            else:
                low = middle + 1
        depth = [*depths, chosen][low]
        if depth == profile.depths[-1]:
            return Short(self.cut(long), depth)
        healed = self.heal(long, depth, profile)
        assert healed.trained is not None
        is_worse = same_everywhere(profile.is_better(profile.value_at(depth), healed.trained.values[-1]))
        return Short(self.cut(long, depth), depth) if is_worse else healed

    def remarks(self, short: Short, before: DepthProfile, profile: DepthProfile, model: Any) -> tuple[str, ...]:
        """Return what to say where training was of no use, of some depths or of the model that came out."""
        dead = _dead_depths(profile, inner_model(model)) if "teach" in self.makers else ()
        return (*dead, *self._harm(short, before, profile))

    def _harm(self, short: Short, before: DepthProfile, profile: DepthProfile) -> tuple[str, ...]:
        at_first, taught = before.values[-1], profile.values[-1]
        is_taught = "teach" in self.makers and short.depth == profile.depths[-1] and short.trained is None
        if is_taught and profile.is_better(at_first, taught):
            return (
                f"nothing was cut off, and teaching made full depth worse: {profile.metric} {at_first:.4f} before, "
                f"{taught:.4f} taught; the model as it was is the better one",
            )
        cut, healed = profile.value_at(short.depth), self.healed.get(short.depth)
        what = f"{profile.metric} {cut:.4f} as cut"
        if healed is not None and healed.trained is not None and short.trained is None:
            value = healed.trained.values[-1]
            return (f"healing made it worse, and was left out: {what}, {value:.4f} healed",)
        if short.trained is not None and profile.is_better(cut, short.trained.values[-1]):
            return (f"fine-tuning made it worse: {what}, {short.trained.values[-1]:.4f} fine-tuned",)
        return ()


def against(before: DepthProfile, profile: DepthProfile, short: Short) -> DepthProfile | None:
    """Return the profile of two depths that a short model makes with the model that it came from.

    Args:
        before (`DepthProfile`): Whose full depth counts.
        profile (`DepthProfile`): Of what was cut.
        short (`Short`): The short model; `None` is returned if nothing was cut off.
    """
    full, depth = before.depths[-1], short.depth
    ours, at = (profile, depth) if short.trained is None else (short.trained, short.trained.depths[-1])
    if depth >= full or before.evidence is None or ours.evidence is None:
        return None
    evidence = Evidence(before.evidence.metric)
    for (kept, references), (kept_by_us, _) in zip(before.evidence.batches(), ours.evidence.batches(), strict=True):
        evidence.extend([({depth: kept_by_us[at], full: kept[full]}, references)])
    return DepthProfile(
        (depth, full),
        (ours.value_at(at), before.values[-1]),
        before.metric,
        before.greater_is_better,
        before.num_examples,
        (ours.num_parameters[ours.depths.index(at)], before.num_parameters[-1]),
        evidence,
    )


def _dead_depths(profile: DepthProfile, model: Any) -> tuple[str, ...]:
    """Return in words which depths that have layers give one answer to every example."""
    first = int(profile.depths[0] == 0)
    if len(profile.depths) <= first:
        return ()
    of_layers = {name: getattr(profile, name)[first:] for name in ("depths", "values", "num_parameters")}
    return same_answers(replace(profile, **of_layers), model=model)


def _interval(beside: DepthProfile | None) -> tuple[float, float] | None:
    """Return what the short model loses, as far as the examples can tell."""
    try:
        return None if beside is None else beside.loss_interval(beside.depths[0])
    except ProfileError:  # too few examples
        return None
