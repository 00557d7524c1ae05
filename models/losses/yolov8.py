"""The loss of YOLOv8: cross entropy of classes, CIoU and distribution focal loss, points assigned by task alignment.

Shape suffixes: B images, A anchor points, C classes, S slots for positive points (most are not used).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from models.anchor_points import AnchorPoints, boxes_from_distances, distances_of_boxes
from models.assigners.scored_points import ScoredPoints
from models.assigners.task_aligned import TASK_ALIGNED_RULES, assign_task_aligned
from models.losses.anchor_point_criterion import AnchorPointCriterion
from models.losses.box_targets import BoxTargets
from models.losses.distribution_focal import SIDES, distribution_focal, expected_distances
from models.losses.iou import corner_iou
from models.losses.scored_positives import ScoredPositives
from utils.precision import full_precision

YOLOV8_RECIPE: Mapping[str, Any] = MappingProxyType({"yolov8_box": 7.5, "yolov8_cls": 0.5, "yolov8_dfl": 1.5})
"""Recipe keys of the head, with the published values."""


class YOLOv8Criterion(AnchorPointCriterion):
    """Loss of a YOLOv8 head.

    Every part is a sum over the batch at hand, weighed by the target scores of the positive points and divided by the
    sum of these scores, at least 1. The published program multiplies that by the images of the batch, which is what the
    recipe key ``loss_reduction: sum`` does.

    Raw values are 4 x bins logits of distances, then C logits of classes.

    Args:
        strides: pixels per cell of each level.
        num_classes: classes.
        bins: of the distribution of a distance.
        hyp: keys of ``YOLOV8_RECIPE``, each optional. The gain of ``dfl`` counts for the mean of the four sides.
    """

    def __init__(self, strides: Sequence[int], num_classes: int, bins: int, hyp: Mapping[str, Any]) -> None:
        super().__init__(strides, num_classes)
        self.bins = bins
        names = {"box": "yolov8_box", "cls": "yolov8_cls", "dfl": "yolov8_dfl"}
        self.gains = {part: float(hyp.get(key, YOLOV8_RECIPE[key])) for part, key in names.items()}

    def assign(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets) -> ScoredPoints:
        """Choose the positive points among raw outputs (B, A, 4 bins + C)."""
        logits, classes = self._split(flat.detach())
        boxes = boxes_from_distances(expected_distances(logits, self.bins), points.centres, points.strides)
        return assign_task_aligned(boxes, classes, targets, points, TASK_ALIGNED_RULES["yolov8"])

    def parts(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets) -> dict[str, Tensor]:
        """Return ``box``, ``cls`` and ``dfl`` of raw outputs (B, A, 4 bins + C)."""
        positives = ScoredPositives.at(flat, points, targets, self.assign(flat, points, targets))
        total = positives.score.sum().clamp(min=1)
        return {name: part / total for name, part in self.sums(flat, positives).items()}

    def sums(self, flat: Tensor, positives: ScoredPositives) -> dict[str, Tensor]:
        """Return the sums of all parts over the batch, with their gains."""
        logits, classes = self._split(positives.values)
        boxes = boxes_from_distances(expected_distances(logits, self.bins), positives.places, 1.0)
        overlap = corner_iou(boxes, positives.boxes, "ciou").clamp(-1, 1)
        distances = distances_of_boxes(positives.boxes, positives.places, 1.0)
        focal = distribution_focal(logits.unflatten(-1, (SIDES, self.bins)), distances).mean(-1)
        own = classes.gather(2, positives.classes[..., None])[..., 0]
        parts = {
            "box": (positives.score * (1 - overlap)).sum(),
            # Cross entropy with soft targets, without a map of targets.
            "cls": F.softplus(full_precision(self._split(flat)[1])).sum() - (own * positives.score).sum(),
            "dfl": (positives.score * focal).sum(),
        }
        return {name: value * self.gains[name] for name, value in parts.items()}

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of distances and those of classes."""
        first = SIDES * self.bins
        return values[..., :first], values[..., first : first + self.num_classes]
