"""The part of a picture that an object covers, as a picture of its own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.predictions import DetectionResult
from utils.files import UniqueNames, short_name
from utils.plots.drawing import label_texts, save_picture

_SUFFIX = ".jpg"
_UNSAFE = re.compile(r"[^\w \-]+")


@dataclass(frozen=True)
class Crop:
    """One object of a picture.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        box: x1 y1 x2 y2 of the object in pixels of the whole picture.
        confidence: 0..1.
        class_index: of the object.
        name: of its class.
        picture: name of the picture that it was cut from.
    """

    image: np.ndarray
    box: tuple[float, float, float, float]
    confidence: float
    class_index: int
    name: str
    picture: str


def cut_crops(image: np.ndarray, picture: str, result: DetectionResult, names: Sequence[str], pad: int) -> list[Crop]:
    """Cut every object out, the most certain one first.

    Args:
        image: (H, W, 3) uint8 RGB; the crops are copies.
        picture: its name.
        result: objects in its pixels.
        names: of the classes.
        pad: pixels to add on every side, as far as the picture reaches.

    Returns:
        One crop per object; each has at least one pixel, every pixel that its box touches, and the padding.
    """
    height, width = image.shape[:2]
    boxes = result.boxes.double().numpy()
    # A box at the very edge, or of no size, still gives the pixel that it lies on.
    low = np.minimum(np.floor(boxes[:, :2]).astype(np.int64), (width - 1, height - 1))
    high = np.maximum(np.ceil(boxes[:, 2:]).astype(np.int64), low + 1)
    low, high = np.maximum(low - pad, 0), np.minimum(high + pad, (width, height))
    classes = result.classes.numpy()
    rows = zip(low.tolist(), high.tolist(), boxes.tolist(), result.scores.tolist(), classes.tolist(), strict=True)
    return [
        Crop(image[y1:y2, x1:x2].copy(), tuple(box), score, index, text, picture)
        for ((x1, y1), (x2, y2), box, score, index), text in zip(rows, label_texts(names, classes), strict=True)
    ]


def crop_folder(crop: Crop) -> str:
    """Return the name of the folder of a crop's class.

    A class name comes from a model's file, so it names a folder only by its letters, digits, spaces, ``_`` and ``-``.
    """
    return short_name(_UNSAFE.sub("_", crop.name)).strip() or str(crop.class_index)


def save_crops(folder: Path, crops: Sequence[Crop]) -> None:
    """Write crops as ``folder/CLASS/PICTURE.jpg``, ``PICTURE_2.jpg`` ..."""
    taken: dict[str, UniqueNames] = defaultdict(UniqueNames)
    for crop in crops:
        below = crop_folder(crop)
        (folder / below).mkdir(parents=True, exist_ok=True)
        # The stem of a picture may hold a dot, which is no suffix here.
        save_picture(
            folder / below / taken[below.casefold()].take(f"{short_name(Path(crop.picture).stem)}{_SUFFIX}"), crop.image
        )
