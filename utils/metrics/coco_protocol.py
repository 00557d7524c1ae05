"""Average precision and recall of boxes by the COCO protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.metrics.average_precision import IOU_THRESHOLDS
from utils.metrics.coco_curves import BOX_RULE, CocoCurves, Found, Truth, coco_curves
from utils.metrics.pairs import box_similarity

SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class BoxLabels:
    """The m labels of all images.

    Attributes:
        images: (m,) index of the image.
        boxes: (m, 4) x1 y1 x2 y2 in native pixels.
        classes: (m,) class index.
        areas: (m,) square pixels, by which objects are small, medium or large.
        crowd: (m,) bool, regions of many objects, which count neither way.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class BoxPredictions:
    """The n predictions for all images.

    Attributes:
        images: (n,) index of the image.
        boxes: (n, 4) x1 y1 x2 y2 in native pixels.
        classes: (n,) class index.
        scores: (n,) confidence.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class CocoSummary:
    """What COCO reports for boxes, 0..1; -1 where there are no labels to average over.

    Attributes:
        ap: mean over overlaps 0.50 ... 0.95 and over classes that have labels.
        ap50: at overlap 0.50.
        ap75: at overlap 0.75.
        by_area: ap of labels below 32 x 32 px, between, and from 96 x 96 px: small, medium, large.
        recall: AR1, AR10 and AR100, the greatest recall, mean over overlaps and classes, of so many predictions of an
            image and class; AR_small, AR_medium and AR_large, of 100 of them.
        class_ap: (C,) ap of each class.
        class_ap50: (C,) ap50 of each class.
        class_by_area: (C,) ap of each class among its labels of each size.
        precision_50: (C, 101) precision at overlap 0.50 over recalls 0, 0.01 ... 1; its mean over recalls is ap50.
    """

    ap: float
    ap50: float
    ap75: float
    by_area: dict[str, float]
    recall: dict[str, float]
    class_ap: np.ndarray
    class_ap50: np.ndarray
    class_by_area: dict[str, np.ndarray]
    precision_50: np.ndarray


def coco_summary(labels: BoxLabels, predictions: BoxPredictions, num_classes: int) -> CocoSummary:
    """Run the COCO evaluation; of an image, 100 predictions per class count, as the protocol has it.

    Args:
        labels: of all images.
        predictions: for all images.
        num_classes: C.
    """
    boxes, label_boxes = predictions.boxes.astype(np.float64), labels.boxes.astype(np.float64)
    crowd = labels.crowd.astype(bool)
    curves = coco_curves(
        Truth(labels.images, labels.classes, labels.areas, crowd, crowd),
        Found(predictions.images, predictions.classes, (boxes[:, 2:] - boxes[:, :2]).prod(1), predictions.scores),
        box_similarity(boxes, label_boxes, crowd),
        num_classes,
        BOX_RULE,
    )
    return summarize_boxes(curves)


def summarize_boxes(curves: CocoCurves) -> CocoSummary:
    """Return the means that COCO reports of the curves of boxes."""
    precision, recall = curves.precision, curves.recall
    everything = precision[..., 0]
    at = {value: everything[threshold_index(value)] for value in (0.5, 0.75)}
    by_limit = {f"AR{limit}": known_mean(recall[:, :, 0, i]) for i, limit in enumerate(BOX_RULE.limits)}
    return CocoSummary(
        ap=known_mean(everything),
        ap50=known_mean(at[0.5]),
        ap75=known_mean(at[0.75]),
        by_area={name: known_mean(precision[..., a + 1]) for a, name in enumerate(SIZES)},
        recall=by_limit | {f"AR_{name}": known_mean(recall[:, :, a + 1, -1]) for a, name in enumerate(SIZES)},
        class_ap=everything.mean((0, 1)),
        class_ap50=at[0.5].mean(0),
        class_by_area={name: precision[..., a + 1].mean((0, 1)) for a, name in enumerate(SIZES)},
        precision_50=at[0.5].T,
    )


def threshold_index(value: float) -> int:
    """Return which of ``IOU_THRESHOLDS`` is a value."""
    return int(np.isclose(IOU_THRESHOLDS, value).argmax())


def known_mean(values: np.ndarray) -> float:
    """Return the mean of the values that the protocol could compute, -1 where there are none."""
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
