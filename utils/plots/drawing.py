"""Drawing on pictures: boxes with labels, class maps. All pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.errors import RunError
from utils.files import atomic_write
from utils.plots.palette import class_colour, readable_on

IGNORED = 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEAST_SCALE = 0.4


def label_texts(names: Sequence[str], classes: np.ndarray, scores: np.ndarray | None = None) -> list[str]:
    """Return ``name`` or, with scores, ``name 0.87`` for every object."""
    texts = [names[c] if c < len(names) else str(c) for c in classes.tolist()]
    return texts if scores is None else [f"{t} {s:.2f}" for t, s in zip(texts, scores.tolist(), strict=True)]


def line_width_for(image: np.ndarray) -> int:
    """Return a line width in pixels that suits the size of a picture, at least 2."""
    return max(round((image.shape[0] + image.shape[1]) / 2 * 0.003), 2)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    texts: Sequence[str] | None = None,
    line_width: int | None = None,
) -> np.ndarray:
    """Draw boxes, the first on top of the others, and their labels above all boxes.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        boxes: (k, 4) x1 y1 x2 y2 in pixels.
        classes: (k,) class indices, which choose the colours.
        texts: k labels, or None for boxes alone.
        line_width: in pixels, or None to follow the picture's size.

    Returns:
        A new picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = line_width or line_width_for(image)
    corners = np.nan_to_num(boxes).round().astype(np.int64).clip(-(2**15), 2**15).tolist()
    colours = [class_colour(c) for c in classes.tolist()]
    for (x1, y1, x2, y2), colour in zip(reversed(corners), reversed(colours), strict=True):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width, cv2.LINE_AA)
    if texts is not None:
        for corner, colour, text in reversed(list(zip(corners, colours, texts, strict=True))):
            _draw_label(canvas, text, corner, colour, width)
    return canvas


def _draw_label(
    canvas: np.ndarray, text: str, box: Sequence[int], colour: tuple[int, int, int], line_width: int
) -> None:
    """Write a label above its box, or inside where there is no room above; always inside the picture."""
    if not text:
        return
    height, width = canvas.shape[:2]
    pad = max(line_width, 2)
    scale = max(line_width / 4, _LEAST_SCALE)
    thickness = max(round(line_width / 2), 1)
    (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    if text_width + 2 * pad > width:
        # Too long for the picture: smaller while that can be read, then cut off.
        scale, thickness = max(scale * (width - 2 * pad) / text_width, _LEAST_SCALE), 1
        text = _cut(text, scale, width - 2 * pad)
        (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    label_width, label_height = text_width + 2 * pad, text_height + below + 2 * pad
    edge = line_width // 2
    x, y = box[0] - edge, box[1] - edge - label_height
    if y < 0:
        y = box[1] - edge
    x = min(max(x, 0), max(width - label_width, 0))
    y = min(max(y, 0), max(height - label_height, 0))
    cv2.rectangle(canvas, (x, y), (x + label_width - 1, y + label_height - 1), colour, cv2.FILLED)
    origin = (x + pad, y + pad + text_height)
    cv2.putText(canvas, text, origin, _FONT, scale, readable_on(colour), thickness, cv2.LINE_AA)


def _cut(text: str, scale: float, room: int) -> str:
    """Return as much of a text as fits into ``room`` pixels, marked with dots where it was cut."""
    if cv2.getTextSize(text, _FONT, scale, 1)[0][0] <= room:
        return text
    kept = len(text) - 1
    while kept > 1 and cv2.getTextSize(f"{text[:kept]}..", _FONT, scale, 1)[0][0] > room:
        kept -= 1
    return f"{text[:kept]}.."


def colour_mask(class_map: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return a class map (H, W) uint8 as a picture in the colours of a (256, 3) uint8 palette."""
    return cv2.LUT(cv2.merge([class_map] * 3), palette.reshape(1, 256, 3))


def blend_mask(image: np.ndarray, class_map: np.ndarray, palette: np.ndarray, alpha: float = 0.4) -> np.ndarray:
    """Lay the colours of a class map over a picture; pixels of class 255 (ignored) keep the picture.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        class_map: (H, W) uint8.
        palette: (256, 3) uint8 RGB.
        alpha: weight of the colours, 0..1.

    Returns:
        A new picture.
    """
    if class_map.shape != image.shape[:2]:
        raise ValueError(f"class map {class_map.shape} and picture {image.shape[:2]} differ in size")
    blended = cv2.addWeighted(np.ascontiguousarray(image), 1 - alpha, colour_mask(class_map, palette), alpha, 0)
    np.copyto(blended, image, where=(class_map == IGNORED)[..., None])
    return blended


def save_picture(path: str | Path, image: np.ndarray) -> Path:
    """Write an RGB picture under a name whose suffix says the format, whole or not at all.

    Raises:
        RunError: the suffix is of no format that can be written.
    """
    path = Path(path)
    try:
        done, data = cv2.imencode(path.suffix, np.ascontiguousarray(image[..., ::-1]))
    except cv2.error:
        done = False
    if not done:
        raise RunError(f"cannot write a picture as '{path.suffix}' to {path}; use .jpg or .png")
    atomic_write(path, data.tobytes())
    return path
