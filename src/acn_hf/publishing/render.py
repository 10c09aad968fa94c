"""Facts to a model card, alone or inside a card that is there."""

import re
from collections.abc import Iterable
from importlib import resources
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub import ModelCard

from ..depth.cost import Cost
from ..depth.profile import DepthProfile
from ..embeddings.references import NEIGHBOURS, SPEARMAN
from ..support.records import Record
from .facts import CardFacts
from .metadata import merged, metadata

_BLOCK = re.compile(r"<!-- acn-hf: begin -->.*<!-- acn-hf: end -->", re.S)

_CONNECTION_FIELDS = (
    "residual_scale",
    "learn_residual_scale",
    "attention_residual",
    "readout",
    "pooling",
    "block_type",
)
MEANINGS = {
    NEIGHBOURS: "the share of the nearest neighbours of a text that are its nearest neighbours to the model which "
    "embeddings are compared with, at its full depth",
    SPEARMAN: "the rank correlation of the similarities of all pairs of texts with those that the model gives which "
    "embeddings are compared with, at its full depth",
}
"""What is compared where there are no labels."""
_NAMED_WHERE_SET = ("direct_gradient_only",)


def render_model_card(
    facts: CardFacts,
    *,
    picture: str | None = None,
    page: str | None = None,
    existing: str | None = None,
    previous: CardFacts | None = None,
) -> str:
    """Return the text of a model card, metadata included.

    Args:
        facts (`CardFacts`): What it says.
        picture (`str`, *optional*): Where the card finds the picture of the profile.
        page (`str`, *optional*): Where it finds the page of the result.
        existing (`str`, *optional*): A card that is there already, by `Trainer` or by hand. It is kept: the new text
            stands at its end, or in the place of the text that acn-hf wrote before, and the metadata are merged.
        previous (`CardFacts`, *optional*): What acn-hf rendered before, so that results of then do not stay.

    Raises:
        ValueError: The metadata of the existing card cannot be read.
    """
    template = resources.files(__package__).joinpath("template.md").read_text()
    card = ModelCard.from_template(metadata(facts), template_str=template, **_parts(facts, picture), page=page)
    block = _BLOCK.search(card.text)
    assert block is not None, "the template holds the two marks"
    if existing is None or not existing.strip():
        return _ended(str(card))
    try:
        whole = ModelCard(existing)
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of the card that is there cannot be read: {error}") from error
    if _BLOCK.search(whole.text):
        whole.text = _BLOCK.sub(lambda match: block[0], whole.text)
    else:
        whole.text = f"{whole.text.rstrip()}\n\n{block[0]}\n"
    whole.data = merged(whole.data, metadata(facts), previous)
    return _ended(str(whole))


def _ended(text: str) -> str:
    return text.rstrip("\n") + "\n"


def _parts(facts: CardFacts, picture: str | None) -> dict[str, Any]:
    """Return what the template is filled with."""
    return {
        "facts": facts,
        "picture": picture,
        "metric": None if facts.profile is None else _escaped(facts.profile.metric),
        "finetuning": _finetuning(facts),
        "trained": "healed" if _is_healed(facts) else "fine-tuned",
        "spread": _is_spread(facts),
        "compared": _compared(facts),
        "tested": _tested(facts),
        "doubts": () if facts.compression is None else facts.compression.doubts,
        "explained": _explained(facts),
        "costs": _costs(facts),
        "circumstances": _circumstances(facts.cost_after or facts.cost_before),
        "results": _results(facts),
        "depths": _depths(facts),
        "data": _data(facts),
        "training": _fields(facts.training or {}),
        "connections": _fields(_connections(facts.config)) if facts.is_acn else None,
    }


def _connections(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a config that say how layers are connected."""
    names = [name for name in _CONNECTION_FIELDS if name in config]
    return {name: config[name] for name in (*names, *(name for name in _NAMED_WHERE_SET if config.get(name)))}


def _data(facts: CardFacts) -> str:
    return " ".join(filter(None, (facts.dataset, f"({facts.split})" if facts.split else None)))


def _finetuning(facts: CardFacts) -> str | None:
    """Return what training after the cut did to the metric of the profile."""
    if facts.finetuned is None or facts.profile is None:
        return None
    profile, where = facts.profile, f" on {data}" if (data := _data(facts)) else ""
    before = f"{profile.value_at(facts.depth):.4f} before"
    if facts.depth < facts.full_depth:
        before = f"{profile.value_at(facts.depth):.4f} as it was cut"
        if _long(facts) is None:
            before += f", and {profile.values[-1]:.4f} at full depth"
    how = "healed, which means trained by the teacher" if _is_healed(facts) else "fine-tuned"
    compared = f"that of the first {facts.depth} layers was" if _is_spread(facts) else "it was"
    return f"It was then {how}: {_escaped(profile.metric)} **{facts.finetuned:.4f}**{where}; {compared} {before}."


def _is_healed(facts: CardFacts) -> bool:
    """Return whether what was left was trained by a teacher."""
    return facts.finetuned is not None and facts.compression is not None and bool(facts.compression.healed)


def _is_spread(facts: CardFacts) -> bool:
    """Return whether what was healed may have begun with other layers than the first: a SentenceTransformer does."""
    return facts.library is not None and not facts.is_acn and _is_healed(facts)


def _long(facts: CardFacts) -> DepthProfile | None:
    """Return the profile of the model before it was taught, if that is known."""
    return None if facts.compression is None else facts.compression.before


def _compared(facts: CardFacts) -> str | None:
    """Return how this model compares with the one that it was made from, before that was taught."""
    profile, known = facts.profile, facts.compression
    if profile is None or known is None:
        return None
    sentences, metric = [], _escaped(profile.metric)
    if known.before is not None:
        sentences.append(
            f"Every depth was taught before one was chosen. The model that it was made from has {metric} "
            f"{known.before.values[-1]:.4f} at full depth, before it was taught."
        )
    if known.interval is not None:
        low, high = known.interval
        sentences.append(
            f"With 95% confidence this model loses between {low:.4f} and {high:.4f} in {metric} against the "
            f"one that it was made from, on the {profile.num_examples:,} examples by which its depth was chosen. A "
            "gain is a loss below 0."
        )
    if known.calmed is not None:
        sentences.append(f"{known.calmed[0].upper()}{known.calmed[1:]}.")
    return "\n\n".join(sentences) or None


def _tested(facts: CardFacts) -> str | None:
    """Return the metric on data on which nothing was chosen, beside that on which the depth was, as a table."""
    profile, test = facts.profile, None if facts.compression is None else facts.compression.test
    if profile is None or test is None or facts.value is None:
        return None
    long = _long(facts) or profile
    other = "" if test.metric in (None, profile.metric) else f"{_escaped(test.metric)} "
    rows = [
        (_data(facts) or "the data", "the depth", profile.num_examples, long.values[-1], facts.value),
        (facts.test_data or "the test data", "nothing", test.num_examples, test.full, test.short),
    ]
    return _table(
        [_escaped(profile.metric), "before", "this model"],
        (
            [f"{kind}on {name}, by which {what} was chosen ({number:,} examples)", f"{full:.4f}", f"{short:.4f}"]
            for kind, (name, what, number, full, short) in zip(("", other), rows, strict=True)
        ),
    )


def _explained(facts: CardFacts) -> str | None:
    """Return what the metrics of embeddings are that a reader does not know by their names."""
    if facts.library is None or facts.profile is None:
        return None
    test = None if facts.compression is None else facts.compression.test
    named = {facts.profile.metric, None if test is None else test.metric}
    said = [f"`{name}`: {meaning}." for name, meaning in MEANINGS.items() if name in named]
    return "\n\n".join(said) or None


def _escaped(name: str) -> str:
    """Return the name of a metric, which may be that of any function, so that Markdown shows it as it is."""
    return re.sub(r"[\\`*\[\]<>|]", r"\\\g<0>", " ".join(name.split()))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _costs(facts: CardFacts) -> str | None:
    """Return the comparison before / after as a table, or what is known of it."""
    columns = {"before": facts.cost_before, "this model": facts.cost_after}
    known: dict[str, Cost] = {name: cost for name, cost in columns.items() if cost is not None}
    if not known:
        return None
    depths = {"before": facts.full_depth, "this model": facts.depth}
    rows = [
        ["layers", *(str(depths[name]) for name in known)],
        ["parameters", *(f"{cost.num_parameters:,}" for cost in known.values())],
        ["MB", *(f"{cost.size_bytes / 1e6:.2f}" for cost in known.values())],
        ["GFLOPs", *(f"{cost.flops / 1e9:.4g}" for cost in known.values())],
        ["latency in ms", *(f"{cost.latency_ms:.2f} ± {cost.latency_spread_ms / 2:.2f}" for cost in known.values())],
    ]
    return _table(["", *known], rows)


def _circumstances(cost: Cost | None) -> str | None:
    return None if cost is None else f"batch size {cost.batch_size}, {cost.dtype}, on {cost.device}"


def _results(facts: CardFacts) -> str:
    where = " ".join(filter(None, (facts.dataset, facts.results_split)))
    head = ["metric", f"this model on {where}" if where else "this model"]
    return _table(head, ([_escaped(name), f"{value:.4f}"] for name, value in (facts.results or {}).items()))


def _depths(facts: CardFacts) -> str | None:
    """Return the metric at every depth as a table: before teaching, taught, and healed where it was."""
    if facts.profile is None:
        return None
    profile, mark = facts.profile, facts.depth if facts.depth < facts.full_depth else None
    long, healed = _long(facts), {} if facts.compression is None else facts.compression.healed
    metric = _escaped(profile.metric)
    columns = {metric: dict(zip(profile.depths, profile.values, strict=True))}
    if long is not None:
        before = dict(zip(long.depths, long.values, strict=True))
        columns = {f"{metric} before teaching": before, "taught": columns[metric]}
    if healed:
        columns["healed"] = healed
    rows = []
    for depth, parameters in zip(profile.depths, profile.num_parameters, strict=True):
        cells = [f"{values[depth]:.4f}" if depth in values else "" for values in columns.values()]
        cells = [str(depth), *cells, f"{parameters:,}"]
        rows.append([f"**{cell}**" if depth == mark and cell else cell for cell in cells])
    return _table(["depth", *columns, "parameters"], rows)


def _fields(fields: dict[str, Any]) -> str | None:
    """Return names and values as a table; a list of equal numbers is long enough to be read as it is."""
    if not fields:
        return None
    return _table(["field", "value"], ([f"`{name}`", f"`{_plain(value)}`"] for name, value in fields.items()))


def _plain(value: Any) -> str:
    return str(value.to_dict() if isinstance(value, Record) else value).replace("|", "\\|")
