"""Average precision by the COCO protocol, computed on arrays in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


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
        class_ap: (C,) ap of each class.
        class_ap50: (C,) ap50 of each class.
    """

    ap: float
    ap50: float
    ap75: float
    by_area: dict[str, float]
    class_ap: np.ndarray
    class_ap50: np.ndarray


def coco_summary(labels: BoxLabels, predictions: BoxPredictions, num_images: int, num_classes: int) -> CocoSummary:
    """Run the COCO evaluation; of an image, 100 predictions per class count, as the protocol has it.

    Args:
        labels: of all images.
        predictions: for all images.
        num_images: images looked at, with or without labels.
        num_classes: C.
    """
    boxes = predictions.boxes.astype(np.float64)
    truth = annotations(labels.images, labels.classes, labels.boxes, area=labels.areas, iscrowd=labels.crowd)
    found = annotations(
        predictions.images,
        predictions.classes,
        boxes,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        score=predictions.scores,
    )
    evaluation = run_protocol(truth, found, num_images, num_classes, iouType="bbox")
    # (overlaps, recalls, classes, areas, limits); -1 marks classes without labels.
    precision = np.asarray(evaluation.eval["precision"])[..., -1]
    everything, thresholds = precision[..., 0], evaluation.params.iouThrs
    return CocoSummary(
        ap=known_mean(everything),
        ap50=known_mean(everything[np.isclose(thresholds, 0.5)]),
        ap75=known_mean(everything[np.isclose(thresholds, 0.75)]),
        by_area={name: known_mean(precision[..., a + 1]) for a, name in enumerate(("small", "medium", "large"))},
        class_ap=np.array([known_mean(everything[:, :, c]) for c in range(num_classes)]),
        class_ap50=np.array([known_mean(everything[:1, :, c]) for c in range(num_classes)]),
    )


def run_protocol(
    truth: list[dict[str, Any]], found: list[dict[str, Any]], num_images: int, num_classes: int, **options: Any
) -> Any:
    """Return the finished evaluation of annotations against annotations.

    Args:
        truth: labels, see ``annotations``.
        found: predictions.
        num_images: images looked at.
        num_classes: C.
        options: of the library's evaluation: ``iouType`` and what belongs to it.
    """
    # Imported late: most commands never evaluate boxes.
    from faster_coco_eval import COCO, COCOeval_faster

    # Ids start at 1 because the protocol's published code takes label 0 for "no label".
    images = [{"id": i + 1} for i in range(num_images)]
    categories = [{"id": c + 1, "name": str(c)} for c in range(num_classes)]
    sides = []
    for rows in (truth, found):
        side = COCO()
        side.dataset = {"images": images, "categories": categories, "annotations": rows}
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval_faster(*sides, **options)
    # For keypoints the library would leave out classes without labels, and so shift the classes behind them.
    evaluation.params.catIds = [category["id"] for category in categories]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def annotations(
    images: np.ndarray, classes: np.ndarray, boxes: np.ndarray, **columns: np.ndarray
) -> list[dict[str, Any]]:
    """Return objects as COCO has them, as plain values.

    Args:
        images: (n,) index of the image.
        classes: (n,) class index.
        boxes: (n, 4) x1 y1 x2 y2.
        columns: more values per object by their key, (n, ...) each.
    """
    boxes = boxes.astype(np.float64)
    values = {
        "image_id": images + 1,
        "category_id": classes + 1,
        "bbox": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1),
        "iscrowd": np.zeros(len(boxes), np.int64),
        **{key: column.astype(np.int64) if column.dtype == bool else column for key, column in columns.items()},
    }
    rows = zip(*(column.tolist() for column in values.values()), strict=True)
    return [{"id": number, **dict(zip(values, row, strict=True))} for number, row in enumerate(rows, 1)]


def known_mean(precision: np.ndarray) -> float:
    """Return the mean of the values that the protocol could compute, -1 where there are none."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0
