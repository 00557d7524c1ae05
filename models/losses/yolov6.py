"""The loss of YOLOv6 2.0: varifocal loss of classes and SIoU or GIoU, points assigned by ATSS, then by task alignment.

Shape suffixes: B images, A anchor points, C classes, S slots for positive points (most are not used).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from models.anchor_points import AnchorPoints, boxes_from_distances
from models.assigners.atss import assign_atss
from models.assigners.scored_points import ScoredPoints
from models.assigners.task_aligned import TASK_ALIGNED_RULES, assign_task_aligned
from models.losses.anchor_point_criterion import AnchorPointCriterion
from models.losses.box_targets import BoxTargets
from models.losses.iou import corner_iou
from models.losses.recipe_words import chosen_word
from models.losses.scored_positives import ScoredPositives
from models.losses.varifocal import varifocal, varifocal_of_negatives
from utils.precision import full_precision

YOLOV6_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "yolov6_box": 2.5,
        "yolov6_cls": 1.0,
        "yolov6_box_loss": "siou",
        "yolov6_atss_epochs": 4,
        "yolov6_least_scores": 1.0,
    }
)
"""Recipe keys of the head, with the published values of YOLOv6-t; YOLOv6-t-MS has ``giou``. Published is also no least
sum of scores: see ``YOLOv6Criterion``."""
BOX_LOSSES = ("siou", "giou")


class YOLOv6Criterion(AnchorPointCriterion):
    """Loss of a YOLOv6 head.

    Every part is a sum over the batch at hand, weighed by the target scores of the positive points and divided by the
    sum of these scores, or by the recipe's ``yolov6_least_scores`` where they add up to less. The published loss has
    no such least value; in batches of 32 pictures the scores add up to more. In a batch with one object of a few
    pixels they may add up to 1e-9, and dividing by that destroys the weights. With a least value of 0 the loss is the
    published one; without any score it is not divided then. In the first epochs the labels alone say which points are
    positive (ATSS), later predictions have a say (task alignment).

    Raw values are 4 distances, then C logits of classes.

    Args:
        strides: pixels per cell of each level.
        num_classes: classes.
        hyp: keys of ``YOLOV6_RECIPE``, each optional.

    Raises:
        ModelError: the recipe names an unknown box loss.
    """

    def __init__(self, strides: Sequence[int], num_classes: int, hyp: Mapping[str, Any]) -> None:
        super().__init__(strides, num_classes)
        names = {"box": "yolov6_box", "cls": "yolov6_cls"}
        self.gains = {part: float(hyp.get(key, YOLOV6_RECIPE[key])) for part, key in names.items()}
        self.box_loss = chosen_word(hyp, "yolov6_box_loss", YOLOV6_RECIPE, BOX_LOSSES)
        self.atss_epochs = int(hyp.get("yolov6_atss_epochs", YOLOV6_RECIPE["yolov6_atss_epochs"]))
        self.least_scores = float(hyp.get("yolov6_least_scores", YOLOV6_RECIPE["yolov6_least_scores"]))
        self.with_atss = self.atss_epochs > 0

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Assign by ATSS in the first epochs and by task alignment from then on."""
        self.with_atss = epoch < self.atss_epochs

    def assign(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets) -> ScoredPoints:
        """Choose the positive points among raw outputs (B, A, 4 + C)."""
        flat = flat.detach()
        boxes = boxes_from_distances(flat[..., :4], points.centres, points.strides)
        if self.with_atss:
            return assign_atss(boxes, targets, points)
        return assign_task_aligned(boxes, self._classes(flat), targets, points, TASK_ALIGNED_RULES["yolov6"])

    def parts(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets) -> dict[str, Tensor]:
        """Return ``box`` and ``cls`` of raw outputs (B, A, 4 + C)."""
        positives = ScoredPositives.at(flat, points, targets, self.assign(flat, points, targets))
        total = positives.score.sum().clamp(min=self.least_scores)
        total = total.where(total > 0, 1.0)
        return {name: part / total for name, part in self.sums(flat, positives).items()}

    def sums(self, flat: Tensor, positives: ScoredPositives) -> dict[str, Tensor]:
        """Return the sums of all parts over the batch, with their gains."""
        boxes = boxes_from_distances(positives.values[..., :4], positives.places, 1.0)
        overlap = corner_iou(boxes, positives.boxes, self.box_loss)
        own = self._classes(positives.values).gather(2, positives.classes[..., None])[..., 0]
        # All count as negatives first; then the positives' own classes change.
        change = varifocal(own, positives.score) - varifocal_of_negatives(own)
        parts = {
            "box": (positives.score * (1 - overlap)).sum(),
            "cls": varifocal_of_negatives(full_precision(self._classes(flat))).sum() + change.sum(),
        }
        return {name: value * self.gains[name] for name, value in parts.items()}

    def _classes(self, values: Tensor) -> Tensor:
        return values[..., 4 : 4 + self.num_classes]
