"""Model cards: what is known of a checkpoint, as the Hub shows it."""

from .facts import CardFacts, collect
from .hub import prepare_repo, push_files, upload
from .model_card import CardTrainer, write_into, write_model_card
from .render import render_model_card

__all__ = [
    "CardFacts",
    "CardTrainer",
    "collect",
    "prepare_repo",
    "push_files",
    "render_model_card",
    "upload",
    "write_into",
    "write_model_card",
]
