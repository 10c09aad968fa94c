"""Smaller at the same depth: weights that are zero, narrower MLPs, fewer bits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
