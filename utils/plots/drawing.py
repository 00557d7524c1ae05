"""Drawing on pictures: boxes with labels, class maps. All pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from utils.errors import RunError
from utils.files import atomic_write
from utils.plots.label_places import leaders, place_labels
from utils.plots.palette import class_colour, readable_on
from utils.plots.text import fitted_text, text_mask

Colour = tuple[int, int, int]

IGNORED = 255
_LEAST_FONT = 12
_FARTHEST = 2**15


def label_texts(
    names: Sequence[str], classes: np.ndarray, scores: np.ndarray | None = None, tracks: np.ndarray | None = None
) -> list[str]:
    """Return ``name``, with scores ``name 0.87``, with tracks ``#7 name`` for every object.

    Args:
        names: of the classes.
        classes: (k,) class indices.
        scores: (k,) confidences, or None.
        tracks: (k,) numbers of followed objects from 1, those of others below; or None.
    """
    texts = [names[c] if c < len(names) else str(c) for c in classes.tolist()]
    if tracks is not None:
        numbers = tracks.tolist()
        texts = [f"#{number} {text}" if number > 0 else text for number, text in zip(numbers, texts, strict=True)]
    return texts if scores is None else [f"{t} {s:.2f}" for t, s in zip(texts, scores.tolist(), strict=True)]


def line_width_for(image: np.ndarray) -> int:
    """Return a line width in pixels that suits the size of a picture, at least 2."""
    return max(round((image.shape[0] + image.shape[1]) / 2 * 0.003), 2)


def font_size_for(line_width: int) -> int:
    """Return the size in pixels of letters that suit lines of a width: 12 in a picture of VGA size, 41 in one of 4K."""
    return max(round(4.6 * line_width), _LEAST_FONT)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    texts: Sequence[str] | None = None,
    line_width: int | None = None,
) -> np.ndarray:
    """Draw boxes, the first on top of the others, and their labels above all boxes.

    Labels have a thin dark edge, which keeps those of one colour apart.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        boxes: (k, 4) x1 y1 x2 y2 in pixels.
        classes: (k,) class indices or other numbers, which choose the colours.
        texts: k labels, or None for boxes alone.
        line_width: in pixels, or None to follow the picture's size.

    Returns:
        A new picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = line_width or line_width_for(image)
    corners = np.nan_to_num(boxes).round().clip(-_FARTHEST, _FARTHEST).astype(np.int64)
    colours = [class_colour(c) for c in classes.tolist()]
    for (x1, y1, x2, y2), colour in zip(reversed(corners.tolist()), reversed(colours), strict=True):
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width, cv2.LINE_AA)
    if texts is not None:
        _draw_labels(canvas, corners, texts, colours, width)
    return canvas


def _draw_labels(
    canvas: np.ndarray, corners: np.ndarray, texts: Sequence[str], colours: Sequence[Colour], line_width: int
) -> None:
    """Write labels near their boxes, always inside the picture, the most certain on top."""
    size, pad = font_size_for(line_width), max(line_width, 2)
    lines = {text: fitted_text(text, size, canvas.shape[1] - 2 * pad) for text in texts if text.strip()}
    shown = [i for i, text in enumerate(texts) if text in lines]
    masks = [text_mask(*lines[texts[i]]) for i in shown]
    sizes = np.array([(mask.shape[1] + 2 * pad, mask.shape[0] + 2) for mask in masks], np.int64).reshape(-1, 2)
    places = place_labels(corners[shown], sizes, canvas.shape[:2], line_width)
    _draw_leaders(canvas, leaders(corners[shown], places, sizes, line_width), [colours[i] for i in shown], line_width)
    for (x, y), (width, height), mask, i in reversed(list(zip(places, sizes, masks, shown, strict=True))):
        label = canvas[y : y + height, x : x + width]
        label[:] = _edge_of(colours[i])
        label[1:-1, 1:-1] = colours[i]
        letters = label[1 : 1 + mask.shape[0], pad : pad + mask.shape[1]]
        # Smaller than the mask where the picture is smaller than the label.
        letters[:] = _inks(colours[i])[mask[: letters.shape[0], : letters.shape[1]]]


def _draw_leaders(canvas: np.ndarray, lines: np.ndarray, colours: Sequence[Colour], line_width: int) -> None:
    """Draw a thin line with a dark edge from each label that stands apart to its box."""
    width = max(line_width // 2, 1)
    for (start, end), colour in zip(lines.tolist(), colours, strict=True):
        if start != end:
            cv2.line(canvas, start, end, _edge_of(colour), width + 2, cv2.LINE_AA)
            cv2.line(canvas, start, end, colour, width, cv2.LINE_AA)


@cache
def _inks(colour: Colour) -> np.ndarray:
    """Return the (256, 3) uint8 colours of a label's pixels by how much letters cover them."""
    share = np.arange(256)[:, None] / 255
    return (np.array(colour) * (1 - share) + np.array(readable_on(colour)) * share).round().astype(np.uint8)


def _edge_of(colour: Colour) -> Colour:
    """Return a colour's dark shade."""
    red, green, blue = colour
    return red // 3, green // 3, blue // 3


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
    ignored = class_map == IGNORED
    if ignored.any():
        np.copyto(blended, image, where=ignored[..., None])
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
