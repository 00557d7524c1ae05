"""Puts the labels of several sources of one split one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from data.report import DataReport
from data.scan import LabelIndex


def joined_index(name: str, parts: Sequence[LabelIndex], listed: Sequence[int], searched: Sequence[str]) -> LabelIndex:
    """Return the labels of all parts as those of one split.

    Where one of them has areas and crowd marks, boxes of the others have their own areas and are no crowds.

    Args:
        name: of the split, for the report.
        parts: at least one.
        listed: how many images each part lists.
        searched: where the first labels of each were looked for.
    """
    starts = np.cumsum([0, *listed[:-1]])
    marked = any(part.crowd is not None for part in parts)
    return LabelIndex(
        kept=np.concatenate([part.kept + start for part, start in zip(parts, starts, strict=True)]),
        sizes=np.concatenate([part.sizes for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.offsets) for part in parts]))]),
        classes=np.concatenate([part.classes for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        keypoints=np.concatenate([_keypoints(part, parts) for part in parts]),
        report=_joined_report(name, [part.report for part in parts], searched),
        areas=np.concatenate([_areas(part) for part in parts]) if marked else None,
        crowd=np.concatenate([_crowd(part) for part in parts]) if marked else None,
    )


def _keypoints(part: LabelIndex, parts: Sequence[LabelIndex]) -> np.ndarray:
    """Return a part's keypoints; one without any image has none in the number of the others."""
    count = max(other.keypoints.shape[1] for other in parts)
    return part.keypoints if len(part.kept) else np.zeros((0, count, 3), np.float32)


def _areas(part: LabelIndex) -> np.ndarray:
    if part.areas is not None:
        return part.areas
    pixels = np.repeat(part.sizes.astype(np.float64), np.diff(part.offsets), axis=0).prod(1)
    sides = part.boxes[:, 2:].astype(np.float64) - part.boxes[:, :2]
    return (sides.prod(1) * pixels).astype(np.float32)


def _crowd(part: LabelIndex) -> np.ndarray:
    return np.zeros(len(part.boxes), bool) if part.crowd is None else part.crowd


def _joined_report(name: str, reports: Sequence[DataReport], searched: Sequence[str]) -> DataReport:
    """Return the sums and lists of all reports; a source without any label is a warning of the whole."""
    joined = DataReport(name)
    for entry in fields(DataReport):
        values = [getattr(report, entry.name) for report in reports]
        if entry.name == "left_out":
            joined.left_out = dict(sum((Counter(value) for value in values), Counter()))
        elif isinstance(values[0], list):
            setattr(joined, entry.name, [item for value in values for item in value])
        elif entry.name not in ("name", "searched"):
            known = [value for value in values if value is not None]
            setattr(joined, entry.name, sum(known) if known else None)
    if joined.found:
        joined.warnings += [
            f"0 of {report.listed} images of source {number} have labels; looked for {place}"
            for number, (report, place) in enumerate(zip(reports, searched, strict=True), 1)
            if not report.found
        ]
    return joined
