"""Objects from and to YOLO label files: boxes, polygons and keypoints as shares of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.yolo_txt import parse_rows, read_text
from data.polygons import clip_polygon, join_polygons
from utils.errors import DataError
from utils.files import atomic_write

_LEAST_CORNERS = 3


class YoloObjects:
    """One text file per picture; a row is ``class`` and a box, a polygon, or a box and keypoints."""

    name = "yolo"
    names_inside = False
    names = ()
    keeps = frozenset({"outlines", "keypoints"})

    def label_file(self, image: Path, images: Path, labels: Path) -> Path:
        """Return where the labels of ``image`` lie, a file below ``images``, with labels below ``labels``."""
        return (labels / image.relative_to(images)).with_suffix(".txt")

    def read(self, path: Path, size: tuple[int, int], classes: ClassList) -> Objects:
        """Read the rows of a label file, each an object; boxes may reach over the edge of the picture.

        Args:
            path: of the file.
            size: height and width of the picture in pixels.
            classes: names by index; with keypoints every row has to have theirs.

        Raises:
            DataError: the file cannot be read or a row is malformed; the message names file and line.
        """
        rows = parse_rows(read_text(path), len(classes.names), len(classes.keypoints), str(path))
        scale = np.array(size[::-1], np.float64)
        polygons = np.split(rows.points * scale, np.cumsum(rows.counts)[:-1])
        keypoints = rows.keypoints.copy()
        keypoints[..., :2] *= scale
        return make_objects(
            names=[classes.names[index] for index in rows.classes.tolist()],
            boxes=rows.boxes * np.tile(scale, 2),
            outlines=[[polygon] if len(polygon) else [] for polygon in polygons] if len(rows.classes) else [],
            keypoints=keypoints,
            boxed=rows.counts == 0,
        )

    def write(self, path: Path, picture: AnnotatedPicture, classes: ClassList) -> None:
        """Write a label file; its folder must exist.

        With keypoints every row is a box and its keypoints. Without, an object with outlines is a polygon, whose extent
        is its box, and any other a box. What lies outside the picture is cut off; an object that lies outside as a
        whole has a row without area. Several outlines of an object are joined by seams without width.

        Raises:
            DataError: the list of classes lacks a name, or an object has other keypoints than the list names.
        """
        objects = picture.objects
        indices = class_indices(path, objects.names, classes.names)
        limits = np.array(picture.size[::-1], np.float64)
        corners = np.clip(objects.boxes.reshape(-1, 2, 2), 0, limits)
        boxes = np.hstack([corners.sum(1) / 2 / limits, (corners[:, 1] - corners[:, 0]) / limits])
        values: list[Sequence[float]] = boxes.tolist()
        if classes.keypoints:
            points = _shares_of_keypoints(path, objects, limits, len(classes.keypoints))
            values = np.hstack([boxes, points]).tolist()
        else:
            for row, parts in enumerate(objects.outlines):
                polygon = clip_polygon(join_polygons(parts), picture.size) if parts else np.zeros((0, 2))
                if len(polygon) >= _LEAST_CORNERS:
                    values[row] = (polygon / limits).ravel().tolist()
        # All digits: what is read from the row differs from what was written by no more than a rounding of doubles.
        lines = [" ".join([str(k), *(f"{v:g}" if v == int(v) else repr(v) for v in row)]) + "\n"
                 for k, row in zip(indices, values, strict=True)]  # fmt: skip
        atomic_write(path, "".join(lines).encode())


def class_indices(path: Path, names: Sequence[str], listed: Sequence[str]) -> list[int]:
    """Return the index of every object's class in the list of classes.

    Raises:
        DataError: the list lacks a name; ``path`` is the file that cannot be written.
    """
    index_of = {name: index for index, name in enumerate(listed)}
    unknown = next((name for name in names if name not in index_of), None)
    if unknown is not None:
        raise DataError(f"{path}: the list of classes lacks '{unknown}', so it has no index; add the name to the list")
    return [index_of[name] for name in names]


def _shares_of_keypoints(path: Path, objects: Objects, limits: np.ndarray, count: int) -> np.ndarray:
    """Return x y v of every object's keypoints in one row, (n, 3 * count); places outside are moved to the edge."""
    if objects.keypoints.shape[1] != count:
        raise DataError(
            f"{path}: its objects have {objects.keypoints.shape[1]} keypoints, but the set names {count}; "
            "name as many as they have"
        )
    keypoints = objects.keypoints.copy()
    keypoints[..., :2] = np.clip(keypoints[..., :2], 0, limits) / limits
    return keypoints.reshape(len(objects), 3 * count)
