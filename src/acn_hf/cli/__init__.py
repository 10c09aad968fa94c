"""The command `acn-hf`: parses, calls one public function, prints."""

from . import about, measurements, products
from .base import app

__all__ = ["about", "app", "main", "measurements", "products"]


def main() -> None:
    """Run the command line."""
    app()
