"""What travels with a checkpoint: flat files that import torch, transformers and each other, nothing else."""
