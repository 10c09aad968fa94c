"""Logits at every depth, shorter models, profiles of a metric over depth, and what each depth costs."""
