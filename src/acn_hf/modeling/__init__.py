"""What travels with a checkpoint: flat files that import torch, transformers and each other, nothing else."""

import lazy_loader
import transformers  # noqa: F401 - it makes acn_hf register, which imports files of this folder, before any of them is begun

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
