"""Average precision of keypoints by the COCO protocol, computed on arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.metrics.coco_protocol import BoxLabels, BoxPredictions, annotations, known_mean, run_protocol


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
        by_class: per class AP50, AP, AP75 and AR.
        precision_50: (C, 101) precision at similarity 0.50 over recalls 0, 0.01 ... 1; -1 for classes without labels.
    """

    metrics: dict[str, float]
    by_class: list[dict[str, float]]
    precision_50: np.ndarray


def keypoint_summary(
    labels: PoseLabels, predictions: PosePredictions, num_images: int, num_classes: int, sigmas: Sequence[float]
) -> KeypointSummary:
    """Run the COCO evaluation; of an image, 20 predictions per class count, as the protocol has it.

    Args:
        labels: of all images.
        predictions: for all images.
        num_images: images looked at, with or without labels.
        num_classes: C.
        sigmas: K tolerances.
    """
    truth = annotations(
        labels.images,
        labels.classes,
        labels.boxes,
        area=labels.areas,
        iscrowd=labels.crowd,
        keypoints=labels.keypoints.astype(np.float64).reshape(-1, 3 * len(sigmas)),
        num_keypoints=(labels.keypoints[..., 2] > 0).sum(1),
    )
    points = predictions.keypoints.astype(np.float64)
    found = annotations(
        predictions.images,
        predictions.classes,
        predictions.boxes,
        area=extent_areas(points),
        score=predictions.scores,
        keypoints=points.reshape(-1, 3 * len(sigmas)),
    )
    evaluation = run_protocol(
        truth, found, num_images, num_classes, iouType="keypoints", kpt_oks_sigmas=[float(sigma) for sigma in sigmas]
    )
    # (similarities, recalls, classes, areas, limits) and (similarities, classes, areas, limits).
    precision = np.asarray(evaluation.eval["precision"])[..., 0]
    recall = np.asarray(evaluation.eval["recall"])[..., 0]
    half, strict = (int(np.isclose(evaluation.params.iouThrs, value).argmax()) for value in (0.5, 0.75))
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
        }
        for c in range(num_classes)
    ]
    return KeypointSummary(metrics, by_class, precision[half, :, :, 0].T)


def extent_areas(keypoints: np.ndarray) -> np.ndarray:
    """Return (n,) areas of the rectangles around (n, K, 2 or 3) keypoints, by which the protocol sizes a prediction."""
    if not len(keypoints):
        return np.zeros(0)
    return (keypoints[..., :2].max(1) - keypoints[..., :2].min(1)).prod(1)
