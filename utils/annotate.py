"""What every kind of result looks like on a picture and in words; a new kind is a new row of ``KINDS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.predictions import DetectionResult, MaskResult, PoseResult
from utils.plots.drawing import blend_mask, draw_boxes, label_texts
from utils.plots.object_masks import tint_objects
from utils.plots.palette import mask_palette
from utils.plots.skeletons import LEAST_SCORE, Poses2d, draw_poses

_NAMED_AREAS = 3


@dataclass(frozen=True)
class Style:
    """How results are drawn.

    Attributes:
        line_width: of boxes and limbs in pixels, None to follow the picture's size.
        labels: write the class names.
        confidences: write the confidence behind the name.
        mask_alpha: weight of the colours of masks over the picture, 0..1.
        keypoint_score: least score, 0..1, of a keypoint that is drawn.
        track_colours: give every followed object a colour of its own in place of that of its class.
    """

    line_width: int | None = None
    labels: bool = True
    confidences: bool = True
    mask_alpha: float = 0.4
    keypoint_score: float = LEAST_SCORE
    track_colours: bool = False


@dataclass(frozen=True)
class Kind:
    """How one type of result is shown.

    Attributes:
        draw: (picture, result, class names, style) -> new picture.
        describe: (result, class names) -> a few words.
    """

    draw: Callable[[np.ndarray, Any, Sequence[str], Style], np.ndarray]
    describe: Callable[[Any, Sequence[str]], str]


def annotate(
    image: np.ndarray, results: Mapping[str, Any], names: Mapping[str, Sequence[str]], style: Style
) -> np.ndarray:
    """Draw the results of all heads: areas first, then poses, boxes and their labels on top of them.

    Args:
        image: (H, W, 3) uint8 RGB of the results' native size; not changed.
        results: per head.
        names: class names per head.
        style: of the drawing.

    Returns:
        A new picture.
    """
    canvas = image.copy()
    for kind, show in KINDS.items():
        for head, result in results.items():
            if type(result) is kind:
                canvas = show.draw(canvas, result, names[head], style)
    return canvas


def describe(results: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> str:
    """Return the results of all heads in words: ``3 car, 1 person, road 62 %, sky 20 %``."""
    parts = []
    for kind, show in reversed(KINDS.items()):
        parts += [show.describe(result, names[head]) for head, result in results.items() if type(result) is kind]
    return ", ".join(parts)


def count_objects(classes: np.ndarray, names: Sequence[str]) -> str:
    """Return ``3 car, 1 person`` for (k,) class indices, the most frequent first, or ``no objects``."""
    return count_words(np.bincount(classes, minlength=1), names)


def count_words(counts: np.ndarray, names: Sequence[str]) -> str:
    """Return ``3 car, 1 person`` for the number of objects of every class, or ``no objects``."""
    order = np.argsort(-counts, kind="stable")
    found = [f"{counts[c]} {_name(names, c)}" for c in order.tolist() if counts[c]]
    return ", ".join(found) or "no objects"


def _draw_objects(image: np.ndarray, result: DetectionResult, names: Sequence[str], style: Style) -> np.ndarray:
    return _draw_boxes(_tinted(image, result, style), result, names, style)


def _tinted(image: np.ndarray, result: DetectionResult, style: Style) -> np.ndarray:
    """Return the picture with the objects' masks, if they have any, laid over it."""
    if result.masks is None:
        return image
    return tint_objects(image, result.masks.numpy(), _colour_indices(result, style), style.mask_alpha)


def _colour_indices(result: DetectionResult, style: Style) -> np.ndarray:
    """Return (k,) what chooses the objects' colours: their classes, or who they are where that is known and wanted."""
    classes = result.classes.numpy()
    if not style.track_colours or result.tracks is None:
        return classes
    tracks = result.tracks.numpy()
    return np.where(tracks > 0, tracks, classes)


def _draw_boxes(image: np.ndarray, result: DetectionResult, names: Sequence[str], style: Style) -> np.ndarray:
    classes = result.classes.numpy()
    texts = None
    if style.labels:
        tracks = None if result.tracks is None else result.tracks.numpy()
        texts = label_texts(names, classes, result.scores.numpy() if style.confidences else None, tracks)
    return draw_boxes(image, result.boxes.numpy(), _colour_indices(result, style), texts, style.line_width)


def _draw_poses(image: np.ndarray, result: PoseResult, names: Sequence[str], style: Style) -> np.ndarray:
    poses = Poses2d.from_scores(result.keypoints.numpy(), style.keypoint_score)
    canvas = draw_poses(_tinted(image, result, style), poses, result.spec, style.line_width)
    return _draw_boxes(canvas, result, names, style)


def _describe_objects(result: DetectionResult, names: Sequence[str]) -> str:
    return count_objects(result.classes.numpy(), names)


def _draw_areas(image: np.ndarray, result: MaskResult, names: Sequence[str], style: Style) -> np.ndarray:
    return blend_mask(image, result.class_map.numpy(), mask_palette(names), style.mask_alpha)


def _describe_areas(result: MaskResult, names: Sequence[str]) -> str:
    """Name the classes that cover most of the picture."""
    counts = np.bincount(result.class_map.numpy().ravel(), minlength=1)
    percent = (100 * counts / counts.sum()).round().astype(int)
    largest = np.argsort(-counts, kind="stable")[:_NAMED_AREAS].tolist()
    return ", ".join(f"{_name(names, c)} {percent[c]} %" for c in largest if percent[c])


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


KINDS: dict[type, Kind] = {
    MaskResult: Kind(_draw_areas, _describe_areas),
    PoseResult: Kind(_draw_poses, _describe_objects),
    DetectionResult: Kind(_draw_objects, _describe_objects),
}
"""By type of result, in the order of drawing: what comes later lies on top."""
