"""The ids by which a COCO annotation file knows its categories, for results that other programs hold against it."""

from __future__ import annotations

import json
from pathlib import Path

from data.task_data import TaskData
from utils.errors import DataError


def category_ids(data: TaskData, split: str) -> list[int | str] | None:
    """Return the category id of every class.

    Args:
        data: of one task; its annotation file has been read without a fault.
        split: train, val or test.

    Returns:
        One id per class name; None where there is no annotation file, or where its categories were made one class.

    Raises:
        DataError: the annotation file can no longer be read.
    """
    names = data.options.get("categories", data.names)
    if data.format != "coco_json" or data.merged_classes or len(names) != len(data.names):
        return None
    path = Path(data.annotations[split])
    try:
        categories = json.loads(path.read_bytes())["categories"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read again ({error}); write or copy it again") from None
    # Of two categories of one name the first is taken: they are one class here.
    ids = {entry["name"]: entry["id"] for entry in reversed(categories)}
    return [ids[name] for name in names]
