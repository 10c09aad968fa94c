"""Rows from files, folders and the Hub, and the batches of texts and images made of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
