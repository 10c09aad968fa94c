"""With a Trainer: supervision, distillation, profiles, layers that leave, annealing, pruning, fine-tuning."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
