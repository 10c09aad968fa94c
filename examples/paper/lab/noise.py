"""Noise on images, of a given strength and seed."""

import math

import torch


def add_gaussian_noise(
    images: torch.Tensor, std: float, *, low: float = 0.0, high: float = 1.0, seed: int = 0
) -> torch.Tensor:
    """Return images with Gaussian noise, clipped to their range.

    Args:
        images (`torch.Tensor` of shape `(..., height, width)`): Pixels in `[low, high]`.
        std (`float`): Standard deviation as a share of the range, in `[0, 1]`; 0 changes nothing.
        low, high (`float`, *optional*, defaults to 0 and 1): The range of the pixels.
        seed (`int`, *optional*, defaults to 0): The same seed gives the same noise, on every device.

    Raises:
        TypeError: `images` is no tensor.
        ValueError: `std` lies outside `[0, 1]`, the range is empty, or a pixel lies outside of it.
    """
    width = _check(images, "std", std, low, high)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).to(images.device, images.dtype)
    return images.clone() if std == 0 else (images + std * width * noise).clamp(low, high)


def add_salt_and_pepper(
    images: torch.Tensor, share: float, *, low: float = 0.0, high: float = 1.0, seed: int = 0
) -> torch.Tensor:
    """Return images in which a share of the pixels is black or white, each with probability one half.

    A pixel that is hit is hit in all channels.

    Args:
        images (`torch.Tensor` of shape `(..., channels, height, width)`): Pixels in `[low, high]`.
        share (`float`): Probability in `[0, 1]` that a pixel is hit; 0 changes nothing.
        low, high (`float`, *optional*, defaults to 0 and 1): Black and white.
        seed (`int`, *optional*, defaults to 0): The same seed gives the same noise, on every device.

    Raises:
        TypeError: `images` is no tensor.
        ValueError: `share` lies outside `[0, 1]`, the range is empty, a pixel lies outside of it, or the images have no
            channels.
    """
    _check(images, "share", share, low, high)
    if images.ndim < 3:
        raise ValueError(f"images must have the shape (..., channels, height, width); got {tuple(images.shape)}")
    shape = (*images.shape[:-3], 1, *images.shape[-2:])
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(images.device)
    pepper, salt = drawn < share / 2, (drawn >= share / 2) & (drawn < share)
    return images.masked_fill(pepper, low).masked_fill(salt, high)


def _check(images: torch.Tensor, name: str, strength: float, low: float, high: float) -> float:
    """Return the width of the range."""
    if not math.isfinite(strength) or not 0 <= strength <= 1:
        raise ValueError(f"{name} must lie in [0, 1]; got {strength}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low must be smaller than high, both finite; got {low} and {high}")
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"images must be a tensor; got {type(images).__name__}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating-point tensors; got {images.dtype}")
    if images.numel() and not (images.min() >= low and images.max() <= high):
        found = f"{images.min():g} to {images.max():g}"
        raise ValueError(f"pixels must lie in [{low}, {high}], which are black and white; got {found}")
    return high - low
