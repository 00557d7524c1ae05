"""``explain/STEM_CLASS.jpg``: what speaks for each class, laid over the picture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.predictions import DetectionResult
from utils.explain.grad_cam import ClassMap
from utils.files import short_name
from utils.plots.drawing import draw_boxes, label_texts
from utils.plots.heat_maps import heat_over

_UNSAFE = re.compile(r"[^\w \-]+")
_MOST_BYTES = 50
"""Of a class in a name that a picture's own stands before."""


def explained_pictures(
    image: np.ndarray,
    results: Mapping[str, Any],
    maps: Mapping[str, Sequence[ClassMap]],
    names: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, np.ndarray]]:
    """Draw the maps of one picture, each with the boxes of the objects that it speaks of.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        results: per head.
        maps: per head, from ``GradCam``.
        names: class names per head.

    Returns:
        Per head (H, W, 3) uint8 RGB pictures by a word for the class that can be part of a file's name.
    """
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for head, of_head in maps.items():
        drawn[head] = {}
        for each in of_head:
            picture = heat_over(image, each.values)
            if isinstance(results[head], DetectionResult):
                own = results[head].only(results[head].classes == each.class_index)
                classes = own.classes.numpy()
                texts = label_texts(names[head], classes, own.scores.numpy())
                picture = draw_boxes(picture, own.boxes.numpy(), classes, texts)
            drawn[head][_word(names[head], each.class_index)] = picture
    return drawn


def _word(names: Sequence[str], index: int) -> str:
    """Return a class's name as far as a file can have it, behind its index, which no other class has."""
    name = names[index] if index < len(names) else ""
    return f"{index}_{short_name(_UNSAFE.sub('_', name).strip(), _MOST_BYTES)}".rstrip("_ ")
