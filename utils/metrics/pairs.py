"""Which predictions meet which labels: all pairs of a whole data set in batched arrays, without a loop over images.

Shape suffixes: n predictions, m labels, p pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

PAIRS_AT_ONCE = 1 << 18
"""About so many pairs are weighed in one go: enough for NumPy, few enough for a processor's cache."""

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes (p,) indices of predictions and (p,) of labels, and returns how much each pair agrees, (p,) in 0..1."""


class Pairs(NamedTuple):
    """Predictions and labels that agree enough to be looked at.

    Attributes:
        prediction: (p,) indices, ascending.
        label: (p,) indices, ascending for each prediction.
        overlap: (p,) how much they agree, 0..1.
    """

    prediction: np.ndarray
    label: np.ndarray
    overlap: np.ndarray


def similar_pairs(groups: np.ndarray, label_groups: np.ndarray, similarity: Similarity, least: float) -> Pairs:
    """Return the pairs of equal group, such as image and class, that agree by ``least`` or more.

    Args:
        groups: (n,) int64 group of each prediction.
        label_groups: (m,) int64 group of each label.
        similarity: says how much pairs agree.
        least: 0..1.
    """
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for prediction, label in _pairs_of_groups(groups, label_groups):
        overlap = similarity(prediction, label)
        enough = np.flatnonzero(overlap >= least)
        found.append((prediction[enough], label[enough], overlap[enough]))
    first = found[1:] or found
    return Pairs(*(np.concatenate(parts) for parts in zip(*first, strict=True)))


def _pairs_of_groups(groups: np.ndarray, label_groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every prediction with every label of its group, some predictions at a time, each with all its labels."""
    if not len(label_groups):
        return
    order = np.argsort(label_groups, kind="stable")
    known, starts, counts = np.unique(label_groups[order], return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(known, groups), len(known) - 1)
    mine = np.flatnonzero(known[place] == groups)
    start, count = starts[place[mine]], counts[place[mine]]
    ends = np.cumsum(count)
    cuts = np.flatnonzero(np.diff(ends // PAIRS_AT_ONCE)) + 1
    for part in np.split(np.arange(len(mine)), cuts):
        own = count[part]
        within = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
        yield np.repeat(mine[part], own), order[np.repeat(start[part], own) + within]


def box_similarity(boxes: np.ndarray, label_boxes: np.ndarray, crowd: np.ndarray | None = None) -> Similarity:
    """Return the overlap (intersection over union) of boxes as a similarity.

    Args:
        boxes: (n, 4) predictions x1 y1 x2 y2.
        label_boxes: (m, 4) labels, same unit and type.
        crowd: (m,) bool, labels that a prediction agrees with by the share of its own area that lies in them; None for
            none.
    """
    sides, label_sides = np.ascontiguousarray(boxes.T), np.ascontiguousarray(label_boxes.T)
    areas = (sides[2] - sides[0]) * (sides[3] - sides[1])
    label_areas = (label_sides[2] - label_sides[0]) * (label_sides[3] - label_sides[1])

    def overlap(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        found, wanted = sides[:, prediction], label_sides[:, label]
        width = np.minimum(found[2], wanted[2]) - np.maximum(found[0], wanted[0])
        height = np.minimum(found[3], wanted[3]) - np.maximum(found[1], wanted[1])
        both = np.maximum(width, 0) * np.maximum(height, 0)
        own = areas[prediction]
        either = label_areas[label] + own - both
        if crowd is not None:
            either = np.where(crowd[label], own, either)
        # Boxes without area overlap with nothing.
        return np.divide(both, either, out=np.zeros_like(both), where=either > 0)

    return overlap
