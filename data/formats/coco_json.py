"""COCO annotation files: one JSON of images, categories and annotations (instances_*, person_keypoints_*)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data.formats.inner_names import leads_outside, may_be_a_path
from data.formats.large_json import read_large_json
from utils.errors import DataError

WHAT = "a COCO annotation file"
_NO_IMAGE = -1
MOST_PIXELS = 1e9
"""Lengths and places beyond it are no pixels of any picture, and single precision would lose them."""


@dataclass(frozen=True)
class CocoFile:
    """An annotation file in flat arrays, in the order of the file, n images and m annotations.

    Attributes:
        path: of the file, for messages.
        files: the images' names, relative to their folder.
        sizes: (n, 2) int32, height and width as the file gives them, 0 where it does not.
        categories: names in the order of the categories' ids; two categories of one name are one.
        keypoint_names: of the first category that has any.
        images: (m,) int64, position of the annotation's image, -1 where the file does not list it.
        classes: (m,) int64, position of the annotation's category.
        boxes: (m, 4) float64, x y w h in pixels, as the file gives them.
        areas: (m,) float64, square pixels, NaN where the file gives none.
        crowd: (m,) bool.
        keypoints: (p,) float64, x y v of every annotation's keypoints, one annotation after the other.
        offsets: (m + 1,) int64, annotation i owns the values offsets[i] .. offsets[i + 1] - 1 of ``keypoints``.
        ids: (m,) int64, of the annotations; their position, from 0, where the file has no whole numbers for ids.
    """

    path: Path
    files: list[str]
    sizes: np.ndarray
    categories: list[str]
    keypoint_names: tuple[str, ...]
    images: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    keypoints: np.ndarray
    offsets: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        """Return the number of annotations."""
        return len(self.images)

    def fault(self, row: int, what: str) -> DataError:
        """Return the error for annotation ``row``."""
        return DataError(f"{self.path}: annotation {self.ids[row]} {what}")


def read_coco(path: str | Path) -> CocoFile:
    """Read and check an annotation file; outlines of objects are skipped.

    Raises:
        DataError: the file cannot be read, is no JSON or lacks a part, or an entry is malformed; the message names the
            file and the id of the annotation.
    """
    path = Path(path)
    return parse_coco(read_large_json(path, _without_outline, WHAT), path)


def read_coco_classes(path: str | Path) -> CocoFile:
    """Read an annotation file without its annotations, which may be anything.

    Raises:
        DataError: see ``read_coco``; nothing is said of annotations.
    """
    root = read_large_json(Path(path), _without_outline, WHAT)
    if isinstance(root, dict) and isinstance(root.get("annotations"), list):
        root = {**root, "annotations": []}
    return parse_coco(root, path)


def parse_coco(root: Any, path: str | Path = "annotations") -> CocoFile:
    """Check and convert the content of an annotation file; ``path`` names it in errors. See ``read_coco``."""
    return _Parser(Path(path)).parse(root)


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop an annotation's outline as soon as it is read: it is most of a file, and is not used."""
    entry.pop("segmentation", None)
    return entry


class _Parser:
    def __init__(self, path: Path):
        self.path = path
        self.ids = np.zeros(0, np.int64)

    def parse(self, root: Any) -> CocoFile:
        if not isinstance(root, dict):
            raise self._fault("is no COCO annotation file: it has no `images`, `annotations` and `categories`")
        images, categories, annotations = (self._list(root, key) for key in ("images", "categories", "annotations"))
        names, class_of, keypoint_names = self._categories(categories)
        files, image_of = self._images(images)
        self.ids = _annotation_ids(annotations)
        for key in ("image_id", "category_id", "bbox"):
            self._require(annotations, key)
        classes = [class_of.get(_key(entry["category_id"]), -1) for entry in annotations]
        unknown = next((i for i, index in enumerate(classes) if index < 0), None)
        if unknown is not None:
            raise self._annotation_fault(
                unknown, f"is of category {annotations[unknown]['category_id']!r}, which `categories` does not list"
            )
        keypoints, offsets = self._keypoints(annotations)
        return CocoFile(
            path=self.path,
            files=files,
            sizes=_sizes(images),
            categories=names,
            keypoint_names=keypoint_names,
            images=np.array([image_of.get(_key(entry["image_id"]), _NO_IMAGE) for entry in annotations], np.int64),
            classes=np.array(classes, np.int64),
            boxes=self._boxes(annotations),
            areas=self._areas(annotations),
            crowd=np.array([entry.get("iscrowd") in (1, True) for entry in annotations], bool),
            keypoints=keypoints,
            offsets=offsets,
            ids=self.ids,
        )

    def _list(self, root: dict[str, Any], key: str) -> list[dict[str, Any]]:
        entries = root.get(key)
        if not isinstance(entries, list):
            raise self._fault(f"has no list `{key}`; give a COCO file with `images`, `annotations` and `categories`")
        wrong = next((i for i, entry in enumerate(entries) if not isinstance(entry, dict)), None)
        if wrong is not None:
            raise self._fault(f"has an entry of `{key}` that is no object (number {wrong}); mend or remove it")
        return entries

    def _categories(self, categories: list[dict[str, Any]]) -> tuple[list[str], dict[Any, int], tuple[str, ...]]:
        """Return the names by class, the class of each id, and the names of the keypoints."""
        for entry in categories:
            if not isinstance(entry.get("name"), str) or _key(entry.get("id")) is None:
                raise self._fault(f"has a category without id or name ({_shortened(entry)}); give it both")
        if not categories:
            raise self._fault("lists no category")
        if all(isinstance(entry["id"], int | float) for entry in categories):
            categories = sorted(categories, key=lambda entry: entry["id"])
        names = list(dict.fromkeys(entry["name"] for entry in categories))
        place = {name: index for index, name in enumerate(names)}
        class_of: dict[Any, int] = {}
        for entry in categories:
            if class_of.setdefault(_key(entry["id"]), place[entry["name"]]) != place[entry["name"]]:
                raise self._fault(f"has two categories with the id {entry['id']!r}; give each its own")
        keypoints = next((entry["keypoints"] for entry in categories if entry.get("keypoints")), [])
        if not isinstance(keypoints, list):
            raise self._fault("has a category whose `keypoints` is no list of names; mend it")
        return names, class_of, tuple(str(name) for name in keypoints)

    def _images(self, images: list[dict[str, Any]]) -> tuple[list[str], dict[Any, int]]:
        """Return the files' names and the position of each id."""
        for entry in images:
            if not isinstance(entry.get("file_name"), str) or _key(entry.get("id")) is None:
                raise self._fault(f"has an image without id or file_name ({_shortened(entry)}); give it both")
        position = {_key(entry["id"]): i for i, entry in enumerate(images)}
        if len(position) < len(images):
            repeated = next(entry["id"] for i, entry in enumerate(images) if position[_key(entry["id"])] != i)
            raise self._fault(f"has two images with the id {repeated!r}; give each its own")
        files = [entry["file_name"] for entry in images]
        odd = next((name for name in files if not may_be_a_path(name)), None)
        if odd is not None:
            raise self._fault(f"has an image with the file_name {_shortened(odd)}, which no file can have; mend it")
        outside = next((name for name in files if leads_outside(name)), None)
        if outside is not None:
            raise self._fault(
                f"has an image with the file_name {_shortened(outside)}, which leads out of the folder of images; give "
                "names relative to that folder, without '..'"
            )
        if len(set(files)) < len(files):
            places = {name: i for i, name in enumerate(files)}
            repeated = next(name for i, name in enumerate(files) if places[name] != i)
            raise self._fault(f"lists the image '{repeated}' twice; keep one entry with all its annotations")
        return files, position

    def _boxes(self, annotations: list[dict[str, Any]]) -> np.ndarray:
        boxes = [entry["bbox"] for entry in annotations]
        table = _table(boxes, 4)
        if not _are_pixels(table):
            row = next(i for i, box in enumerate(boxes) if not _are_pixels(_table([box], 4)))
            raise self._annotation_fault(row, f"has the bbox {_shortened(boxes[row])}; give four numbers x y w h")
        return table

    def _areas(self, annotations: list[dict[str, Any]]) -> np.ndarray:
        values = [np.nan if (area := entry.get("area")) is None else area for entry in annotations]
        areas = _floats(values)
        if areas is None or (np.abs(areas) >= MOST_PIXELS**2).any():
            row = next(
                i
                for i, value in enumerate(values)
                if (one := _floats([value])) is None or abs(one[0]) >= MOST_PIXELS**2
            )
            raise self._annotation_fault(row, f"has the area {_shortened(values[row])}; give a number of square pixels")
        return areas

    def _keypoints(self, annotations: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        values = [entry.get("keypoints") or () for entry in annotations]
        wrong = next((i for i, value in enumerate(values) if not isinstance(value, list | tuple)), None)
        if wrong is not None:
            raise self._annotation_fault(wrong, f"has the keypoints {_shortened(values[wrong])}; give x y v of each")
        offsets = np.concatenate([[0], np.cumsum([len(value) for value in values], dtype=np.int64)]).astype(np.int64)
        flat = _floats(chain.from_iterable(values), int(offsets[-1]))
        if not _are_pixels(flat):
            row = next(i for i, value in enumerate(values) if not _are_pixels(_floats(value)))
            raise self._annotation_fault(row, "has a keypoint that is no finite number; give x y v of each keypoint")
        return flat, offsets

    def _require(self, annotations: list[dict[str, Any]], key: str) -> None:
        row = next((i for i, entry in enumerate(annotations) if key not in entry), None)
        if row is not None:
            raise self._annotation_fault(row, f"has no `{key}`; add it or remove the annotation")

    def _fault(self, what: str) -> DataError:
        return DataError(f"{self.path}: {what}")

    def _annotation_fault(self, row: int, what: str) -> DataError:
        return self._fault(f"annotation {self.ids[row]} {what}")


def _annotation_ids(annotations: list[dict[str, Any]]) -> np.ndarray:
    ids = [entry.get("id") for entry in annotations]
    if all(type(value) is int and abs(value) < 2**63 for value in ids):
        return np.array(ids, np.int64)
    return np.arange(len(ids), dtype=np.int64)


def _sizes(images: list[dict[str, Any]]) -> np.ndarray:
    """Return (n, 2) int32 heights and widths; (0, 0) where they are no whole numbers of pixels."""
    sizes = [(entry.get("height"), entry.get("width")) for entry in images]
    fits = [type(h) is int and type(w) is int and 0 < h < 2**31 and 0 < w < 2**31 for h, w in sizes]
    return np.array([size if fit else (0, 0) for size, fit in zip(sizes, fits, strict=True)], np.int32).reshape(-1, 2)


def _table(rows: Sequence[Any], columns: int) -> np.ndarray | None:
    """Return (n, columns) float64, or None where a row is not that many numbers."""
    try:
        table = np.array(rows, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    return table.reshape(-1, columns) if table.shape == (len(rows), columns) or not len(rows) else None


def _floats(values: Iterable[Any], count: int = -1) -> np.ndarray | None:
    """Return (n,) float64, or None where a value is no number."""
    try:
        return np.fromiter(values, np.float64, count)
    except (ValueError, TypeError, OverflowError):
        return None


def _are_pixels(values: np.ndarray | None) -> bool:
    return values is not None and bool((np.abs(values) < MOST_PIXELS).all())


def _key(identity: Any) -> Any:
    """Return an id as a key of a dictionary; what cannot be one matches nothing."""
    return identity if isinstance(identity, int | str | float) else None


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
