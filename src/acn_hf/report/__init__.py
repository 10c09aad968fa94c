"""The page that shows a result of compression in a browser: its record, its charts, and what is chosen to be shown."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
