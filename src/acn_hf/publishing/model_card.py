"""A card, its picture and its record, written together."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from ..depth.cost import Cost
from ..depth.drawing import plot_depth_profile
from ..depth.profile import DepthProfile
from ..modeling.checkpoint import written_beside
from .compressed import Compressed
from .facts import RECORD_FILE, CardFacts, collect, facts_in
from .render import render_model_card

CARD_FILE = "README.md"
PICTURE_FILE = "depth_profile.png"
PAGE_FILE = "report.html"
"""The page of a result, which `acn_hf.report` writes."""


def write_model_card(
    folder: str | os.PathLike,
    source: Any = None,
    *,
    result: Compressed | None = None,
    profile: DepthProfile | None = None,
    cost_before: Cost | None = None,
    cost_after: Cost | None = None,
    training: TrainingArguments | dict[str, Any] | None = None,
    **facts: Any,
) -> CardFacts:
    """Write the model card of a checkpoint, with valid metadata for the Hub.

    `README.md`, the picture `depth_profile.png` and the record `model_card.json` appear together. Without a profile the
    card has no picture, and without matplotlib it has the one that lies there, if that shows the same. It links to the
    page of the result, `report.html`, if that lies there. A card that is there, by `Trainer` or by hand, is kept: the
    text is added to it or replaces the text of an earlier call, and the metadata are merged.

    Args:
        folder (`str` or `os.PathLike`): The folder of the checkpoint.
        source (`PreTrainedModel`, `PreTrainedConfig` or `CardFacts`, *optional*):
            What the card is about. Defaults to the model of `result`, else to the record of an earlier card in the
            folder, to which the other arguments add, else to the config in the folder.
        result (`CompressionResult`, *optional*): Gives model, profile and costs, unless they are given.
        profile (`DepthProfile`, *optional*): The metric at every depth, before the model was cut.
        cost_before (`Cost`, *optional*): Of the model before it was cut.
        cost_after (`Cost`, *optional*): Of this model.
        training (`TrainingArguments` or `dict`, *optional*): How it was trained; of `TrainingArguments` only what
            decides how a model turns out is shown, and no folder or token.
        facts: Further fields of [`CardFacts`]: `name`, `repo_id`, `dataset`, `results`, `license` and so on.

    Returns:
        `CardFacts`: What the card was rendered from; `render_model_card` makes the same text of it.

    Raises:
        OSError: The folder cannot be written, or neither `source` nor the folder says what the card is about.
        TypeError: `source` is no model of transformers, or a fact has an unknown name.
        ValueError: The profile does not hold the depth of the model, a card that is there cannot be read, or the facts
            name other data than those that its numbers, which are not given anew, were measured on.

    Example:

    ```python
    >>> import tempfile
    >>> from pathlib import Path
    >>> from acn_hf import AcnBertConfig, AcnBertForMaskedLM, write_model_card

    >>> model = AcnBertForMaskedLM(AcnBertConfig(num_hidden_layers=2, hidden_size=48))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     facts = write_model_card(folder, model, name="tiny AC-BERT", license="apache-2.0")
    ...     "pipeline_tag: fill-mask" in Path(folder, "README.md").read_text()
    True

    ```
    """
    measured = {"profile": profile, "cost_before": cost_before, "cost_after": cost_after}
    collected = collect(Path(folder), source, result=result, training=training, **measured, **facts)
    with written_beside(Path(folder)) as beside:
        write_into(beside, collected, target=Path(folder))
    return collected


def write_into(
    folder: Path,
    facts: CardFacts,
    target: Path,
    *,
    has_page: bool | None = None,
    still: Callable[[], bytes] | None = None,
) -> None:
    """Write a card's three files into `folder`, from where they will move to `target`, whose card is kept.

    Where `target` has none, one that was saved into `folder` together with the model is.

    Args:
        folder (`Path`): Where they are written.
        facts (`CardFacts`): What the card says.
        target (`Path`): Where they will lie.
        has_page (`bool`, *optional*): Whether the card links to the page of the result. Defaults to whether there is
            one in a folder of the two.
        still (`Callable`, *optional*): Gives the picture of the profile where there is no matplotlib. Defaults to
            reading the one in `target` that shows the same.
    """
    if has_page is None:
        has_page = any((place / PAGE_FILE).is_file() for place in (folder, target))
    card = next((path for path in (target / CARD_FILE, folder / CARD_FILE) if path.is_file()), target / CARD_FILE)
    existing = card.read_text(encoding="utf-8") if card.is_file() else None
    picture = save_picture(facts, folder, picture_in(target, facts) if still is None else still)
    page = PAGE_FILE if has_page else None
    text = render_model_card(facts, picture=picture, page=page, existing=existing, previous=facts_in(target))
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    facts.save(folder / RECORD_FILE)


def save_picture(facts: CardFacts, folder: Path, still: Callable[[], bytes] | None = None) -> str | None:
    """Save the picture of the profile and return its name, or `None` where there is no profile or nothing draws it.

    Args:
        facts (`CardFacts`): What is drawn.
        folder (`Path`): Where it is written.
        still (`Callable`, *optional*): Gives the picture where there is no matplotlib.
    """
    if facts.profile is None:
        return None
    try:
        known = facts.compression
        before, healed = (None, None) if known is None else (known.before, known.healed)
        figure = plot_depth_profile(facts.profile, depth=facts.depth, before=before, healed=healed).figure
    except ImportError:  # the table holds the same numbers
        if still is None:
            return None
        (folder / PICTURE_FILE).write_bytes(still())
        return PICTURE_FILE
    figure.savefig(folder / PICTURE_FILE)
    return PICTURE_FILE


def picture_in(folder: Path, facts: CardFacts) -> Callable[[], bytes] | None:
    """Return what reads the picture in a folder, if it was drawn of the same profile and depth."""
    path, known = folder / PICTURE_FILE, facts_in(folder)
    is_same = known is not None and _drawn(known) == _drawn(facts)
    return path.read_bytes if is_same and path.is_file() else None


def _drawn(facts: CardFacts) -> tuple[Any, ...]:
    """Return what the picture shows of the facts."""
    known = facts.compression
    return (facts.profile, facts.depth, *((None, {}) if known is None else (known.before, known.healed)))


class CardTrainer(Trainer):
    """A `Trainer` whose own model card keeps what `write_model_card` wrote.

    `Trainer.create_model_card`, which `push_to_hub` calls too, writes a new `README.md` over the one that is there.
    This one then puts the depths, the costs and the tags back, below what `Trainer` says. After a plain `Trainer`,
    `write_model_card(output_dir)` does the same.
    """

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Like upstream; a card by `write_model_card` in `output_dir` becomes a part of the new one."""
        super().create_model_card(*args, **kwargs)
        folder = Path(self.args.output_dir)
        if self.is_world_process_zero() and facts_in(folder) is not None:
            write_model_card(folder)
