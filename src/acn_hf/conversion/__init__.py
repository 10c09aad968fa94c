"""A residual checkpoint becomes an ACN and comes back: of BERT and its relatives, ViT, DeiT, and timm's Mixers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
