"""Colour changes as YOLOX makes them: whole numbers are added to hue, saturation and value."""

from __future__ import annotations

import numpy as np

from data.transforms.hsv import change_hsv
from data.transforms.recipe import Recipe, recipe_numbers

SHIFTS = (5, 30, 30)
"""Published ranges of hue, saturation and value, in OpenCV's 8-bit units (hue: degrees / 2)."""


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


def shift_hsv(image: np.ndarray, shifts: tuple[int, int, int], out: np.ndarray | None = None) -> np.ndarray:
    """Add to hue (around the circle), saturation and value (0..255) of an (H, W, 3) uint8 RGB image.

    Args:
        image: what to change.
        shifts: of hue, saturation and value.
        out: where the result goes, which may be the image itself; None leaves the image as it is.

    Returns:
        The result; the image itself where nothing is added.
    """
    return image if shifts == (0, 0, 0) else change_hsv(image, (1, 1, 1), shifts, out)
