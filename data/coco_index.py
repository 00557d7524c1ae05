"""From a COCO annotation file to the index of a split: classes by name, lengths as shares of their image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.formats.coco_json import CocoFile
from data.formats.listed_pictures import find_pictures
from data.images import image_size
from data.report import DataReport
from data.scan import LabelIndex, in_threads
from data.task_data import TaskData
from utils.errors import DataError, did_you_mean


def coco_images(coco: CocoFile, folders: Sequence[Path]) -> list[str]:
    """Return where each image of an annotation file lies: in the first of the folders that has it, else the first.

    Raises:
        DataError: the file lists no image.
    """
    if not coco.files:
        raise DataError(f"{coco.path}: lists no image; give the annotation file of the split")
    return find_pictures(coco.files, folders)


def coco_index(data: TaskData, name: str, coco: CocoFile, images: Sequence[str]) -> LabelIndex:
    """Read the header of every image and pack the labels of those that are usable.

    Boxes are cut off at the borders of their image; those that have no area then are left out and counted, as are
    annotations of other categories. Crowds stay and are marked. An area that is missing or not above 0 is its box's.

    Args:
        data: the task.
        name: of the split, for the report.
        coco: the annotation file.
        images: where its images lie.

    Raises:
        DataError: the data YAML names a category that the file does not have, or an annotation's keypoints do not fit;
            the message names the file and the annotation.
    """
    classes = _class_of_category(data, coco)[coco.classes]
    listed, named = coco.images >= 0, classes >= 0
    rows = np.flatnonzero(listed & named)
    keypoints = keypoints_of(data.keypoints, coco, rows)
    sizes, faults, missing = _sizes(images, name)
    usable = (sizes > 0).all(1)
    kept = np.flatnonzero(usable)
    chosen = usable[coco.images[rows]]
    rows, keypoints = rows[chosen], keypoints[chosen]
    width_height = sizes[coco.images[rows]][:, ::-1].astype(np.float64)
    boxes = _corners(coco.boxes[rows], width_height)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    # Rows of one image together, in the order of the file.
    order = np.flatnonzero(solid)[np.argsort(coco.images[rows[solid]], kind="stable")]
    rows, boxes, width_height, keypoints = rows[order], boxes[order], width_height[order], keypoints[order]
    counts = np.bincount(coco.images[rows], minlength=len(images))[kept]
    keypoints[..., :2] /= width_height[:, None]
    crowd = coco.crowd[rows]
    report = DataReport(
        name=name,
        listed=len(images),
        found=int((counts > 0).sum()),
        background=int((counts == 0).sum()),
        objects=len(rows),
        with_keypoints=int((keypoints[..., 2] > 0).any(1).sum()) if data.keypoints else None,
        crowds=int(crowd.sum()),
        degenerate=int((~solid).sum()),
        corrupt=[images[i] for i in sorted(faults)],
        reasons=[faults[i] for i in sorted(faults)],
        missing_images=[images[i] for i in missing],
        other_sizes=[images[i] for i in np.flatnonzero(_differ(coco.sizes, sizes)).tolist()],
        other_classes=int((listed & ~named).sum()),
        unlisted=int((~listed).sum()),
    )
    return LabelIndex(
        kept=kept.astype(np.int64),
        sizes=sizes[kept],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        classes=classes[rows],
        boxes=(boxes / np.tile(width_height, 2)).astype(np.float32),
        keypoints=keypoints.astype(np.float32),
        report=report,
        areas=_areas(coco, rows),
        crowd=crowd,
    )


def _class_of_category(data: TaskData, coco: CocoFile) -> np.ndarray:
    """Return (categories,) int64: the class of each category of the file, -1 where the data YAML does not name it."""
    for name, target in zip(data.label_map.names, data.label_map.targets, strict=True):
        if target >= 0 and name not in coco.categories:
            raise DataError(
                f"{data.source}: `{data.key}.names` has '{name}', which is no category of {coco.path}; give the names "
                f"of its categories.{did_you_mean(name, coco.categories)}"
            )
    return data.label_map.of_names(coco.categories)


def keypoints_of(count: int, coco: CocoFile, rows: np.ndarray) -> np.ndarray:
    """Return (rows, count, 3) float64, pixels and visibility; keypoints without visibility are (0, 0, 0).

    Raises:
        DataError: none of the rows has any, or one has another number of them or another visibility than 0, 1 and 2.
    """
    if not count:
        return np.zeros((len(rows), 0, 3))
    lengths = np.diff(coco.offsets)[rows]
    if len(rows) and not lengths.any():
        raise DataError(
            f"{coco.path}: has no keypoints; give a file that has them, such as COCO's person_keypoints_train2017.json"
        )
    wrong = (lengths != 0) & (lengths != 3 * count)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise coco.fault(
            int(rows[row]),
            f"has {lengths[row]} keypoint values, but {count} keypoints (x y v) are {3 * count}; mend it, or the "
            "number of keypoints in the data YAML",
        )
    found = np.zeros((len(rows), count, 3))
    labelled = np.flatnonzero(lengths)
    values = coco.offsets[rows[labelled], None] + np.arange(3 * count)
    found[labelled] = coco.keypoints[values].reshape(-1, count, 3)
    unknown = ~np.isin(found[..., 2], (0, 1, 2)).all(1)
    if unknown.any():
        raise coco.fault(int(rows[np.argmax(unknown)]), "has a keypoint whose visibility is not 0, 1 or 2; mend it")
    return np.where(found[..., 2:] > 0, found, 0.0)


def _sizes(images: Sequence[str], name: str) -> tuple[np.ndarray, dict[int, str], list[int]]:
    """Return (n, 2) int32 heights and widths, 0 of what cannot be read; the faults by position; what is missing."""
    found = in_threads(_size_or_fault, images, f"scanning {name}")
    missing = [i for i, size in enumerate(found) if size is None]
    faults = {i: size for i, size in enumerate(found) if isinstance(size, str)}
    sizes = [size if isinstance(size, tuple) else (0, 0) for size in found]
    return np.array(sizes, np.int32).reshape(-1, 2), faults, missing


def _size_or_fault(image: str) -> tuple[int, int] | str | None:
    if not os.path.isfile(image):
        return None
    try:
        return image_size(image)
    except DataError as error:
        return str(error)


def _corners(boxes: np.ndarray, width_height: np.ndarray) -> np.ndarray:
    """(n, 4) x y w h -> (n, 4) x1 y1 x2 y2 within images of these sizes."""
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return np.clip(corners, 0.0, np.tile(width_height, 2))


def _areas(coco: CocoFile, rows: np.ndarray) -> np.ndarray:
    areas = coco.areas[rows]
    return np.where(areas > 0, areas, coco.boxes[rows, 2] * coco.boxes[rows, 3]).astype(np.float32)


def _differ(annotated: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (n,) bool: images whose annotated size is known and another one than that of their file."""
    return (annotated > 0).all(1) & (sizes > 0).all(1) & (annotated != sizes).any(1)
