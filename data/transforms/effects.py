"""Rare changes of how a picture looks: blur, median blur, grey, and local contrast (CLAHE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from data.transforms.recipe import Recipe, recipe_number

EFFECTS: Mapping[str, float] = {"blur": 0.0, "median_blur": 0.0, "grey": 0.0, "clahe": 0.0}
"""Recipe keys with their defaults, probabilities 0..1; YOLOv8 trains with 0.01 each."""
_WINDOWS = (3, 5, 7)
_MOST_CONTRAST = 4.0
_CLAHE_TILES = (8, 8)


class EffectsDraw(NamedTuple):
    """The random part of the effects; all at their defaults change nothing.

    Attributes:
        blur: side of the window whose mean every pixel becomes, 0 for none.
        median_blur: side of the window whose median every pixel becomes, 0 for none.
        grey: whether colours are taken out.
        clahe: limit of the contrast within an eighth of the picture, 1..4, 0 for no change.
    """

    blur: int = 0
    median_blur: int = 0
    grey: bool = False
    clahe: float = 0.0


def effect_chances(hyp: Recipe) -> tuple[float, ...]:
    """Return the probabilities of the effects in their order; absent keys are 0.

    Raises:
        ModelError: a key of the recipe is out of its range.
    """
    return tuple(recipe_number(hyp, key, default, 0, 1) for key, default in EFFECTS.items())


def draw_effects(chances: tuple[float, ...], rng: np.random.Generator) -> EffectsDraw:
    """Draw which effects there are, and how strong; each stands for itself.

    Windows are 3, 5 or 7 pixels and limits of contrast 1 to 4, the customary defaults.

    Args:
        chances: see ``effect_chances``.
        rng: source of the numbers; always seven are drawn.
    """
    numbers = rng.random(7).tolist()
    blurs, medians, greys, contrasts = (number < chance for number, chance in zip(numbers, chances, strict=False))
    windows = [_WINDOWS[int(number * len(_WINDOWS))] for number in numbers[4:6]]
    return EffectsDraw(
        windows[0] if blurs else 0,
        windows[1] if medians else 0,
        greys,
        1 + numbers[6] * (_MOST_CONTRAST - 1) if contrasts else 0.0,
    )


def apply_effects(image: np.ndarray, draw: EffectsDraw) -> np.ndarray:
    """Return an (H, W, 3) uint8 RGB image with the drawn effects, one after the other; the image itself without any."""
    if draw.blur:
        image = cv2.blur(image, (draw.blur, draw.blur))
    if draw.median_blur:
        image = cv2.medianBlur(image, draw.median_blur)
    if draw.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if draw.clahe:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(draw.clahe, _CLAHE_TILES).apply(lab[..., 0])
        image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return image
