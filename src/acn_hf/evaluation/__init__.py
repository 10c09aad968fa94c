"""What a trained network is put to beside its own test data: noise, few data, tasks one after another."""

from .continual import SynapticIntelligence, average_accuracy, average_forgetting
from .noise import add_gaussian_noise, add_salt_and_pepper
from .subsets import examples_per_class, split_classes

__all__ = [
    "SynapticIntelligence",
    "add_gaussian_noise",
    "add_salt_and_pepper",
    "average_accuracy",
    "average_forgetting",
    "examples_per_class",
    "split_classes",
]
