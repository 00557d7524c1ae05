"""Colour changes on RGB uint8 images: HSV gains for detection, brightness/contrast/saturation/hue jitter for masks."""

from __future__ import annotations

import cv2
import numpy as np

from data.transforms.hsv import HUES, change_hsv
from data.transforms.recipe import Recipe, recipe_number

_LEVELS = np.arange(256, dtype=np.float64)
_CUT_OFF = (-0.5 + 2**-13,) * 3  # makes rounding cut off fractions, as the published table does
_LUMA = np.array([0.2989, 0.587, 0.114])  # the weights of ITU-R 601, as torchvision rounds them
JITTERS = ("brightness", "contrast", "saturation", "hue")


def draw_hsv_gains(hyp: Recipe, rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw factors for hue, saturation and value, each within 1 +- ``hsv_h``, ``hsv_s``, ``hsv_v`` (0..1, absent = 0).

    Raises:
        ModelError: a key of the recipe is out of its range.
    """
    ranges = [recipe_number(hyp, key, 0, 0, 1) for key in ("hsv_h", "hsv_s", "hsv_v")]
    hue, saturation, value = (rng.uniform(-1, 1, 3) * ranges + 1).tolist()
    return hue, saturation, value


def scale_hsv(image: np.ndarray, gains: tuple[float, float, float], out: np.ndarray | None = None) -> np.ndarray:
    """Multiply hue (around the circle), saturation and value (saturating) of an (H, W, 3) uint8 RGB image.

    Args:
        image: what to change.
        gains: of hue, saturation and value.
        out: where the result goes, which may be the image itself; None leaves the image as it is.

    Returns:
        The result; the image itself where no gain changes anything.
    """
    if gains == (1.0, 1.0, 1.0):
        return image
    return change_hsv(image, gains, _CUT_OFF, out)


def draw_jitter(strengths: tuple[float, ...], rng: np.random.Generator) -> list[tuple[str, float]]:
    """Draw what torchvision's ColorJitter draws: one factor per kind of change, in random order.

    Args:
        strengths: of brightness, contrast and saturation (factor within max(0, 1 - s)..1 + s) and of hue (turn of the
            circle within -s..s, s at most 0.5); 0 leaves the kind out.
        rng: source of the numbers.

    Returns:
        (kind, factor) in the order of application.
    """
    unit = rng.uniform(-1, 1, len(JITTERS))
    changes = [
        (kind, float(u * s) if kind == "hue" else max(0.0, 1 - s) + (u + 1) / 2 * (1 + s - max(0.0, 1 - s)))
        for kind, s, u in zip(JITTERS, strengths, unit.tolist(), strict=True)
    ]
    return [changes[i] for i in rng.permutation(len(JITTERS)).tolist() if strengths[i] > 0]


def jitter(image: np.ndarray, changes: list[tuple[str, float]]) -> np.ndarray:
    """Apply drawn (kind, factor) changes one after the other to an (H, W, 3) uint8 RGB image."""
    for kind, factor in changes:
        image = _CHANGES[kind](image, factor)
    return image


def change_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black: 0 gives black, 1 the image, more than 1 brightens."""
    return cv2.LUT(image, _table(_LEVELS * factor))


def change_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the image's mean grey: 0 gives flat grey, 1 the image, more than 1 spreads the levels."""
    mean = float(np.dot(_LUMA, cv2.mean(image)[:3]))
    return cv2.LUT(image, _table(_LEVELS * factor + mean * (1 - factor)))


def change_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend every pixel with its own grey: 0 gives a grey image, 1 the image, more than 1 more vivid colours."""
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1)))


def change_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turn every pixel's hue by a fraction of the circle, -0.5..0.5."""
    return change_hsv(image, (1, 1, 1), (round(turn * HUES), 0, 0))


def _table(levels: np.ndarray) -> np.ndarray:
    return levels.clip(0, 255).astype(np.uint8)


_CHANGES = {
    "brightness": change_brightness,
    "contrast": change_contrast,
    "saturation": change_saturation,
    "hue": change_hue,
}
