"""The command `acn-hf`: parses, calls one public function, prints."""

from . import about, compress, measurements, products, report
from .base import app

__all__ = ["about", "app", "compress", "main", "measurements", "products", "report"]


def main() -> None:
    """Run the command line."""
    app()
