"""Average precision of keypoints by the COCO protocol, computed on arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.metrics.coco_curves import KEYPOINT_RULE, Found, Truth, coco_curves
from utils.metrics.coco_protocol import BoxLabels, BoxPredictions, known_mean, threshold_index
from utils.metrics.pairs import Similarity


@dataclass(frozen=True)
class PoseLabels(BoxLabels):
    """The m labels of all images; those that are crowds or have no labelled keypoint count neither way.

    Areas are above 0 for what is to be found: they are also the size that distances are held against.

    Attributes:
        keypoints: (m, K, 3) x y in native pixels and visibility, 0 where not labelled.
    """

    keypoints: np.ndarray


@dataclass(frozen=True)
class PosePredictions(BoxPredictions):
    """The n predictions for all images, each with the confidence of the whole object.

    Attributes:
        keypoints: (n, K, 3) x y in native pixels and a score that the protocol does not look at.
    """

    keypoints: np.ndarray


@dataclass(frozen=True)
class KeypointSummary:
    """What COCO reports for keypoints, 0..1; -1 where there are no labels to average over.

    Attributes:
        metrics: AP, AP50, AP75 (at a similarity of 0.50, 0.75; AP is the mean over 0.50 ... 0.95), AP_medium and
            AP_large (labels of 32 x 32 to 96 x 96 px, and above), and AR ... AR_large, the recall likewise.
        by_class: per class AP50, AP, AP75 and AR, AP_medium and AP_large.
        precision_50: (C, 101) precision at similarity 0.50 over recalls 0, 0.01 ... 1; -1 for classes without labels.
    """

    metrics: dict[str, float]
    by_class: list[dict[str, float]]
    precision_50: np.ndarray


def keypoint_summary(
    labels: PoseLabels, predictions: PosePredictions, num_classes: int, sigmas: Sequence[float]
) -> KeypointSummary:
    """Run the COCO evaluation; of an image, 20 predictions per class count, as the protocol has it.

    Args:
        labels: of all images.
        predictions: for all images.
        num_classes: C.
        sigmas: K tolerances.
    """
    crowd = labels.crowd.astype(bool)
    unlabelled = ~(labels.keypoints[..., 2] > 0).any(1)
    points = predictions.keypoints.astype(np.float64)
    curves = coco_curves(
        Truth(labels.images, labels.classes, labels.areas, crowd | unlabelled, crowd),
        Found(predictions.images, predictions.classes, extent_areas(points), predictions.scores),
        pose_similarity(points, labels, sigmas),
        num_classes,
        KEYPOINT_RULE,
    )
    # (similarities, recalls, classes, areas) and (similarities, classes, areas).
    precision, recall = curves.precision, curves.recall[..., -1]
    half, strict = threshold_index(0.5), threshold_index(0.75)
    metrics = {}
    for name, values in (("AP", precision), ("AR", recall)):
        metrics |= {
            name: known_mean(values[..., 0]),
            f"{name}50": known_mean(values[half, ..., 0]),
            f"{name}75": known_mean(values[strict, ..., 0]),
            f"{name}_medium": known_mean(values[..., 1]),
            f"{name}_large": known_mean(values[..., 2]),
        }
    by_class = [
        {
            "AP50": known_mean(precision[half, :, c, 0]),
            "AP": known_mean(precision[:, :, c, 0]),
            "AP75": known_mean(precision[strict, :, c, 0]),
            "AR": known_mean(recall[:, c, 0]),
            "AP_medium": known_mean(precision[:, :, c, 1]),
            "AP_large": known_mean(precision[:, :, c, 2]),
        }
        for c in range(num_classes)
    ]
    return KeypointSummary(metrics, by_class, precision[half, :, :, 0].T)


def pose_similarity(points: np.ndarray, labels: PoseLabels, sigmas: Sequence[float]) -> Similarity:
    """Return the object keypoint similarity (OKS), the mean over labelled keypoints of a bell curve of their distance.

    A label without any takes the distances to twice its box, over all keypoints; crowds are such labels.

    Args:
        points: (n, K, 3) float64 keypoints of the predictions.
        labels: of all images.
        sigmas: K tolerances.
    """
    wanted = labels.keypoints.astype(np.float64)
    labelled = wanted[..., 2] > 0
    nowhere = ~labelled.any(1)
    counted = labelled | nowhere[:, None]
    boxes = labels.boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    low, high = (boxes[:, :2] - sides)[:, None], (boxes[:, :2] + 2 * sides)[:, None]
    scale = (2 * np.asarray(sigmas, np.float64)) ** 2 * (labels.areas.astype(np.float64) + np.spacing(1.0))[:, None] * 2

    def similarity(prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        found = points[prediction, :, :2]
        apart = found - wanted[label, :, :2]
        boxed = np.flatnonzero(nowhere[label])
        own, target = found[boxed], label[boxed]
        apart[boxed] = np.maximum(low[target] - own, 0) + np.maximum(own - high[target], 0)
        with np.errstate(over="ignore"):
            closeness = np.exp(-np.square(apart).sum(2) / scale[label])
        use = counted[label]
        return (closeness * use).sum(1) / use.sum(1)

    return similarity


def extent_areas(keypoints: np.ndarray) -> np.ndarray:
    """Return (n,) areas of the rectangles around (n, K, 2 or 3) keypoints, by which the protocol sizes a prediction."""
    if not len(keypoints):
        return np.zeros(0)
    return (keypoints[..., :2].max(1) - keypoints[..., :2].min(1)).prod(1)
