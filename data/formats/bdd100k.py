"""Objects from and to BDD100K: boxes of ten classes, all pictures of a split in one JSON, or a folder of one JSON each.

The list of a split is what both releases have: frames with ``name`` and ``labels``, each a ``category`` with ``box2d``.
A list may also stand under ``frames`` of an object, with the size of the pictures in its ``config``. A folder has
``{"name": ..., "frames": [{"objects": [...]}]}`` for each picture.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from data.annotations import AnnotatedPicture, ClassList, Objects, make_objects
from data.formats.inner_names import leads_outside, may_be_a_path
from data.formats.large_json import read_large_json
from data.formats.listed_pictures import find_pictures, picture_sizes
from data.formats.picture_json import is_place, read_picture_json
from data.images import IMAGE_SUFFIXES
from utils.errors import DataError, did_you_mean
from utils.files import atomic_writer

CLASSES = (
    *("pedestrian", "rider", "car", "truck", "bus"),
    *("train", "motorcycle", "bicycle", "traffic light", "traffic sign"),
)
"""In the order of the second release."""

_FIRST_RELEASE = {"person": "pedestrian", "motor": "motorcycle", "bike": "bicycle"}
_CLASS_OF = {**{name: name for name in CLASSES}, **_FIRST_RELEASE}
_LANES, _AREAS = ("lane",), ("drivable area", "area")
_SUFFIX = ".jpg"
_SIDES = ("x1", "y1", "x2", "y2")
_WHAT = "the BDD100K labels of a split"


class _Label(NamedTuple):
    """A label as soon as it is read: the text of a split would be several times as large as dictionaries.

    Attributes:
        category: as in the file.
        box: x1 y1 x2 y2 in pixels; None without; something else where it is malformed.
        crowd: many objects that are not told apart.
    """

    category: Any
    box: Any
    crowd: bool


@dataclass(frozen=True)
class _Frame:
    """A picture and its labels, or what stands there instead of them.

    Attributes:
        where: names the frame in errors.
        name: of the picture, as in the file.
        labels: as in the file.
    """

    where: str
    name: Any
    labels: Any


class Bdd100kObjects:
    """One JSON for a split, or a folder with one per picture."""

    name = "bdd100k"
    names = CLASSES
    keeps = frozenset({"crowd"})

    def read(self, path: Path, images: Sequence[Path]) -> tuple[ClassList, list[AnnotatedPicture]]:
        """Read the boxes of a split; the names of the first release become those of the second.

        Boxes are those of the file and may reach over the edge. Lanes, drivable areas, other labels without a box and
        boxes of other classes are left out and counted. The size of a picture is that of its file; of one that is
        missing or cannot be read it is what the labels say, (0, 0) where they are silent.

        Args:
            path: the JSON of the split or the folder of the JSONs of its pictures.
            images: folders where the pictures lie.

        Raises:
            DataError: a file is malformed; the message names the file, the picture and the label.
        """
        if path.is_dir():
            frames, size = list(_frames_of_folder(path)), (0, 0)
        else:
            root = read_large_json(path, _compact, _WHAT)
            frames, size = _frames_of_list(root, path), _size_of_all(root)
        names = [_picture_name(frame, images) for frame in frames]
        if len(set(names)) < len(names):
            repeated, _ = next(pair for pair in pairwise(sorted(names)) if pair[0] == pair[1])
            raise DataError(f"{path}: has two entries for the picture '{repeated}'; remove one of them")
        objects = [_objects(frame) for frame in frames]
        files = find_pictures(names, images)
        sizes = picture_sizes(files, np.tile(np.array(size), (len(files), 1))).tolist()
        pictures = [
            AnnotatedPicture(Path(file), name, (height, width), entry)
            for file, name, (height, width), entry in zip(files, names, sizes, objects, strict=True)
        ]
        return ClassList(list(CLASSES)), pictures

    def write(self, path: Path, pictures: Sequence[AnnotatedPicture], classes: ClassList) -> None:
        """Write the list of a split; its folder must exist.

        Raises:
            DataError: BDD100K has no such class.
        """
        frames = []
        for picture in pictures:
            objects, labels = picture.objects, []
            for i, (name, box) in enumerate(zip(objects.names, objects.boxes.tolist(), strict=True)):
                if name not in CLASSES:
                    raise DataError(
                        f"{path}: BDD100K has no class '{name}', which {picture.relative} has; leave it out or rename "
                        f"it to one of {', '.join(CLASSES)}.{did_you_mean(name, CLASSES)}"
                    )
                attributes = {"crowd": bool(objects.crowd[i])}
                box2d = dict(zip(_SIDES, box, strict=True))
                labels.append({"id": str(i), "category": name, "attributes": attributes, "box2d": box2d})
            frames.append({"name": picture.relative, "labels": labels})
        with atomic_writer(path) as file:
            file.write(json.dumps(frames, allow_nan=False).encode())


def _compact(entry: dict[str, Any]) -> Any:
    """Return what takes the place of an object of the JSON: a label as ``_Label``, an outline as None."""
    if "vertices" in entry:
        return None
    if "category" not in entry:
        return entry
    box, attributes = entry.get("box2d"), entry.get("attributes")
    if isinstance(box, dict):
        box = tuple(box.get(side) for side in _SIDES)
    return _Label(entry["category"], box, isinstance(attributes, dict) and attributes.get("crowd") is True)


def _frames_of_list(root: Any, path: Path) -> list[_Frame]:
    entries = root.get("frames") if isinstance(root, dict) and "name" not in root else root
    if not isinstance(entries, list):
        raise DataError(f"{path}: is no list of pictures with `name` and `labels`; give {_WHAT} or their folder")
    wrong = next((i for i, entry in enumerate(entries, 1) if not isinstance(entry, dict)), None)
    if wrong is not None:
        raise DataError(f"{path}: picture {wrong} is no JSON object with `name` and `labels`; mend or remove it")
    return [_Frame(f"{path}: {entry.get('name')!r:.60}", entry.get("name"), entry.get("labels")) for entry in entries]


def _frames_of_folder(folder: Path) -> Iterator[_Frame]:
    """Return a frame for each JSON below a folder; the picture lies as the JSON does."""
    files = sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names if name.endswith(".json"))
    if not files:
        raise DataError(f"{folder}: no .json is in this folder; give {_WHAT}")
    # Here, because the scan reads label formats itself.
    from data.scan import in_threads

    yield from in_threads(lambda file: _frame_of_picture(file, folder), files, "reading labels")


def _frame_of_picture(file: Path, folder: Path) -> _Frame:
    root = read_picture_json(file, "the BDD100K labels of one picture", _compact)
    name = file.relative_to(folder).with_suffix("").as_posix()
    if "frames" not in root:
        return _Frame(str(file), name, root.get("labels"))
    frames = root["frames"]
    if not isinstance(frames, list) or len(frames) != 1 or not isinstance(frames[0], dict):
        raise DataError(f"{file}: its `frames` is no list of one entry; give the labels of single pictures")
    return _Frame(str(file), name, frames[0].get("objects"))


def _size_of_all(root: Any) -> tuple[int, int]:
    """Return height and width that a list gives for all its pictures, (0, 0) where it gives none."""
    config = root.get("config") if isinstance(root, dict) else None
    size = config.get("imageSize") if isinstance(config, dict) else None
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (0, 0)
    return sides if all(type(side) is int and 0 < side < 10**6 for side in sides) else (0, 0)


def _picture_name(frame: _Frame, images: Sequence[Path]) -> str:
    """Return the name of a frame's picture relative to its folder, with the suffix that it has there."""
    name = frame.name
    if not isinstance(name, str) or not may_be_a_path(name):
        raise DataError(f"{frame.where} is the `name` of a picture that no file can have; mend it")
    if leads_outside(name):
        raise DataError(
            f"{frame.where} is the `name` of a picture outside the folder of images; give names relative to that "
            "folder, without '..'"
        )
    name = str(PurePosixPath(name.replace("\\", "/")))
    if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
        return name
    candidates = [name + suffix for suffix in (_SUFFIX, *sorted(IMAGE_SUFFIXES - {_SUFFIX}))]
    there = (entry for entry in candidates for folder in images if (folder / entry).is_file())
    return next(there, candidates[0])


def _objects(frame: _Frame) -> Objects:
    names, boxes, crowd = [], [], []
    left_out: Counter[str] = Counter()
    # A picture without any label has none, or null.
    entries = [] if frame.labels is None else frame.labels
    if not isinstance(entries, list):
        raise DataError(f"{frame.where} has labels that are no list; mend them")
    for number, label in enumerate(entries, 1):
        if not isinstance(label, _Label) or not isinstance(label.category, str):
            raise DataError(f"{frame.where}, label {number} has no category; give it one or remove it")
        if label.box is None:
            left_out[_kind_without_box(label.category)] += 1
        elif label.category not in _CLASS_OF:
            left_out["boxes of other classes"] += 1
        elif not isinstance(label.box, tuple) or not all(is_place(value) for value in label.box):
            raise DataError(
                f"{frame.where}, label {number} ('{label.category}') has a box2d whose x1, y1, x2, y2 are not four "
                "numbers of pixels; mend or remove it"
            )
        else:
            names.append(_CLASS_OF[label.category])
            boxes.append(label.box)
            crowd.append(label.crowd)
    return make_objects(names, np.array(boxes, np.float64), crowd=np.array(crowd, bool), left_out=dict(left_out))


def _kind_without_box(category: str) -> str:
    first = category.split("/")[0]
    if first in _LANES:
        return "lanes"
    return "drivable areas" if first in _AREAS else "labels without a box"
