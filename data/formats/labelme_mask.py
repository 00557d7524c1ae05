"""Masks inside labelme files, as its tools that segment by a click leave them: a small PNG in place of points."""

from __future__ import annotations

import base64
import struct
from typing import Any

import cv2
import numpy as np

from data.mask_outlines import outlines_of
from utils.errors import DataError
from utils.opencv_messages import quiet_opencv

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">16xII")
"""Of a PNG: width and height behind what all of them begin with."""


def mask_outlines(text: Any, corners: np.ndarray, size: tuple[int, int], where: str) -> list[np.ndarray]:
    """Return the outlines (p, 2) of a mask's connected parts, x y in pixels of the picture.

    Args:
        text: the PNG in base64; what is not 0 belongs to the object.
        corners: (n, 2) x y of the first and the last pixel of the mask in the picture.
        size: height and width of the picture; what lies outside is left out.
        where: names the shape in errors.

    Raises:
        DataError: there are not two corners, or the mask is no PNG that fills the box between them.
    """
    if len(corners) != 2:
        raise DataError(f"{where} is a mask with {len(corners)} corners; give it two")
    (left, top), (right, bottom) = corners.astype(np.int64).tolist()
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        data = b""
    # The head is asked before anything is decoded: a small file can claim any number of pixels.
    shape = _HEAD.unpack_from(data)[::-1] if data.startswith(_SIGNATURE) and len(data) >= _HEAD.size else None
    if shape is None:
        raise DataError(f"{where} has a `mask` that is no PNG in base64; draw it again")
    height, width = size
    if shape != (bottom - top + 1, right - left + 1) or shape[0] > height or shape[1] > width:
        raise DataError(
            f"{where} has a mask of {shape[1]}x{shape[0]} pixels (width x height), which does not fill the box between "
            "its points; draw it again"
        )
    with quiet_opencv():
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise DataError(f"{where} has a `mask` that is damaged; draw it again")
    rows, columns = slice(max(-top, 0), max(height - top, 0)), slice(max(-left, 0), max(width - left, 0))
    return [outline + np.maximum([left, top], 0) for outline in outlines_of(mask[rows, columns] > 0)]
