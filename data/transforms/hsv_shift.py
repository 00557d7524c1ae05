"""Colour changes as YOLOX makes them: whole numbers are added to hue, saturation and value."""

from __future__ import annotations

import cv2
import numpy as np

from data.transforms.recipe import Recipe, recipe_numbers

SHIFTS = (5, 30, 30)
"""Published ranges of hue, saturation and value, in OpenCV's 8-bit units (hue: degrees / 2)."""
_LEVELS = np.arange(256)
_HUES = 180


def draw_hsv_shift(hyp: Recipe, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw what is added to hue, saturation and value; each of the three stays as it is in half of all cases.

    Args:
        hyp: recipe with ``hsv_shift``, the greatest shift of each (0..255).
        rng: source of the numbers; always six are drawn.

    Raises:
        ModelError: the key is out of its range.
    """
    ranges = recipe_numbers(hyp, "hsv_shift", SHIFTS, 0, 255)
    unit, chance = rng.uniform(-1, 1, 3).tolist(), rng.random(3).tolist()
    # Fractions are cut off, as published.
    hue, saturation, value = (int(u * most) if c < 0.5 else 0 for u, most, c in zip(unit, ranges, chance, strict=True))
    return hue, saturation, value


def shift_hsv(image: np.ndarray, shifts: tuple[int, int, int]) -> np.ndarray:
    """Add to hue (around the circle), saturation and value (0..255) of an (H, W, 3) uint8 RGB image.

    Args:
        image: what to change; it stays as it is.
        shifts: of hue, saturation and value.

    Returns:
        The changed image; the image itself where nothing is added.
    """
    hue, saturation, value = shifts
    if shifts == (0, 0, 0):
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if 0 <= hue <= _LEVELS[-1] - _HUES:
        # A matrix is faster than a table. The way back to RGB goes around the circle by itself.
        cv2.transform(hsv, np.array([[1, 0, 0, hue], [0, 1, 0, saturation], [0, 0, 1, value]], np.float64), dst=hsv)
    else:
        table = np.empty((1, 256, 3), np.uint8)
        table[0, :, 0] = (_LEVELS + hue) % _HUES
        table[0, :, 1] = (_LEVELS + saturation).clip(0, 255)
        table[0, :, 2] = (_LEVELS + value).clip(0, 255)
        cv2.LUT(hsv, table, dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv)
