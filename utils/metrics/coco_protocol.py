"""Average precision by the COCO protocol, computed on arrays in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def coco_summary(
    labels: tuple[np.ndarray, np.ndarray, np.ndarray],
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    num_images: int,
    num_classes: int,
) -> CocoSummary:
    """Run the COCO evaluation; of an image, 100 predictions per class count, as the protocol has it.

    Args:
        labels: image index (m,), boxes (m, 4) x1 y1 x2 y2 in native pixels, class index (m,).
        predictions: image index (n,), boxes (n, 4), class index (n,), confidence (n,).
        num_images: images looked at, with or without labels.
        num_classes: C.
    """
    # Imported late: most commands never evaluate boxes.
    from faster_coco_eval import COCO, COCOeval_faster

    truth, found = COCO(), COCO()
    # Ids start at 1 because the protocol's published code takes label 0 for "no label".
    images = [{"id": i + 1} for i in range(num_images)]
    categories = [{"id": c + 1, "name": str(c)} for c in range(num_classes)]
    truth.dataset = {"images": images, "categories": categories, "annotations": _annotations(*labels)}
    found.dataset = {"images": images, "categories": categories, "annotations": _annotations(*predictions)}
    truth.createIndex()
    found.createIndex()
    evaluation = COCOeval_faster(truth, found, iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # (overlaps, recalls, classes, areas, limits); -1 marks classes without labels.
    precision = np.asarray(evaluation.eval["precision"])[..., -1]
    everything, thresholds = precision[..., 0], evaluation.params.iouThrs
    return CocoSummary(
        ap=_mean(everything),
        ap50=_mean(everything[np.isclose(thresholds, 0.5)]),
        ap75=_mean(everything[np.isclose(thresholds, 0.75)]),
        by_area={name: _mean(precision[..., a + 1]) for a, name in enumerate(("small", "medium", "large"))},
        class_ap=np.array([_mean(everything[:, :, c]) for c in range(num_classes)]),
        class_ap50=np.array([_mean(everything[:1, :, c]) for c in range(num_classes)]),
    )


def _annotations(
    images: np.ndarray, boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray | None = None
) -> list[dict]:
    boxes = boxes.astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    xywh, areas = np.concatenate([boxes[:, :2], sizes], 1).tolist(), sizes.prod(1).tolist()
    columns = zip(images.tolist(), xywh, areas, classes.tolist(), strict=True)
    rows = [
        {"id": k, "image_id": image + 1, "category_id": index + 1, "bbox": box, "area": area, "iscrowd": 0}
        for k, (image, box, area, index) in enumerate(columns, 1)
    ]
    if scores is not None:
        for row, score in zip(rows, scores.tolist(), strict=True):
            row["score"] = score
    return rows


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0
