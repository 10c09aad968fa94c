"""What the example scripts share: arguments, models, training runs, and tables of many runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
