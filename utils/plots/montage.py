"""Pictures of equal size laid side by side, each under its caption."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 6
_STRIP = 24
_WIDE = 16 / 9
_LEAST_SIDE = 160


def montage(pictures: Sequence[np.ndarray], captions: Sequence[str], most: int = 1920) -> np.ndarray:
    """Lay pictures out in rows, in a shape near that of a screen; their number decides how many rows there are.

    Args:
        pictures: at least one, (H, W, 3) uint8 RGB, all of one size.
        captions: one each; cut where they are too long.
        most: longest side of the result in pixels; the pictures are made smaller where it takes that, and tiny ones
            are enlarged by whole factors so that captions can be read.

    Returns:
        (H, W, 3) uint8 RGB, white between the pictures.
    """
    height, width = pictures[0].shape[:2]
    columns = min(len(pictures), max(round((len(pictures) * _WIDE * height / width) ** 0.5), 1))
    rows = ceil(len(pictures) / columns)
    # Rows are filled evenly: six pictures that would be five and one become three and three.
    columns = ceil(len(pictures) / rows)
    height, width = _tile_size((height, width), (rows, columns), most)
    step_y, step_x = height + _STRIP + _GAP, width + _GAP
    canvas = np.full((rows * step_y + _GAP, columns * step_x + _GAP, 3), 255, np.uint8)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        y, x = _GAP + i // columns * step_y, _GAP + i % columns * step_x
        tile = canvas[y : y + _STRIP + height, x : x + width]
        _write(tile[:_STRIP], caption)
        tile[_STRIP:] = _resized(picture, (height, width))
    return canvas


def _tile_size(size: tuple[int, int], layout: tuple[int, int], most: int) -> tuple[int, int]:
    """Return height and width of every picture in the montage."""
    room = min(
        (most - _GAP - count * (_GAP + extra)) / count / side
        for side, count, extra in zip(size, layout, (_STRIP, 0), strict=True)
    )
    scale = room if room < 1 else min(int(room), max(ceil(_LEAST_SIDE / min(size)), 1))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if picture.shape[:2] == size:
        return picture
    interpolation = cv2.INTER_AREA if size[0] < picture.shape[0] else cv2.INTER_NEAREST
    return cv2.resize(picture, (size[1], size[0]), interpolation=interpolation)


def _write(strip: np.ndarray, caption: str) -> None:
    """Write a caption into a white strip, smaller where it is too long."""
    (width, height), below = cv2.getTextSize(caption, _FONT, 0.5, 1)
    scale = 0.5 * min((strip.shape[1] - 4) / max(width, 1), 1.0)
    origin = (2, (_STRIP + height) // 2 + below // 4)
    line = np.ascontiguousarray(strip)
    cv2.putText(line, caption, origin, _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    strip[:] = line
