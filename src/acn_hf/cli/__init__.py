"""The command `acn-hf`: parses, calls one public function, prints."""

from . import about, measuring, writing
from .base import app

__all__ = ["about", "app", "main", "measuring", "writing"]


def main() -> None:
    """Run the command line."""
    app()
