"""The app to try a checkpoint in a browser: the answer at every depth with its time; and the Space that runs it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
