"""Every depth of a model: its logits, the shorter model, a metric for each, and what each costs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
