"""Reads a COCO annotation file as training does, but every annotation that can be read; the rest is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.checks.faulty_parts import MOST_FAULTS, find_faulty_parts
from data.coco_cache import open_coco
from data.coco_index import keypoints_of
from data.formats.coco_json import WHAT, CocoFile, parse_coco
from data.formats.large_json import read_large_json
from utils.errors import DataError


def open_coco_parts(file: Path) -> tuple[CocoFile, list[str]]:
    """Return what an annotation file holds, and what its reader says of each annotation that it refuses.

    Raises:
        DataError: the file is no JSON, or its images or categories are at fault.
    """
    try:
        return open_coco(file), []
    except DataError:
        root = read_large_json(file, _without_outline, WHAT)
    annotations = _annotations(root)
    if annotations is None:
        return parse_coco(root, file), []

    def parse(begin: int, end: int) -> CocoFile:
        return parse_coco({**root, "annotations": annotations[begin:end]}, file)

    if not all(isinstance(entry, dict) and type(entry.get("id")) is int for entry in annotations):
        # Without ids the reader counts, which would begin anew in every range.
        annotations = [{**entry, "id": i} if isinstance(entry, dict) else entry for i, entry in enumerate(annotations)]
    empty = parse(0, 0)
    faulty = find_faulty_parts(len(annotations), parse)
    if not faulty.complete:
        return empty, [*faulty.sentences, f"{file}: more than {MOST_FAULTS} annotations are refused; mend these first"]
    refused = set(faulty.places)
    kept = [entry for i, entry in enumerate(annotations) if i not in refused]
    return parse_coco({**root, "annotations": kept}, file), faulty.sentences


def without_bad_keypoints(coco: CocoFile, count: int) -> tuple[CocoFile, list[str]]:
    """Return an annotation file without the annotations whose keypoints are refused, and what is said of each.

    Args:
        coco: the file.
        count: keypoints that every object has.
    """
    lengths = np.diff(coco.offsets)
    rows = np.flatnonzero(lengths) if count else np.zeros(0, np.int64)
    faulty = find_faulty_parts(len(rows), lambda begin, end: keypoints_of(count, coco, rows[begin:end]))
    if not faulty.places:
        return coco, []
    kept = np.ones(len(coco), bool)
    kept[rows[faulty.places]] = False
    good = replace(
        coco,
        **{name: getattr(coco, name)[kept] for name in ("images", "classes", "boxes", "areas", "crowd", "ids")},
        keypoints=coco.keypoints[np.repeat(kept, lengths)],
        offsets=np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
    )
    return good, faulty.sentences


def _annotations(root: Any) -> list[Any] | None:
    entries = root.get("annotations") if isinstance(root, dict) else None
    return entries if isinstance(entries, list) else None


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry
