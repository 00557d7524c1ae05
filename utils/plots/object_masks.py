"""Masks of single objects: drawn as a tint, as a map of classes, and as outlines."""

from __future__ import annotations

import cv2
import numpy as np

from utils.plots.drawing import IGNORED, line_width_for
from utils.plots.palette import class_palette

_LEAST_CORNERS = 3


def tint_objects(image: np.ndarray, masks: np.ndarray, classes: np.ndarray, alpha: float) -> np.ndarray:
    """Lay the colours of objects over their pixels, where several meet that of the smallest, and line their borders.

    The borders have the full colour, so that objects of one class that touch can be told apart. They are half as wide
    as the lines of boxes.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        masks: (k, H, W) bool, one per object.
        classes: (k,) class indices, which choose the colours as for boxes.
        alpha: weight of the colours, 0..1.

    Returns:
        A new picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    if len(masks):
        palette = class_palette()
        on_top, covered = _on_top(masks), masks.any(0)
        colours = palette[classes % len(palette)][on_top]
        tinted = cv2.addWeighted(canvas, 1 - alpha, colours, alpha, 0)
        np.copyto(canvas, tinted, where=covered[..., None])
        if alpha > 0:
            border = _border(np.where(covered, on_top, -1), max(line_width_for(image) // 2, 1))
            np.copyto(canvas, colours, where=(border & covered)[..., None])
    return canvas


def _border(owners: np.ndarray, width: int) -> np.ndarray:
    """Return which pixels (H, W) are at most so many away from one of another owner (H, W), as bool."""
    owners = owners.astype(np.float32)
    around = np.ones((3, 3), np.uint8)
    # The picture's own edge is no border: OpenCV leaves what lies beyond it out.
    seam = cv2.dilate(owners, around) != cv2.erode(owners, around)
    return seam if width == 1 else cv2.dilate(seam.astype(np.uint8), around, iterations=width - 1) > 0


def class_map_of(masks: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the class of the smallest object that covers a pixel, (H, W) uint8; 255 where there is none.

    Args:
        masks: (k, H, W) bool, one per object.
        classes: (k,) class indices below 255.
    """
    if len(masks) == 0:
        return np.full(masks.shape[1:], IGNORED, np.uint8)
    return np.where(masks.any(0), classes.astype(np.uint8)[_on_top(masks)], np.uint8(IGNORED))


def _on_top(masks: np.ndarray) -> np.ndarray:
    """Return which object, (H, W), lies on top where it covers a pixel: a tie is seen on the person who wears it."""
    order = masks.sum((1, 2)).argsort(kind="stable")
    return order[masks[order].argmax(0)]


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return the outer outline of every part of a mask, the largest first.

    Filled with their border, the outlines give the mask back, its holes closed.

    Args:
        mask: (H, W) bool.

    Returns:
        (n, 2) x y in whole pixels for each part, n 3 or more: a part of one or two pixels repeats its last one.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = [contour[:, 0] for contour in sorted(contours, key=cv2.contourArea, reverse=True)]
    return [np.pad(part, ((0, max(_LEAST_CORNERS - len(part), 0)), (0, 0)), mode="edge") for part in parts]
