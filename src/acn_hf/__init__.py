"""Auto-Compressing Networks for Hugging Face Transformers (arXiv 2506.09714).

Importing this package registers its models with the Auto classes of transformers: at once where transformers is
imported already, else as soon as it is. The public names, listed in `__init__.pyi`, are imported when they are used.
"""

from importlib import import_module
from typing import Any

import lazy_loader
from wrapt import register_post_import_hook

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _register(_transformers: Any) -> None:
    import_module(".auto", __name__)


def _register_adapters(_peft: Any) -> None:
    import_module(".auto", __name__).register_adapters()


register_post_import_hook(_register, "transformers")
register_post_import_hook(_register_adapters, "peft")
