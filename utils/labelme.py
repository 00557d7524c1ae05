"""Found objects as files of the annotation tool labelme, one JSON per picture, to look at, correct and train with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.formats.labelme_json import POINT, POLYGON, RECTANGLE, shape, write_shapes
from models.predictions import DetectionResult, PoseResult
from utils.plots.drawing import label_texts
from utils.plots.object_masks import outlines
from utils.plots.skeletons import LEAST_SCORE

_DIGITS = 4
"""Behind the point of a coordinate in pixels."""


def write_labelme(
    path: Path,
    picture: Path,
    results: Mapping[str, Any],
    names: Mapping[str, Sequence[str]],
    size: tuple[int, int],
    least_score: float = LEAST_SCORE,
) -> None:
    """Write the objects of one picture.

    Each is a rectangle, or with a mask the polygons around its parts (holes are filled). The keypoints of a pose that
    were found inside the picture are points with their own names. Where an object has several shapes, they share a
    ``group_id``; it has no rectangle beside its polygons, because readers join the shapes of a group into one mask. The
    group of an object that is followed is its number in the film, also where it has a single shape.

    Args:
        path: of the JSON; its folder must exist.
        picture: the file of the picture, which the JSON names by the path from its own folder.
        results: per head; those without boxes are left out.
        names: class names per head.
        size: native (height, width) of the picture.
        least_score: of a keypoint that counts as found, 0..1.
    """
    found = {head: result for head, result in results.items() if isinstance(result, DetectionResult)}
    objects = [shapes for head, result in found.items() for shapes in _objects(result, names[head], size, least_score)]
    tracks = [track for result in found.values() for track in _tracks(result)]
    # Groups of objects that are not followed begin where the numbers of the others end.
    first = max(tracks, default=-1) + 1
    for number, (shapes, track) in enumerate(zip(objects, tracks, strict=True), first):
        for entry in shapes:
            entry["group_id"] = track if track > 0 else number if len(shapes) > 1 else None
    write_shapes(path, picture, size, [entry for shapes in objects for entry in shapes])


def _objects(
    result: DetectionResult, names: Sequence[str], size: tuple[int, int], least_score: float
) -> list[list[dict[str, Any]]]:
    """Return the shapes of every object."""
    labels = label_texts(names, result.classes.numpy())
    boxes = result.boxes.double().numpy().reshape(-1, 2, 2)
    masks = [None] * len(labels) if result.masks is None else result.masks.numpy()
    objects = []
    for label, box, mask in zip(labels, boxes, masks, strict=True):
        parts = [] if mask is None else outlines(mask)
        shapes = [_shape(label, part, POLYGON) for part in parts]
        objects.append(shapes or [_shape(label, box, RECTANGLE)])
    if isinstance(result, PoseResult):
        for shapes, keypoints in zip(objects, result.keypoints.double().numpy(), strict=True):
            found = (keypoints[:, 2] >= least_score) & _inside(keypoints[:, :2], size)
            shapes += [
                _shape(name, point[None, :2], POINT)
                for name, point, is_found in zip(result.spec.names, keypoints, found.tolist(), strict=True)
                if is_found
            ]
    return objects


def _tracks(result: DetectionResult) -> list[int]:
    """Return the number of every object in its film, -1 where it has none."""
    return [-1] * len(result.classes) if result.tracks is None else result.tracks.tolist()


def _inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return ((points >= 0) & (points <= np.array(size[::-1]))).all(-1)


def _shape(label: str, points: np.ndarray, kind: str) -> dict[str, Any]:
    return shape(label, points.astype(np.float64).round(_DIGITS), kind)
