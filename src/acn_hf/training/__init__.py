"""With a Trainer: supervision, distillation, profiles, layers that leave, annealing, pruning, fine-tuning."""
