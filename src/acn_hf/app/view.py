"""What the page says of an answer, as HTML in which whatever a text, a label or a name holds is only shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..support.html import file_of, templates_of
from .answers import Answer, AtDepth
from .checkpoint import CLASSES, LABELS, NUMBERS, SIMILARITY, TAGS, Checkpoint
from .times import Times

MOST_CLASSES = 6
"""Classes, labels or numbers that have a colour; of more, those are shown that some depth thinks likeliest."""
OUTSIDE = "O"
"""The tag of words that are part of nothing."""


@dataclass(frozen=True)
class Bar:
    """A part of a row's bar, or a bar of its own.

    Args:
        name (`str`): Of what it shows.
        colour (`int`): From 1; 0 is what has none of its own.
        start, width (`float`): In percent of the place.
    """

    name: str
    colour: int
    start: float
    width: float


def show_answers(
    checkpoints: Sequence[Checkpoint], answers: Sequence[Answer], times: Sequence[Times] | None = None
) -> list[str]:
    """Return the HTML of what each checkpoint answers; the same class has the same colour in all of them.

    Args:
        checkpoints (sequence of `Checkpoint`): Which have given the answers.
        answers (sequence of `Answer`): One of each.
        times (sequence of `Times`, *optional*): Of every depth of each; `None` while they are measured.
    """
    alike = len({(answer.kind, answer.names) for answer in answers}) == 1
    taken: Sequence[Times | None] = [None] * len(answers) if times is None else times
    return [
        _show_answer(checkpoint, answer, _shown(answers if alike else [answer]), measured)
        for checkpoint, answer, measured in zip(checkpoints, answers, taken, strict=True)
    ]


def _show_answer(checkpoint: Checkpoint, answer: Answer, shown: Sequence[int], times: Times | None) -> str:
    rows = [_row(answer, one, shown, times) for one in answer.at]
    named = [{"name": answer.names[number], "colour": place + 1} for place, number in enumerate(shown)]
    left_out = len(answer.names) - len(shown)
    legend = [*named, *([{"name": f"{left_out:,} others", "colour": 0}] if answer.kind == CLASSES and left_out else [])]
    return _render(
        "answer.html.jinja",
        checkpoint=checkpoint,
        answer=answer,
        rows=rows,
        named=named,
        legend=legend if answer.kind in (CLASSES, LABELS) and len(answer.names) > 1 else [],
        times=times,
        headline=headline(answer),
        exit_words=exit_words(checkpoint, answer, times),
        has_sureness=answer.full.sure is not None,
        numbers=answer.kind in (CLASSES, LABELS),
        about=about(checkpoint),
    )


def show_waiting(checkpoint: Checkpoint) -> str:
    """Return the HTML of a checkpoint that nobody has asked yet."""
    hint = f"{checkpoint.asks}, and every depth from {checkpoint.depths[0]} to {checkpoint.depths[-1]} answers here."
    return _render("waiting.html.jinja", checkpoint=checkpoint, about=about(checkpoint), hint=hint)


def show_refusal(sentence: str) -> str:
    """Return the HTML of a sentence that says why there is no answer."""
    return _render("refusal.html.jinja", sentence=sentence)


def show_title(title: str, lead: str) -> str:
    """Return the HTML at the top of the page."""
    return _render("title.html.jinja", title=title, lead=lead)


def about(checkpoint: Checkpoint) -> str:
    """Return what kind of model a checkpoint is."""
    inner, layers = checkpoint.inner, checkpoint.depths[-1]
    said = [type(inner).__name__, f"{layers} layer{'s' if layers != 1 else ''}"]
    if checkpoint.record is not None:
        before = (checkpoint.record.figures.before or checkpoint.record.figures.profile).depths[-1]
        if before > layers:
            said[-1] += f" of {before}"
    return ", ".join([*said, f"{inner.num_parameters():,} parameters"])


def headline(answer: Answer) -> str:
    """Return from where on the answer is that of the whole model, in a sentence."""
    lowest, full, stable = answer.at[0].depth, answer.full.depth, answer.stable_from
    if len(answer.at) == 1:
        return f"There is one depth, {full}."
    if answer.kind in (NUMBERS, SIMILARITY):
        return f"At full depth, {full}; below is what each depth says."
    what = {LABELS: "labels are", TAGS: "tags are"}.get(answer.kind, "answer is")
    if stable == lowest:
        return f"The {what} the same at every depth, from {lowest} to {full}."
    if stable == full:
        before = answer.at[-2]
        said = "other tags" if answer.kind == TAGS else before.said
        return f"The last layer decides: depth {before.depth} of {full} still says {said}."
    return f"The {what} the same from depth {stable} of {full} on."


def exit_words(checkpoint: Checkpoint, answer: Answer, times: Times | None) -> str | None:
    """Return where early exit leaves, in a sentence, if there is a policy."""
    if answer.exit_depth is None or checkpoint.policy is None:
        return None
    fields = checkpoint.policy.to_dict()
    name = fields.pop("policy")
    told = [f"{key} {value:.4g}" for key, value in fields.items() if isinstance(value, float)]
    told = told or [f"{key} {value}" for key, value in fields.items() if key == "patience"]
    policy = " ".join([name, *told])
    depth, full = answer.exit_depth, answer.full.depth
    if depth == full:
        return f"Early exit ({policy}) does not leave before full depth, {full}."
    at = next((one for one in answer.at if one.depth == depth), None)
    is_same = at is not None and answer.is_as_at_full_depth(at)
    same = "" if at is None else ", with the same answer" if is_same else ", with another answer"
    if times is not None and depth in times.milliseconds:
        here, whole = times.milliseconds[depth], times.milliseconds[full]
        same += f"; that depth takes {milliseconds(here)} in the place of {milliseconds(whole)}"
    return f"Early exit ({policy}) leaves at depth {depth} of {full}{same}."


def percent(value: float) -> str:
    """Return a probability as it is read; nothing is wholly sure."""
    if value > 0.9995:
        return "> 99.9%"
    return f"{value:.1%}" if value > 0.9945 else f"{value:.0%}"


def milliseconds(value: float) -> str:
    """Return a time as it is read."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ms"


def _shown(answers: Sequence[Answer]) -> list[int]:
    """Return the numbers of the classes that have a colour, in the order of their ids where all have one."""
    first = answers[0]
    if first.kind == TAGS:
        return []
    number = len(first.names)
    if number <= MOST_CLASSES:
        return list(range(number))
    likeliest = {place: max(one.scores[place] for answer in answers for one in answer.at) for place in range(number)}
    chosen = sorted(likeliest, key=lambda place: -likeliest[place])[:MOST_CLASSES]
    return sorted(chosen, key=lambda place: -first.full.scores[place])


def _row(answer: Answer, one: AtDepth, shown: Sequence[int], times: Times | None) -> dict[str, Any]:
    """Return what is shown of one depth."""
    time = None if times is None else times.milliseconds.get(one.depth)
    full = None if times is None else times.milliseconds[answer.full.depth]
    return {
        "depth": one.depth,
        "said": one.said,
        "sure": "" if one.sure is None else percent(one.sure),
        "time": "" if time is None else milliseconds(time),
        "time_width": 0.0 if time is None or not full else min(100.0, 100 * time / full),
        "is_full": one.depth == answer.full.depth,
        "is_exit": one.depth == answer.exit_depth,
        "bars": _bars(answer, one, shown),
        "stacked": answer.kind == CLASSES,
        "words": _words(answer, one),
        "scores": [f"{one.scores[number]:.3f}" for number in shown],
    }


def _bars(answer: Answer, one: AtDepth, shown: Sequence[int]) -> list[Bar]:
    if answer.kind == TAGS:
        return []
    if answer.kind == CLASSES:
        bars, start = [], 0.0
        for place, number in enumerate(shown):
            width = 100 * one.scores[number]
            bars.append(Bar(answer.names[number], place + 1, start, width))
            start += width
        return bars
    if answer.kind == LABELS:
        return [
            Bar(answer.names[number], place + 1, 0.0, 100 * one.scores[number]) for place, number in enumerate(shown)
        ]
    every = [depth.scores[number] for depth in answer.at for number in shown]
    low, high = min(0.0, *every), max(0.0, *every)
    span = (high - low) or 1.0
    return [
        Bar(
            answer.names[number],
            place + 1,
            100 * (min(0.0, one.scores[number]) - low) / span,
            100 * abs(one.scores[number]) / span,
        )
        for place, number in enumerate(shown)
    ]


def _words(answer: Answer, one: AtDepth) -> list[dict[str, Any]]:
    """Return the words of a text with their tags, and whether these are those of full depth."""
    return [
        {"word": word, "tag": "" if tag == OUTSIDE else tag, "differs": tag != full}
        for word, tag, full in zip(answer.words, one.tags, answer.full.tags, strict=False)
    ]


def _render(name: str, **shown: Any) -> str:
    return templates_of(__package__).get_template(name).render(**shown)


def style() -> str:
    """Return the style sheet of all that is shown."""
    return file_of(__package__, "app.css")


def script() -> str:
    """Return the script of the page."""
    return file_of(__package__, "app.js")
