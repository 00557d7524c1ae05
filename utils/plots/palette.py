"""One colour per class index, always the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from data.formats import cityscapes

CITYSCAPES: dict[str, tuple[int, int, int]] = dict(zip(cityscapes.NAMES, cityscapes.COLOURS, strict=True))
"""Names and RGB colours of the 19 Cityscapes classes, in the order of their training ids."""

IGNORED_COLOUR = (0, 0, 0)
_SIZE = 256


@cache
def class_palette() -> np.ndarray:
    """Return the (256, 3) uint8 RGB colours of class indices 0..255; the first dozens differ most.

    Each colour is the one farthest from all before it among strong colours, so neighbours in index never look alike.
    The array is shared and cannot be written to.
    """
    steps = np.arange(0, 256, 17, dtype=np.int64)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    highest, lowest = candidates.max(1), candidates.min(1)
    # Dark and greyish colours drown in photographs.
    candidates = candidates[(highest >= 119) & (highest - lowest >= 85)]
    chosen = np.zeros((_SIZE, 3), np.int64)
    chosen[0] = (255, 51, 51)
    nearest = np.full(len(candidates), np.iinfo(np.int64).max)
    for i in range(1, _SIZE):
        nearest = np.minimum(nearest, _distance(candidates, chosen[i - 1]))
        chosen[i] = candidates[nearest.argmax()]
    palette = chosen.astype(np.uint8)
    palette.flags.writeable = False
    return palette


def _distance(colours: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return squared differences as the eye weighs them, in whole numbers so that every machine agrees."""
    red_mean = (colours[:, 0] + other[0]) // 2
    red, green, blue = np.square(colours - other).T
    return (512 + red_mean) * red + 1024 * green + (767 - red_mean) * blue


def class_colour(index: int) -> tuple[int, int, int]:
    """Return the RGB colour, each 0..255, of a class index; indices beyond 255 start again."""
    red, green, blue = class_palette()[index % _SIZE].tolist()
    return red, green, blue


def mask_palette(names: Sequence[str]) -> np.ndarray:
    """Return the (256, 3) uint8 RGB colours of a class map; 255, which means ignored, is black.

    The 19 Cityscapes classes get their official colours, all others those of ``class_palette``.
    """
    palette = class_palette().copy()
    if [name.lower() for name in names] == list(CITYSCAPES):
        palette[: len(CITYSCAPES)] = list(CITYSCAPES.values())
    palette[255] = IGNORED_COLOUR
    return palette


def readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white RGB, whichever has the higher contrast to a colour as WCAG 2 measures it."""
    linear = (np.array(colour) / 255) ** 2.2
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    # Contrast is (lighter + 0.05) / (darker + 0.05); both are equal at this luminance.
    return (0, 0, 0) if luminance > (1.05 * 0.05) ** 0.5 - 0.05 else (255, 255, 255)
