"""Maps of values as colours, by themselves or laid over a picture."""

from __future__ import annotations

import cv2
import numpy as np

_LEAST_WEIGHT, _MOST_WEIGHT = 0.2, 0.75


def heat_colours(values: np.ndarray) -> np.ndarray:
    """Return a map in the colours of viridis, from its own least value (dark blue) to its greatest (yellow).

    Args:
        values: (H, W) finite numbers; a map of equal values is dark all over.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    return _coloured(values, cv2.COLORMAP_VIRIDIS)


def heat_over(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay a map over a picture without its colours: the greater a value, the warmer and the less transparent.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        values: (H, W) finite numbers, shown from the map's own least to its greatest.

    Returns:
        A new picture.
    """
    if values.shape != image.shape[:2]:
        raise ValueError(f"map {values.shape} and picture {image.shape[:2]} differ in size")
    weight = (_LEAST_WEIGHT + (_MOST_WEIGHT - _LEAST_WEIGHT) * _shares(values))[..., None]
    # The colours of the map would otherwise mix with those of the picture into others that mean nothing.
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    mixed = grey * (1 - weight) + _coloured(values, cv2.COLORMAP_INFERNO) * weight
    return mixed.round().astype(np.uint8)


def _shares(values: np.ndarray) -> np.ndarray:
    """Return values as shares 0..1 of the way from the least to the greatest, float32."""
    values = values.astype(np.float32)
    least, greatest = float(values.min()), float(values.max())
    if not greatest > least:
        return np.zeros_like(values)
    return (values - least) / (greatest - least)


def _coloured(values: np.ndarray, colours: int) -> np.ndarray:
    levels = (255 * _shares(values)).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, colours)[..., ::-1])
