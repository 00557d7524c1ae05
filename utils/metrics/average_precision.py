"""Precision and recall over confidence, and average precision as the area under their curve.

Shape suffixes: n predictions, m labels, C classes that have labels, T overlap thresholds, S sampled confidences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.metrics.pairs import box_similarity, similar_pairs

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Overlaps at which a prediction is compared with a label: 0.50, 0.55 ... 0.95."""

CONFIDENCES = np.linspace(0, 1, 1000)
"""Confidences at which the curves are sampled."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is averaged."""

_TINY = 1e-16


@dataclass(frozen=True)
class CurveRule:
    """Where releases differ in drawing the curves.

    Attributes:
        recall_end: recall at which precision is taken to reach 0; None means 0.01 after the last recall.
        smoothing: width of the box filter over the mean F1 curve before its peak is sought, as a share of the curve.
    """

    recall_end: float | None = None
    smoothing: float = 0.0


V5_RULE = CurveRule()
"""YOLOv5 v5.0."""

LATER_RULE = CurveRule(recall_end=1.0, smoothing=0.1)
"""YOLOv5 v6 and later."""


@dataclass(frozen=True)
class Curves:
    """Precision and recall of every class that has labels.

    Attributes:
        classes: (C,) class indices, ascending.
        precision: (C, S) over CONFIDENCES, at the first overlap threshold.
        recall: (C, S) likewise.
        f1: (C, S) likewise.
        precision_at_recall: (C, S) enveloped precision over CONFIDENCES read as recalls, for the PR picture.
        ap: (C, T) average precision at each overlap threshold.
        best: index into CONFIDENCES where the mean F1 over classes peaks.
    """

    classes: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    precision_at_recall: np.ndarray
    ap: np.ndarray
    best: int


def match_predictions(
    boxes: np.ndarray,
    groups: np.ndarray,
    label_boxes: np.ndarray,
    label_groups: np.ndarray,
    thresholds: np.ndarray = IOU_THRESHOLDS,
) -> np.ndarray:
    """Say which predictions are right, threshold by threshold.

    Every prediction stands for the label of its group that it overlaps most; at each threshold the most confident of
    the predictions that reach a label gets it, the others are wrong.

    Args:
        boxes: (n, 4) predictions x1 y1 x2 y2, those of a group in order of descending confidence.
        groups: (n,) class indices, or of several images numbers that tell image and class.
        label_boxes: (m, 4) labels, same unit.
        label_groups: (m,) likewise.
        thresholds: (T,) least overlaps, ascending.

    Returns:
        (n, T) bool.
    """
    correct = np.zeros((len(boxes), len(thresholds)), bool)
    prediction, label, overlap = similar_pairs(
        groups, label_groups, box_similarity(boxes, label_boxes), float(thresholds[0])
    )
    # The first of a prediction's labels with the greatest overlap is the one that it stands for.
    order = np.lexsort((label, -overlap, prediction))
    best = order[np.unique(prediction[order], return_index=True)[1]]
    prediction, label, overlap = prediction[best], label[best], overlap[best]
    for t, threshold in enumerate(thresholds):
        reached = np.flatnonzero(overlap >= threshold)
        _, first = np.unique(label[reached], return_index=True)
        correct[prediction[reached[first]], t] = True
    return correct


def average_precision(
    recall: np.ndarray, precision: np.ndarray, recall_end: float | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the area under one precision-recall curve, averaged over 101 recalls.

    Args:
        recall: (n,) ascending, 0..1, n > 0.
        precision: (n,) 0..1.
        recall_end: see CurveRule.

    Returns:
        The area, the precision envelope (n + 2,) and its recalls (n + 2,).
    """
    end = recall[-1] + 0.01 if recall_end is None else recall_end
    at = np.concatenate(([0.0], recall, [end]))
    envelope = np.maximum.accumulate(np.concatenate(([1.0], precision, [0.0]))[::-1])[::-1]
    return float(np.trapezoid(np.interp(RECALLS, at, envelope), RECALLS)), envelope, at


def precision_recall_curves(
    correct: np.ndarray,
    confidence: np.ndarray,
    classes: np.ndarray,
    label_classes: np.ndarray,
    rule: CurveRule = V5_RULE,
) -> Curves:
    """Draw the curves of a whole data set; classes without labels are left out, classes without predictions are 0.

    Args:
        correct: (n, T) bool from ``match_predictions``.
        confidence: (n,) 0..1, in any order.
        classes: (n,) predicted class indices.
        label_classes: (m,) class indices of all labels.
        rule: the release whose rule is followed.
    """
    order = np.argsort(-confidence, kind="stable")
    order = order[np.argsort(classes[order], kind="stable")]
    correct, confidence, classes = correct[order], confidence[order], classes[order]
    labelled, label_counts = np.unique(label_classes.astype(np.int64), return_counts=True)
    count, samples = len(labelled), len(CONFIDENCES)
    precision, recall, at_recall = np.zeros((3, count, samples))
    ap = np.zeros((count, correct.shape[1]))
    edges = zip(np.searchsorted(classes, labelled), np.searchsorted(classes, labelled, "right"), strict=True)
    for c, (labels, (start, end)) in enumerate(zip(label_counts, edges, strict=True)):
        if start == end:
            continue
        mine = slice(start, end)
        right = correct[mine].cumsum(0)
        class_recall = right / (labels + _TINY)
        class_precision = right / np.arange(1, len(right) + 1)[:, None]
        # Confidence descends, so its negative is the ascending axis that interp wants.
        recall[c] = np.interp(-CONFIDENCES, -confidence[mine], class_recall[:, 0], left=0)
        precision[c] = np.interp(-CONFIDENCES, -confidence[mine], class_precision[:, 0], left=1)
        for t in range(correct.shape[1]):
            ap[c, t], envelope, at = average_precision(class_recall[:, t], class_precision[:, t], rule.recall_end)
            if t == 0:
                at_recall[c] = np.interp(CONFIDENCES, at, envelope)
    f1 = 2 * precision * recall / (precision + recall + _TINY)
    best = int(_smooth(f1.mean(0), rule.smoothing).argmax()) if count else 0
    return Curves(labelled, precision, recall, f1, at_recall, ap, best)


def _smooth(curve: np.ndarray, share: float) -> np.ndarray:
    """Box-filter a curve over ``share`` of its length (an odd number of points), its ends held."""
    if share <= 0:
        return curve
    half = round(len(curve) * share * 2) // 2 + 1
    width = half if half % 2 else half + 1
    padded = np.pad(curve, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")
