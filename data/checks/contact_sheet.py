"""Pictures of a set with their labels drawn: single ones, and a sheet of many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data.checks.printable import printable
from data.checks.split_facts import SplitFacts
from data.images import read_image, reduction_for
from data.mask_reading import MaskReader
from utils.errors import DataError
from utils.plots.drawing import blend_mask, draw_boxes, label_texts
from utils.plots.legend import draw_legend
from utils.plots.montage import montage
from utils.plots.palette import mask_palette
from utils.plots.skeletons import Poses2d, draw_poses

MOST_PICTURES = 24
_WIDTH = 420
_HEIGHTS = (240, 560)
_GREY = 235
_MOST_NAMED = 100
"""Boxes of one picture that have their class written beside them; more would hide the picture."""
_LONGEST_SIDE = 2600


def contact_sheet(splits: Sequence[SplitFacts]) -> np.ndarray | None:
    """Draw pictures of one task with their labels, spread evenly over its splits.

    Args:
        splits: of one task.

    Returns:
        (H, W, 3) uint8 RGB with at most 24 pictures and, for masks, a legend; None where nothing can be shown.
    """
    shown = [(facts, int(i)) for facts in splits for i in np.flatnonzero(facts.usable)]
    labelled = [(facts, i) for facts, i in shown if facts.pixels is not None or facts.offsets[i] < facts.offsets[i + 1]]
    shown = labelled or shown
    if not shown:
        return None
    picks = np.linspace(0, len(shown) - 1, min(MOST_PICTURES, len(shown))).round().astype(int).tolist()
    chosen = [shown[pick] for pick in picks]
    aspects = [facts.sizes[i, 0] / facts.sizes[i, 1] for facts, i in chosen]
    height = int(np.clip(_WIDTH * float(np.median(aspects)), *_HEIGHTS))
    tiles = [tile_of(facts, i, (height, _WIDTH)) for facts, i in chosen]
    captions = [f"{facts.split}/{printable(Path(facts.images[i]).name)}" for facts, i in chosen]
    sheet = montage(tiles, captions, most=_LONGEST_SIDE)
    if splits[0].pixels is None:
        return sheet
    names = splits[0].data.names
    present = np.flatnonzero(sum(facts.pixels.sum(0) for facts in splits)[:-1])
    legend = draw_legend([names[i] for i in present], mask_palette(names)[present], sheet.shape[1])
    return np.concatenate([sheet, legend])


def tile_of(facts: SplitFacts, image: int, room: tuple[int, int]) -> np.ndarray:
    """Return one picture with its labels, made to fit into ``room`` (height, width) with grey beside it.

    A picture that cannot be read is grey.
    """
    canvas = np.full((*room, 3), _GREY, np.uint8)
    picture = _drawn(facts, image, room)
    if picture is not None:
        top, left = (room[0] - picture.shape[0]) // 2, (room[1] - picture.shape[1]) // 2
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def _drawn(facts: SplitFacts, image: int, room: tuple[int, int]) -> np.ndarray | None:
    height, width = facts.sizes[image].tolist()
    if not height or not width:
        return None
    scale = min(room[0] / height, room[1] / width)
    size = (max(round(height * scale), 1), max(round(width * scale), 1))
    try:
        picture = read_image(facts.images[image], reduction_for((height, width), max(size)))
        mask = _mask(facts, image)
    except DataError:
        # Its own finding names it.
        return None
    interpolation = cv2.INTER_AREA if picture.shape[0] > size[0] else cv2.INTER_NEAREST
    picture = cv2.resize(picture, size[::-1], interpolation=interpolation)
    if mask is not None:
        mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return blend_mask(picture, mask, mask_palette(facts.data.names), alpha=0.5)
    own = facts.own(image)
    if facts.data.keypoints:
        points = facts.keypoints[own] * np.array([size[1], size[0], 1], np.float32)
        picture = draw_poses(picture, Poses2d.from_labels(points), facts.data.keypoint_spec)
    classes = facts.classes[own]
    texts = None
    if len(classes) <= _MOST_NAMED:
        marks = [" (crowd)" if many else "" for many in facts.crowd[own].tolist()]
        texts = [text + mark for text, mark in zip(label_texts(facts.data.names, classes), marks, strict=True)]
    return draw_boxes(picture, facts.boxes[own] * np.tile(size[::-1], 2), classes, texts)


def _mask(facts: SplitFacts, image: int) -> np.ndarray | None:
    if facts.pixels is None or not facts.pixels[image].any():
        return None
    return MaskReader(facts.sources[image]).read(facts.labels[image])
