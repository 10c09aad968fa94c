"""Whether the data could choose a depth at all, said in words."""

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .bootstrap import resampled_loss
from .evidence import Evidence
from .metrics import ROUNDING, Metric
from .profile import DepthProfile
from .spans import as_objects

STANDARD_ERRORS = 1.96
"""Within so many of them lie 95% of what chance does."""
FEW_RESAMPLES = 100
"""Enough for a standard error, of a metric that must be computed anew for each."""
OFTEN = 20
"""Examples of a class, of which a model that knows it answers one at least."""
TOO_MANY = 20_000
"""Examples of which such a metric is not resampled: it takes long, and so many leave little to chance."""
ONE_EXAMPLE = "the data hold one example, by which no depth can be chosen"


def doubts_about(profile: DepthProfile, tolerance: float | None, depth: int, *, model: Any = None) -> tuple[str, ...]:
    """Return the reasons not to trust a depth that was chosen by a profile, in words; nothing where there is none.

    Of a profile that was loaded from a file only what its values show is said, since it holds no examples.

    Args:
        profile (`DepthProfile`): What the depth was chosen by.
        tolerance (`float`, *optional*): How much worse than full depth the metric may be, in units of the metric.
            `None` where the depth was chosen otherwise.
        depth (`int`): The chosen depth.
        model (`PreTrainedModel` or `PreTrainedConfig`, *optional*): Names the classes (`id2label`).

    Raises:
        ProfileError: `depth` was not measured.
    """
    profile.value_at(depth)
    if profile.num_examples == 1:
        return (ONE_EXAMPLE,)
    return tuple(_doubts(profile, tolerance, depth, _Answers.of(profile, model)))


def doubts_about_data(profile: DepthProfile, tolerance: float | None, *, model: Any = None) -> tuple[str, ...]:
    """Return the reasons for which the data can choose no depth at all, whatever a model answers; mostly nothing.

    Args:
        profile (`DepthProfile`): A profile that was just measured, of any model at one depth or more.
        tolerance (`float`, *optional*): How much worse than full depth the metric may be, in units of the metric.
            `None` where the depth is chosen otherwise.
        model (`PreTrainedModel` or `PreTrainedConfig`, *optional*): Names the classes (`id2label`).
    """
    if profile.num_examples == 1:
        return (ONE_EXAMPLE,)
    answers = _Answers.of(profile, model)
    if answers is None:
        return ()
    if (one_label := answers.one_label()) is not None:
        return (one_label,)
    number = len(answers.references)
    # Where no answer of so many differs, 3 / number of all answers may still (at 95%).
    if not tolerance or answers.evidence.metric.needs != "classes" or tolerance * number >= 3:
        return ()
    unit = f"{_unit(profile, number)}s"
    return (
        f"on {number:,} {unit} a difference of {tolerance:g} in {profile.metric} can never be told from chance, at "
        f"best one above {3 / number:.2g}: it takes at least {_rounded_up(3 / tolerance):,} {unit}",
    )


def same_answers(profile: DepthProfile, *, model: Any = None) -> tuple[str, ...]:
    """Return, in words, which depths give one answer to every example.

    Nothing is said of data that have one label only, of losses, and of a profile that was loaded from a file.

    Args:
        profile (`DepthProfile`): A profile that was just measured.
        model (`PreTrainedModel` or `PreTrainedConfig`, *optional*): Names the classes (`id2label`).
    """
    answers = _Answers.of(profile, model)
    if answers is None or _constant(answers.references) is not None:
        return ()
    depths: dict[str, list[int]] = {}
    for depth in profile.depths:
        if (answer := answers.only_one(depth)) is not None:
            depths.setdefault(answer, []).append(depth)
    return tuple(answers.says(which, answer) for answer, which in depths.items())


def never_answered(profile: DepthProfile, *, model: Any = None) -> tuple[str, ...]:
    """Return, in words, which classes full depth answers for no example, though many have them as their label.

    Nothing is said of a model that gives one answer only, of what has no named classes, and of a profile that was
    loaded from a file.

    Args:
        profile (`DepthProfile`): Of a model that is to teach: it cannot teach what it never says.
        model (`PreTrainedModel` or `PreTrainedConfig`, *optional*): Names the classes (`id2label`).
    """
    answers = _Answers.of(profile, model)
    if answers is None or answers.only_one(profile.depths[-1]) is not None:
        return ()
    has_classes = answers.evidence.metric.needs == "tags" or (answers.names and answers.references.dtype.kind in "biu")
    if not has_classes or answers.references.ndim != 1:
        return ()
    said = set(_flat(answers.evidence.arrays(profile.depths[-1])[0]).tolist())
    labels, counts = np.unique(answers.references, return_counts=True)
    return tuple(
        f"the model that teaches answers {answers.name(label)} for no {answers.unit}, though {count:,} have that "
        "label: it cannot teach what it never says, so train it longer before it teaches"
        for label, count in zip(labels, counts, strict=True)
        if count >= OFTEN and label.item() not in said
    )


@dataclass(frozen=True)
class _Answers:
    """The predictions and the labels of a profile, as arrays of numbers or words.

    Args:
        evidence (`Evidence`): Holds them.
        references (`np.ndarray`): The labels; of questions, the first answer that is right.
        names (`dict[int, str]`): What the classes are called, as far as that is known.
        has_several (`bool`): Whether an example may have several of the classes.
        unit (`str`): What has a label.
    """

    evidence: Evidence
    references: np.ndarray
    names: dict[int, str]
    has_several: bool
    unit: str

    @classmethod
    def of(cls, profile: DepthProfile, model: Any) -> "_Answers | None":
        """Return those of a profile; `None` where it has no examples, or they have no labels."""
        evidence = profile.evidence
        if evidence is None or evidence.metric.needs in ("loss", "scores"):
            return None
        references = _flat(evidence.arrays(evidence.depths[-1])[1])
        if len(references) == 0:
            return None
        config = getattr(model, "config", model)
        known = getattr(config, "id2label", None) or {}
        names = {int(number): str(name) for number, name in known.items()}
        if references.ndim == 1 and references.dtype.kind in "biu" and int(references.max()) not in names:
            names = {}  # labels are words of a vocabulary
        has_several = getattr(config, "problem_type", None) == "multi_label_classification"
        unit = _unit(profile, len(references)) if evidence.metric.needs != "tags" else "token"
        return cls(evidence, references, names, has_several, unit)

    def always(self, answer: np.ndarray) -> np.ndarray:
        """Return predictions, as the evidence holds them, of which each is the same answer."""
        _, references = self.evidence.arrays(self.evidence.depths[-1])
        if references.dtype != object:
            return np.broadcast_to(answer, references.shape).astype(answer.dtype)
        is_of_lists = self.evidence.metric.needs == "tags"
        return as_objects([[str(answer)] * len(one) if is_of_lists else str(answer) for one in references])

    def one_label(self) -> str | None:
        """Return the sentence that every example has the same label, if it is so."""
        label = _constant(self.references)
        if label is None:
            return None
        number, name = len(self.references), self.name(label)
        return f"all {number:,} {self.unit}s have the label {name}, so a depth that answers it always looks perfect"

    def only_one(self, depth: int) -> str | None:
        """Return the answer that a depth gives to every example, if it gives but one."""
        answer = _constant(_flat(self.evidence.arrays(depth)[0]))
        return None if answer is None else self.name(answer)

    def name(self, answer: np.ndarray) -> str:
        """Return what an answer is called."""
        if answer.dtype.kind == "U":
            return f'"{answer}"'
        if answer.dtype.kind == "f":
            return ", ".join(f"{number:.4g}" for number in answer.reshape(-1))
        if answer.ndim == 0:
            return f'"{self.names[int(answer)]}"' if int(answer) in self.names else str(int(answer))
        if self.has_several and len(answer) == len(self.names):
            return " and ".join(f'"{self.names[int(index)]}"' for index in np.flatnonzero(answer)) or "no label"
        return ", ".join(map(str, answer.reshape(-1)))

    def says(self, depths: Iterable[int], answer: str) -> str:
        """Return the sentence that some depths give one answer only."""
        *first, last = map(str, depths)
        which = f"depths {', '.join(first)} and {last} answer" if first else f"depth {last} answers"
        return f"{which} {answer} for every {self.unit}"


def _doubts(profile: DepthProfile, tolerance: float | None, depth: int, answers: _Answers | None) -> Iterator[str]:
    metric, values = profile.metric, profile.values
    if len(values) > 2 and max(values) - min(values) <= ROUNDING:
        yield f"every depth has the same {metric}, {values[0]:.4g}: the layers change nothing that it sees"
    if answers is not None:
        yield from _doubts_about_answers(profile, depth, answers)
    if depth == 0:
        yield "depth 0 has no layer: the embeddings and the head alone would do, which is seldom true"
    if profile.evidence is not None and tolerance:
        yield from _doubts_about_resolution(profile, profile.evidence, tolerance, depth)


def _doubts_about_answers(profile: DepthProfile, depth: int, answers: _Answers) -> Iterator[str]:
    if (one_label := answers.one_label()) is not None:
        yield one_label
        return
    yield from _doubts_about_chance(profile, answers)
    if (answer := answers.only_one(depth)) is not None:
        yield answers.says([depth], answer)


def _doubts_about_chance(profile: DepthProfile, answers: _Answers) -> Iterator[str]:
    """Say if full depth is no better than one answer to everything."""
    metric, guess = answers.evidence.metric, _best_guess(answers.evidence.metric, answers.references)
    full_kept, references = answers.evidence.arrays(profile.depths[-1])
    blind = answers.always(guess)
    value = _score(metric, blind, references)
    if value is None or metric.name == "recall":  # whoever answers the positive class always recalls all of it
        return
    full, sign = profile.values[-1], 1 if metric.greater_is_better else -1
    gain = sign * (full - value)
    beside = f"{value:.4f}, which answering {answers.name(guess)} for every {answers.unit} gives"
    if gain <= ROUNDING:
        yield f"{metric.name} at full depth, {full:.4f}, is no better than {beside}: no depth has anything to keep"
        return
    error = _standard_error(metric, blind, full_kept, references)
    if error is not None and gain <= STANDARD_ERRORS * error:
        number = f"{len(references):,} {_unit(profile, len(references))}s"
        yield f"{metric.name} at full depth, {full:.4f}, cannot be told on {number} from {beside}"


def _doubts_about_resolution(profile: DepthProfile, evidence: Evidence, tolerance: float, depth: int) -> Iterator[str]:
    """Say if chance alone could have decided between the chosen depth and full depth."""
    sign = 1 if profile.greater_is_better else -1
    if len(profile.depths) == 1:
        return
    if depth == profile.depths[-1]:  # then the best of the others was not good enough
        depth = max(profile.depths[:-1], key=lambda one: sign * profile.value_at(one))
    lost = sign * (profile.values[-1] - profile.value_at(depth))
    (kept, references), (full_kept, _) = evidence.arrays(depth), evidence.arrays(profile.depths[-1])
    number = len(references)
    error = _standard_error(evidence.metric, kept, full_kept, references)
    if error is None:
        return
    chance = STANDARD_ERRORS * error
    needed = number * (chance / tolerance) ** 2
    if evidence.metric.needs == "classes" and np.array_equal(kept, full_kept):
        # Where no answer of so many differs, 3 / number of all answers may still (at 95%).
        chance, needed = 3 / number, 3 / tolerance
    if chance <= tolerance or abs(lost - tolerance) >= chance:
        return
    units = {"loss": "batches", "answers": "questions"}
    unit = units.get(evidence.metric.needs, f"{_unit(profile, number)}s")
    yield (
        f"on {number:,} {unit} a difference of {tolerance:g} in {profile.metric} cannot be told from chance, only one "
        f"above {chance:.2g}: it would take about {_rounded_up(needed):,} {unit}"
    )


def _standard_error(metric: Metric, kept: np.ndarray, full_kept: np.ndarray, references: np.ndarray) -> float | None:
    """Return the standard error of what some predictions lose against others; `None` if it cannot be had."""
    is_mean = metric.per_example is not None and metric.of_mean is None
    if len(references) < 2 or (not is_mean and len(references) > TOO_MANY):
        return None
    options = {} if is_mean else {"n_resamples": FEW_RESAMPLES}
    with contextlib.suppress(TypeError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what was drawn may lack a class, of which metrics warn, or which they refuse
        error = float(resampled_loss(metric, kept, full_kept, references, **options).standard_error)
        return error if math.isfinite(error) else None
    return None


def _best_guess(metric: Metric, references: np.ndarray) -> np.ndarray:
    """Return what one would answer who knows the labels and no example: the most frequent, or the mean of numbers."""
    if references.dtype.kind == "f":
        return np.asarray(np.median(references, axis=0) if metric.name == "mae" else references.mean(axis=0))
    labels, counts = np.unique(references, axis=0, return_counts=True)
    return np.asarray(labels[counts.argmax()])


def _score(metric: Metric, predictions: np.ndarray, references: np.ndarray) -> float | None:
    with contextlib.suppress(TypeError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are not predicted
        value = float(metric.score(predictions, references))
        return value if math.isfinite(value) else None
    return None  # a metric of one's own, which need not take them


def _unit(profile: DepthProfile, number: int) -> str:
    """Return what one of so many labels of a profile belongs to."""
    needs = None if profile.evidence is None else profile.evidence.metric.needs
    named = {"tags": "text", "answers": "question"}
    return named.get(needs or "", "example" if number == profile.num_examples else "token")


def _flat(array: np.ndarray) -> np.ndarray:
    """Return lists of tags as one array of all of them, and right answers as an array of the first to each question."""
    if array.dtype != object:
        return array
    if all(isinstance(one, list) for one in array):
        return np.array(list(chain.from_iterable(array)), dtype=str)
    return np.array([one if isinstance(one, str) else one[0] for one in array], dtype=str)


def _constant(array: np.ndarray) -> np.ndarray | None:
    """Return the row that all rows of an array are, if they are."""
    are_same = np.allclose(array, array[:1]) if array.dtype.kind == "f" else (array == array[:1]).all()
    return np.asarray(array[0]) if are_same else None


def _rounded_up(number: float) -> int:
    """Return a number with one digit that counts, as "about" asks for."""
    step = 10 ** math.floor(math.log10(number))
    return math.ceil(number / step) * step
