"""Crowds in measures that know single objects only: such labels, and what was found in them, are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from utils.metrics.coco_protocol import BoxLabels, BoxPredictions
from utils.metrics.pairs import box_similarity, similar_pairs


def without_crowds(
    labels: BoxLabels, predictions: BoxPredictions, num_classes: int, overlap: float = 0.5
) -> tuple[BoxLabels, BoxPredictions]:
    """Return labels without crowds, and predictions without those that stand for a member of one.

    Args:
        labels: of all images; without crowds both are returned as they are.
        predictions: for all images.
        num_classes: every class index is below it.
        overlap: a prediction stands for a member of a crowd of its class if it lies in the crowd by this share of its
            own area and reaches no object by this overlap.
    """
    crowd = labels.crowd.astype(bool)
    if not crowd.any():
        return labels, predictions
    groups, label_groups = image_classes(predictions, num_classes), image_classes(labels, num_classes)

    def reaching(some: np.ndarray) -> np.ndarray:
        similarity = box_similarity(predictions.boxes, labels.boxes[some], crowd[some])
        return similar_pairs(groups, label_groups[some], similarity, overlap).prediction

    kept = np.ones(len(groups), bool)
    kept[reaching(crowd)] = False
    kept[reaching(~crowd)] = True
    return _some(labels, ~crowd), _some(predictions, kept)


def image_classes(values: BoxLabels | BoxPredictions, num_classes: int) -> np.ndarray:
    """Return an int64 per object that is equal where image and class are."""
    return values.images.astype(np.int64) * num_classes + values.classes


def _some(values: BoxLabels | BoxPredictions, mask: np.ndarray) -> BoxLabels | BoxPredictions:
    return replace(values, **{name: column[mask] for name, column in vars(values).items()})
