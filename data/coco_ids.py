"""The ids by which a COCO annotation file knows its images and categories, for results that are held against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.coco_cache import open_coco
from data.coco_index import coco_images
from data.formats.coco_json import WHAT
from data.formats.large_json import read_large_json
from data.task_data import TaskData
from utils.errors import DataError


def category_ids(data: TaskData, split: str) -> list[int | str] | None:
    """Return the category id of every class.

    Args:
        data: of one task; its annotation file has been read without a fault.
        split: train, val or test.

    Returns:
        One id per class name; None where there is no annotation file, or where several of its categories are one class.

    Raises:
        DataError: the annotation file can no longer be read.
    """
    if data.format != "coco_json":
        return None
    # Of two categories of one name the first is taken: they are one class here.
    ids = {entry["name"]: entry["id"] for entry in reversed(_entries(data.annotations[split], "categories"))}
    categories = list(ids)
    targets = data.label_map.of_names(categories).tolist()
    of_class = [
        [ids[name] for name, to in zip(categories, targets, strict=True) if to == k] for k in range(len(data.names))
    ]
    return [found[0] for found in of_class] if all(len(found) == 1 for found in of_class) else None


def image_ids(data: TaskData, split: str) -> dict[str, int | str] | None:
    """Return the id of every image by its path; None where there is no annotation file.

    Args:
        data: of one task; its annotation file has been read without a fault.
        split: train, val or test.

    Raises:
        DataError: the annotation file can no longer be read.
    """
    if data.format != "coco_json":
        return None
    path = data.annotations[split]
    paths = coco_images(open_coco(path), data.splits[split])
    return dict(zip(paths, (entry["id"] for entry in _entries(path, "images")), strict=True))


def _entries(path: Path, key: str) -> list[dict[str, Any]]:
    """Return a list of an annotation file other than that of the annotations, which is most of it."""
    try:
        return read_large_json(path, _unless_annotation, WHAT)[key]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read again ({error}); write or copy it again") from None


def _unless_annotation(entry: dict[str, Any]) -> dict[str, Any] | None:
    return None if "bbox" in entry else entry
