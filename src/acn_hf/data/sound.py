"""Processors of sound."""

from typing import Any

from transformers import AutoFeatureExtractor

from .idx import DataError


def load_feature_extractor(source: str) -> Any:
    """Load what makes the input of a model of a sound.

    Args:
        source (`str`): A folder, or a name on the Hub.

    Raises:
        DataError: There is none.
    """
    try:
        return AutoFeatureExtractor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise DataError(f"{source} must hold the feature extractor of the model: {error}") from error
