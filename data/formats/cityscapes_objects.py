"""Objects from and to Cityscapes polygons: ``gtFine/SPLIT/CITY/NAME_gtFine_polygons.json``, ten classes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.cityscapes import IMAGE_END
from data.formats.picture_json import (
    LEAST_CORNERS,
    TOO_FEW_POINTS,
    check_size,
    listed_objects,
    points_of,
    read_picture_json,
)
from data.polygons import extent, join_polygons
from utils.errors import DataError, did_you_mean
from utils.files import atomic_write

CLASSES = (
    *("car", "traffic sign", "rider", "person", "bicycle"),
    *("traffic light", "bus", "motorcycle", "truck", "train"),
)
"""In the order of their indices."""

_WHAT = "the polygons of a Cityscapes picture"
_LABELS_END = "_gtFine_polygons.json"
_GROUP = "group"
_KNOWN, _GROUPS = frozenset(CLASSES), frozenset(name + _GROUP for name in CLASSES)


class CityscapesObjects:
    """One JSON of polygons per picture; of their labels ten are classes of objects, and the rest is scenery."""

    name = "cityscapes"
    names_inside = True
    names = CLASSES
    keeps = frozenset({"outlines"})

    def label_file(self, image: Path, images: Path, labels: Path) -> Path:
        """Return where the labels of ``image`` lie.

        Args:
            image: below ``images``; ``NAME_leftImg8bit.png``, or another name, which the labels have too.
            images: ``leftImg8bit/SPLIT``.
            labels: ``gtFine/SPLIT``.
        """
        folder = (labels / image.relative_to(images)).parent
        return folder / f"{image.stem.removesuffix(IMAGE_END)}{_LABELS_END}"

    def read(self, path: Path, size: tuple[int, int], classes: ClassList) -> Objects:
        """Read the polygons of the ten classes, each an object.

        A box is the extent of its polygon, cut off at the edges of the picture. Groups of objects that were outlined
        as one (``cargroup``) and deleted objects are left out and counted; other labels are no objects.

        Args:
            path: of the file.
            size: height and width of the picture.
            classes: not used; the format has its own.

        Raises:
            DataError: the file is malformed or of a picture of another size; the message names the file and the object.
        """
        root = read_picture_json(path, _WHAT)
        check_size(root, ("imgHeight", "imgWidth"), size, path)
        names, polygons = [], []
        left_out: Counter[str] = Counter()
        for number, entry in enumerate(listed_objects(root, "objects", str(path), _WHAT), 1):
            label = entry.get("label")
            if not isinstance(label, str):
                raise DataError(f"{path}: object {number} has no label; give it the name of its class")
            if label not in _KNOWN and label not in _GROUPS:
                continue
            polygon = points_of(entry.get("polygon"), f"{path}: object {number} ('{label}')")
            fault = _fault(label, bool(entry.get("deleted")), len(polygon))
            if fault:
                left_out[fault] += 1
                continue
            names.append(label)
            polygons.append(polygon)
        extents = np.array([extent([polygon]) for polygon in polygons]).reshape(-1, 4)
        return make_objects(
            names=names,
            boxes=np.clip(extents, 0, np.tile(np.array(size[::-1], np.float64), 2)),
            outlines=[[polygon] for polygon in polygons],
            boxed=np.zeros(len(names), bool),
            left_out=dict(left_out),
        )

    def write(self, path: Path, picture: AnnotatedPicture, classes: ClassList) -> None:
        """Write the polygons of a picture; the folder must exist.

        The parts of an object are joined into one polygon, and an object without any gets the corners of its box. A
        crowd becomes a group, which ``read`` leaves out.

        Raises:
            DataError: Cityscapes has no such class of objects.
        """
        objects = picture.objects
        strange = next((name for name in objects.names if name not in _KNOWN), None)
        if strange is not None:
            raise DataError(
                f"{path}: Cityscapes has no class '{strange}' of objects; leave it out or rename it to one of "
                f"{', '.join(CLASSES)}.{did_you_mean(strange, CLASSES)}"
            )
        entries = []
        for name, box, parts, crowd in zip(
            objects.names, objects.boxes, objects.outlines, objects.crowd.tolist(), strict=True
        ):
            polygon = join_polygons(parts) if parts else box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
            entries.append({"label": name + (_GROUP if crowd else ""), "polygon": polygon.tolist()})
        height, width = picture.size
        root = {"imgHeight": height, "imgWidth": width, "objects": entries}
        atomic_write(path, json.dumps(root, indent=1).encode())


def _fault(label: str, deleted: bool, corners: int) -> str:
    """Return what an outline is instead of an object, in the plural, or an empty text."""
    if deleted:
        return "deleted objects"
    if label in _GROUPS:
        return "groups"
    return TOO_FEW_POINTS if corners < LEAST_CORNERS else ""
