"""The command `acn-hf`: parses, calls one public function, prints."""

from . import about, app_command, compress, measurements, products, report
from .base import app

__all__ = ["about", "app", "app_command", "compress", "main", "measurements", "products", "report"]


def main() -> None:
    """Run the command line."""
    app()
