"""Renders the card of every record in this folder, `NAME.json` to `NAME.md`: `python model_cards/render.py`.

A record is the `model_card.json` that lies beside a checkpoint with a card. A picture
`NAME.png` is shown if it is there.
"""

from pathlib import Path

from acn_hf import CardFacts
from acn_hf.publishing import render_model_card

FOLDER = Path(__file__).parent


def rendered(record: Path) -> str:
    """Return the card of a record."""
    picture = record.with_suffix(".png")
    return render_model_card(CardFacts.load(record), picture=picture.name if picture.exists() else None)


if __name__ == "__main__":
    for record in sorted(FOLDER.glob("*.json")):
        record.with_suffix(".md").write_text(rendered(record), encoding="utf-8")
