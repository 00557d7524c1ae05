"""Predictions of a whole split as a results file of COCO."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class CocoIds:
    """By which ids a results file knows images and classes.

    Attributes:
        images: by path.
        categories: one per class index.
    """

    images: Mapping[str, int | str]
    categories: Sequence[int | str]

    @classmethod
    def of_names(cls, images: Iterable[str], classes: int) -> CocoIds:
        """Return ids for labels that have none: the names of the files and the indices of the classes.

        Raises:
            DataError: two images would get one id, because only the file name without its suffix becomes the id.
        """
        owner: dict[int | str, str] = {}
        ids: dict[str, int | str] = {}
        for image in images:
            ids[image] = coco_image_id(image)
            if owner.setdefault(ids[image], image) != image:
                raise DataError(
                    f"{image} and {owner[ids[image]]} would both be image '{ids[image]}' in a COCO results file; "
                    "rename one of them"
                )
        return cls(ids, range(classes))


def write_coco_results(
    path: str | Path, records: Sequence[Record], ids: CocoIds, key: str, values_of: Callable[[Record], list[Any]]
) -> None:
    """Write all predictions, atomically.

    Args:
        path: the JSON file.
        records: of a whole split.
        ids: of its images and classes.
        key: what is written of every prediction beside its image, category and score: ``bbox`` or ``keypoints``.
        values_of: gives that for every prediction of a record.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        image, scores = ids.images[record.id], record.scores.astype(np.float64).round(5).tolist()
        rows += [
            {"image_id": image, "category_id": ids.categories[c], key: value, "score": score}
            for c, value, score in zip(record.classes.tolist(), values_of(record), scores, strict=True)
        ]
    atomic_write(path, json.dumps(rows).encode())
