"""The stages of `compress`: a model with a head, which is fine-tuned, taught by logits, cut and healed."""

from dataclasses import dataclass
from typing import Any

from transformers import Trainer

from ..depth.doubts import never_answered
from ..depth.layers import layers_of
from ..depth.profile import DepthProfile, measure_depth_profile
from ..publishing.facts import training_fields
from ..report.answers import Measurements
from ..support.auto_classes import auto_class_for
from ..support.wrappers import unwrap
from ..training.answers import AnswerBook
from ..training.distillation import DistillationLoss
from ..training.finetuning import Finetune, fine_tune
from ..training.teaching import taught_by
from .any_job import AnyJob, Short


@dataclass(kw_only=True)
class Job(AnyJob):
    """One call of `compress`.

    Args:
        book (`AnswerBook`): What the teacher said already.
        soft_labels (`float`): See [`compress`].
        num_depths (`int`, *optional*): See [`compress`].
        calm (`bool`): See [`compress`].
    """

    book: AnswerBook
    soft_labels: float
    num_depths: int | None
    calm: bool
    distillation: DistillationLoss | None = None

    def measure(self, model: Any, data: Any, **options: Any) -> DepthProfile:
        """Return the metric at every depth of a model, unless `options` ask for others."""
        return measure_depth_profile(model, data, **options)

    def tuned(self, model: Any) -> Any:
        """Return the model fine-tuned, if that was asked for."""
        tune = self.makers.get("tune")
        if tune is None:
            return model
        if not self.stages.holds("tuned"):
            untrained = self.measured(model, **({} if self.choice.limits else {"depths": []}))
            self.warn(self.data_doubts(untrained, model))
            self.cost_within_limits(model, untrained)
        maker = self.noted("tuned", tune)
        return self.stages.trained("tuned", self.cut(model), lambda copy: fine_tune(copy, maker)).eval()

    def meet_teacher(self, model: Any, teacher: Any, before: DepthProfile) -> tuple[str, ...]:
        """Return what a model that teaches itself never says."""
        teaches = unwrap(model) if teacher is None else teacher
        self.distillation = DistillationLoss(teaches, soft_labels=self.soft_labels)
        return never_answered(before, model=unwrap(model)) if teacher is None else ()

    def measurements(self, short: Short, before: DepthProfile, profile: DepthProfile) -> Measurements:
        """Return what was measured of the model of each depth: of a healed one where it is better than as cut."""
        trained = {
            depth: one.trained
            for depth, one in self.healed.items()
            if one.trained is not None and not profile.is_better(profile.value_at(depth), one.trained.values[-1])
        }
        trained.pop(short.depth, None)
        if short.trained is not None:
            trained[short.depth] = short.trained
        network = unwrap(short.model)
        return Measurements(before, profile, trained, auto_class_for(type(network)), network.config)

    def noted(self, stage: str, maker: Finetune) -> Finetune:
        """Return a maker whose Trainers' arguments are noted, with which the stage can be done again."""

        def make_trainer(model: Any) -> Any:
            trainer = maker(model)
            if isinstance(trainer, Trainer):
                self.stages.note(stage, training=training_fields(trainer.args))
            return trainer

        return make_trainer

    def taught(self, student: Any, make_trainer: Finetune, weights: str) -> Any:
        """Return what the teacher makes of a model."""
        assert self.distillation is not None
        stage = "taught" if weights == "uniform" else f"healed-{len(layers_of(unwrap(student)))}"
        return taught_by(
            self.distillation,
            student,
            self.noted(stage, make_trainer),
            weights,
            self.num_depths if weights == "uniform" else None,
            self.book,
            calm=self.calm,
            note=lambda calmed: self.stages.note(stage, calmed=calmed.to_dict()),
        )

    def shortened(self, long: Any, profile: DepthProfile, reference: float, chosen: int, searches: bool) -> Short:
        """Return the model that is cut at a depth, and trained then, with or without a teacher, if asked for."""
        if "finetune" in self.makers:
            return self.finetuned(long, chosen, profile)
        return super().shortened(long, profile, reference, chosen, searches)

    def finetuned(self, long: Any, depth: int, profile: DepthProfile) -> Short:
        """Cut a model and train what is left, without a teacher."""
        maker = self.noted("finetuned", self.makers["finetune"])
        short = self.stages.trained("finetuned", self.cut(long, depth), lambda copy: fine_tune(copy, maker))
        return Short(short, len(layers_of(unwrap(short))), self.end_of(short, profile.num_examples))
