"""From the objects of one picture, as its labels have them, to rows of a set's index: classes, shares, what is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.annotations import Objects
from data.class_map import ClassMap
from data.formats.yolo_txt import Labels, Rows, usable_rows


@dataclass(frozen=True)
class ObjectLabels:
    """The labels of one picture by the classes of the set.

    Attributes:
        rows: of the index.
        areas: (n,) float32, square pixels; None where the format has none.
        crowd: (n,) bool, regions with many objects that are not told apart; None likewise.
        others: how many objects of which class were left out because the set does not have it.
        left_out: what else the labels hold that is no object, in plural nouns, and how many.
        other_size: the labels are of a picture of another size.
    """

    rows: Labels
    areas: np.ndarray | None = None
    crowd: np.ndarray | None = None
    others: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, int] = field(default_factory=dict)
    other_size: bool = False


def labels_of_rows(rows: Rows, classes: ClassMap) -> ObjectLabels:
    """Return the labels of a YOLO label file, whose indices are those of ``classes.names``."""
    targets = classes.table[rows.classes]
    kept = targets >= 0
    if kept.all():
        return ObjectLabels(usable_rows(targets, rows.boxes, rows.keypoints)[0])
    found, _ = usable_rows(targets[kept], rows.boxes[kept], rows.keypoints[kept])
    left_out = rows.classes[~kept].tolist()
    return ObjectLabels(found, others=Counter(classes.names[index] for index in left_out))


def labels_of_objects(
    objects: Objects, size: tuple[int, int], classes: ClassMap, marked: bool, difficult: bool = True
) -> ObjectLabels:
    """Return the labels of objects in pixels.

    Boxes are cut off at the borders of the picture, and keypoints outside are moved there.

    Args:
        objects: of one picture.
        size: its height and width.
        classes: from the names of the objects to the classes of the set.
        marked: keep areas and crowd marks; an area that is missing or not above 0 is its box's.
        difficult: keep objects that their annotator found hard to recognise.
    """
    targets = classes.of_names(objects.names)
    others = Counter(name for name, target in zip(objects.names, targets.tolist(), strict=True) if target < 0)
    kept = (targets >= 0) & (difficult | ~objects.difficult)
    hard = int((targets >= 0).sum() - kept.sum())
    left_out = {**objects.left_out, "difficult objects": hard} if hard else objects.left_out
    scale = np.array(size[::-1], np.float64)
    keypoints = objects.keypoints[kept].copy()
    keypoints[..., :2] = np.where(keypoints[..., 2:] > 0, np.clip(keypoints[..., :2] / scale, 0.0, 1.0), 0.0)
    found, chosen = usable_rows(targets[kept], objects.boxes[kept] / np.tile(scale, 2), keypoints)
    other_size = objects.size not in (None, size)
    if not marked:
        return ObjectLabels(found, others=others, left_out=left_out, other_size=other_size)
    boxes, areas = objects.boxes[kept][chosen], objects.areas[kept][chosen]
    of_boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = np.where(areas > 0, areas, of_boxes).astype(np.float32)
    return ObjectLabels(found, areas, objects.crowd[kept][chosen], others, left_out, other_size)
