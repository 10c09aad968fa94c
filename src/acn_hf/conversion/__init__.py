"""A residual checkpoint becomes an ACN: of BERT and its relatives, ViT, DeiT, and timm's Mixers."""
