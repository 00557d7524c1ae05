"""Predictions of a whole split as a results file of COCO."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import DataError
from utils.files import atomic_write
from utils.metrics.image_record import Record


def coco_image_id(image: str) -> int | str:
    """Return the COCO id of an image file: its name without suffix, as a number when it has digits only."""
    stem = Path(image).stem
    return int(stem) if stem.isascii() and stem.isdigit() else stem


def write_coco_results(
    path: str | Path,
    records: Sequence[Record],
    category_ids: Sequence[int],
    key: str,
    values_of: Callable[[Record], list[Any]],
) -> None:
    """Write all predictions, atomically.

    Args:
        path: the JSON file.
        records: of a whole split.
        category_ids: the category id of each class index.
        key: what is written of every prediction beside its image, category and score: ``bbox`` or ``keypoints``.
        values_of: gives that for every prediction of a record.

    Raises:
        DataError: two images would get one id, because only the file name without its suffix becomes the id.
    """
    rows: list[dict[str, Any]] = []
    for image, record in _by_image(records, path):
        scores = record.scores.astype(np.float64).round(5).tolist()
        rows += [
            {"image_id": image, "category_id": category_ids[c], key: value, "score": score}
            for c, value, score in zip(record.classes.tolist(), values_of(record), scores, strict=True)
        ]
    atomic_write(path, json.dumps(rows).encode())


def _by_image(records: Sequence[Record], path: str | Path) -> Iterator[tuple[int | str, Record]]:
    """Yield every record with its COCO image id, as ``write_coco_results`` wants them."""
    owner: dict[int | str, str] = {}
    for record in records:
        image = coco_image_id(record.id)
        if owner.setdefault(image, record.id) != record.id:
            raise DataError(
                f"{record.id} and {owner[image]} would both be image '{image}' in {path}; rename one of them"
            )
        yield image, record
