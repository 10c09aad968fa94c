"""The app that shows in a browser what a model answers at every depth, and the Space of the Hub that runs it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
