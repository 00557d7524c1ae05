"""Objects from and to files of the annotation tool labelme: one JSON per picture with a list of shapes.

Rectangles, polygons and masks are objects; masks become polygons along the edges of their pixels. Shapes of one label
with one ``group_id`` are one object, a polygon for each part.
Points are keypoints, named by their label, of the object of their group. Flags of a shape say what labelme has no word
for: ``crowd`` and ``difficult`` of an object, ``occluded`` of a point (visibility 1).
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.labelme_mask import mask_outlines
from data.formats.picture_json import (
    LEAST_CORNERS,
    TOO_FEW_POINTS,
    check_size,
    listed_objects,
    points_of,
    read_picture_json,
)
from data.polygons import extent
from utils.errors import DataError
from utils.files import atomic_write

VERSION = "5.1.1"
"""Of the format; later labelme reads it too."""

RECTANGLE, POLYGON, POINT, MASK = "rectangle", "polygon", "point", "mask"
CROWD, DIFFICULT, OCCLUDED = "crowd", "difficult", "occluded"
_WHAT = "a labelme file"
_CORNERS = (2, 4)
"""Points of a rectangle: two opposite corners, or as some tools write, all four."""

_PLURALS = {"circle": "circles", "line": "lines", "linestrip": "strips of lines"}


@dataclass
class _Object:
    """What the shapes of an object say."""

    label: str
    box: np.ndarray | None = None
    polygons: list[np.ndarray] = field(default_factory=list)
    crowd: bool = False
    difficult: bool = False


@dataclass(frozen=True)
class _Point:
    label: str
    place: np.ndarray
    visibility: int
    where: str


class LabelmeObjects:
    """One labelme JSON per picture; the picture that it names inside is not looked for."""

    name = "labelme"
    names_inside = True
    names = ()
    keeps = frozenset({"outlines", "keypoints", "crowd", "difficult"})

    def label_file(self, image: Path, images: Path, labels: Path) -> Path:
        """Return where the labels of ``image`` lie, a file below ``images``, with labels below ``labels``."""
        return (labels / image.relative_to(images)).with_suffix(".json")

    def read(self, path: Path, size: tuple[int, int], classes: ClassList) -> Objects:
        """Read the objects of a file; boxes and polygons may reach over the edge of the picture.

        Shapes of other kinds, such as circles and lines, and points that are no keypoint of an object are left out and
        counted.

        Args:
            path: of the file.
            size: height and width of the picture.
            classes: names the keypoints; class names are those of the file.

        Raises:
            DataError: the file is malformed or of a picture of another size, or points cannot be told to belong to one
                object; the message names the file and the shape.
        """
        root = read_picture_json(path, _WHAT)
        check_size(root, ("imageHeight", "imageWidth"), size, path)
        shapes = listed_objects(root, "shapes", str(path), _WHAT)
        objects, groups, points, left_out = _read_shapes(shapes, size, path)
        keypoints = np.zeros((len(objects), len(classes.keypoints), 3))
        column = {name: index for index, name in enumerate(classes.keypoints)}
        for group, members in points.items():
            known = [point for point in members if point.label in column]
            owners = [] if group is None else groups[group]
            left_out["points that are no keypoint of an object"] += len(members) - (len(known) if owners else 0)
            if known and len(owners) > 1:
                raise DataError(
                    f"{known[0].where} is in the group {group!r} with {len(owners)} objects, so it belongs to none; "
                    "give each object a group of its own"
                )
            for point in known if owners else ():
                cell = keypoints[owners[0], column[point.label]]
                if cell[2] > 0:
                    raise DataError(f"{point.where} is twice in the group {group!r}; remove one of the points")
                cell[:] = *point.place, point.visibility
        return make_objects(
            names=[entry.label for entry in objects],
            boxes=np.array([extent(e.polygons) if e.box is None else e.box for e in objects]).reshape(-1, 4),
            outlines=[entry.polygons for entry in objects],
            keypoints=keypoints,
            crowd=np.array([entry.crowd for entry in objects], bool),
            difficult=np.array([entry.difficult for entry in objects], bool),
            boxed=np.array([entry.box is not None for entry in objects], bool),
            left_out={what: count for what, count in left_out.items() if count},
        )

    def write(self, path: Path, picture: AnnotatedPicture, classes: ClassList) -> None:
        """Write a file that names the picture by the path from its own folder, which must exist.

        An object is its polygons, whose extent is its box, or without any a rectangle: readers join the shapes of a
        group into one mask, so there is none beside polygons. Where an object has several shapes, they share a
        ``group_id``.

        Raises:
            DataError: a class has no name, or an object has other keypoints than the set names.
        """
        objects = picture.objects
        if len(objects) and objects.keypoints.shape[1] != len(classes.keypoints):
            raise DataError(
                f"{path}: its objects have {objects.keypoints.shape[1]} keypoints, but the set names "
                f"{len(classes.keypoints)}; name as many as they have"
            )
        shapes = []
        for i, name in enumerate(objects.names):
            if not name.strip():
                raise DataError(f"{path}: the class of object {i + 1} has an empty name; rename the class")
            flags = {CROWD: True} if objects.crowd[i] else {}
            flags |= {DIFFICULT: True} if objects.difficult[i] else {}
            own = [shape(name, part, POLYGON, flags) for part in objects.outlines[i]]
            own = own or [shape(name, objects.boxes[i].reshape(2, 2), RECTANGLE, flags)]
            for label, (x, y, visibility) in zip(classes.keypoints, objects.keypoints[i].tolist(), strict=True):
                if visibility:
                    own.append(shape(label, np.array([[x, y]]), POINT, {OCCLUDED: True} if visibility == 1 else {}))
            if len(own) > 1:
                for entry in own:
                    entry["group_id"] = i
            shapes += own
        write_shapes(path, picture.image, picture.size, shapes)


def shape(label: str, points: np.ndarray, kind: str, flags: dict[str, bool] | None = None) -> dict[str, Any]:
    """Return one shape of (n, 2) points x y in pixels, in no group."""
    return {
        "label": label,
        "points": points.astype(np.float64).tolist(),
        "group_id": None,
        "shape_type": kind,
        "flags": flags or {},
    }


def write_shapes(path: Path, picture: Path, size: tuple[int, int], shapes: Sequence[dict[str, Any]]) -> None:
    """Write the file of a picture.

    Args:
        path: of the JSON; its folder must exist.
        picture: the file of the picture, which the JSON names by the path from its own folder.
        size: native (height, width) of the picture.
        shapes: what ``shape`` returned.
    """
    document = {
        "version": VERSION,
        "flags": {},
        "shapes": list(shapes),
        "imagePath": _relative(picture, path.parent),
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    # Linux allows names of files that are no Unicode; JSON has an escape for what is wrong with them.
    atomic_write(path, json.dumps(document, indent=2, ensure_ascii=False).encode(errors="backslashreplace"))


def _read_shapes(
    shapes: Iterable[dict[str, Any]], size: tuple[int, int], path: Path
) -> tuple[list[_Object], dict[Any, list[int]], dict[Any, list[_Point]], Counter[str]]:
    """Return the objects, which of them each group has, the points of each group, and what is neither, counted."""
    objects: list[_Object] = []
    firsts: dict[tuple[Any, str], _Object] = {}
    groups: dict[Any, list[int]] = defaultdict(list)
    points: dict[Any, list[_Point]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for number, entry in enumerate(shapes, 1):
        label, kind, group = entry.get("label"), entry.get("shape_type") or POLYGON, entry.get("group_id")
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"{path}: shape {number} has no label; give it the name of its class")
        where = f"{path}: shape {number} ('{label[:40]}')"
        if not isinstance(kind, str) or not isinstance(group, int | str | None):
            raise DataError(f"{where} has a shape_type or a group_id that is neither a text nor a number; mend it")
        if kind not in (RECTANGLE, POLYGON, POINT, MASK):
            left_out[_PLURALS.get(kind, "shapes of other kinds")] += 1
            continue
        corners = points_of(entry.get("points"), where)
        if kind == POLYGON and len(corners) < LEAST_CORNERS:
            left_out[TOO_FEW_POINTS] += 1
            continue
        _check_number(kind, len(corners), where)
        parts = mask_outlines(entry.get("mask"), corners, size, where) if kind == MASK else [corners]
        if not parts:
            left_out["masks without a pixel in the picture"] += 1
            continue
        flags = entry.get("flags") if isinstance(entry.get("flags"), dict) else {}
        if kind == POINT:
            points[group].append(_Point(label, corners[0], 1 if flags.get(OCCLUDED) is True else 2, where))
            continue
        owner = firsts.get((group, label))
        # An object has one rectangle at most.
        if owner is None or (kind == RECTANGLE and owner.box is not None):
            owner = _Object(label)
            objects.append(owner)
            if group is not None:
                groups[group].append(len(objects) - 1)
                firsts.setdefault((group, label), owner)
        if kind == RECTANGLE:
            owner.box = np.concatenate([corners.min(0), corners.max(0)])
        else:
            owner.polygons += parts
        owner.crowd |= flags.get(CROWD) is True
        owner.difficult |= flags.get(DIFFICULT) is True
    return objects, groups, points, left_out


def _check_number(kind: str, count: int, where: str) -> None:
    if kind == RECTANGLE and count not in _CORNERS:
        raise DataError(f"{where} is a rectangle of {count} points; give it two opposite corners")
    if kind == POINT and count != 1:
        raise DataError(f"{where} is a point with {count} places; give it one")


def _relative(picture: Path, folder: Path) -> str:
    """Return the way from a folder to a picture, with slashes; on another drive than the folder's its whole path."""
    # Only folders are resolved: a picture that is a link keeps its own name.
    place = picture.parent.resolve() / picture.name
    try:
        return Path(os.path.relpath(place, folder.resolve())).as_posix()
    except ValueError:
        return place.as_posix()
