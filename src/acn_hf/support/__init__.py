"""What every room uses: records, circumstances, evaluation mode, and what is wrapped around a model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
