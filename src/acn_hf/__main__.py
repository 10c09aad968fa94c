"""`python -m acn_hf` is `acn-hf`."""

from .cli import main

main()
