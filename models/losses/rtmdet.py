"""The loss of RTMDet (Lyu et al., arXiv:2212.07784), and so of YOLO-MS: quality focal for classes, DIoU for boxes.

Shape suffixes: B images, A anchor points, C classes, S slots for positive points (most are not used).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from models.anchor_points import AnchorPoints, boxes_from_distances, rows_at
from models.assigners.dynamic_soft_label import assign_dynamic_soft_labels
from models.assigners.scored_points import ScoredPoints
from models.assigners.task_aligned import TASK_ALIGNED_RULES, assign_task_aligned
from models.losses.anchor_point_criterion import AnchorPointCriterion
from models.losses.box_targets import BoxTargets
from models.losses.iou import corner_iou
from models.losses.quality_focal import sum_of_quality_focal
from models.losses.recipe_words import chosen_word
from utils.precision import full_precision

RTMDET_RECIPE: Mapping[str, Any] = MappingProxyType(
    {"rtmdet_box": 2.0, "rtmdet_cls": 1.0, "rtmdet_box_loss": "diou", "rtmdet_assigner": "dynamic_soft_label"}
)
"""Recipe keys of the head, with the values of YOLO-MS. RTMDet itself has ``rtmdet_box_loss: giou``."""
BOX_LOSSES = ("diou", "giou")
ASSIGNERS = ("dynamic_soft_label", "task_aligned")
_EPSILON = 1e-6


class RTMDetCriterion(AnchorPointCriterion):
    """Loss of an RTMDet head, raw maps (B, 4 + C, rows, columns): left, top, right, bottom in strides, then classes.

    Which points are positive depends on the predictions, see ``models/assigners/dynamic_soft_label.py``. The parts
    ``box`` and ``cls`` are sums over the batch at hand, divided by the sum of its soft labels, at least 1. With the
    recipe key ``rtmdet_assigner: task_aligned`` points and soft labels are those of YOLOv8, all else stays.

    Args:
        strides: pixels per cell of each level.
        num_classes: classes.
        hyp: keys of ``RTMDET_RECIPE``, each optional.

    Raises:
        ModelError: the recipe names an unknown box loss or assigner.
    """

    def __init__(self, strides: Sequence[int], num_classes: int, hyp: Mapping[str, Any]) -> None:
        super().__init__(strides, num_classes)
        names = {"box": "rtmdet_box", "cls": "rtmdet_cls"}
        self.gains = {part: float(hyp.get(key, RTMDET_RECIPE[key])) for part, key in names.items()}
        self.box_loss = chosen_word(hyp, "rtmdet_box_loss", RTMDET_RECIPE, BOX_LOSSES)
        self.assigner = chosen_word(hyp, "rtmdet_assigner", RTMDET_RECIPE, ASSIGNERS)

    def places(self, points: AnchorPoints) -> Tensor:
        """Return the corners of the cells, from where distances are measured."""
        return points.corners

    def assign(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets) -> ScoredPoints:
        """Choose the positive points among raw outputs (B, A, 4 + C)."""
        flat = flat.detach()
        boxes = boxes_from_distances(flat[..., :4], points.corners, points.strides)
        if self.assigner == "task_aligned":
            return assign_task_aligned(boxes, flat[..., 4:], targets, points, TASK_ALIGNED_RULES["yolov8"])
        return assign_dynamic_soft_labels(boxes, flat[..., 4:], targets, points)

    def parts(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets) -> dict[str, Tensor]:
        """Return ``box`` and ``cls`` of raw outputs (B, A, 4 + C)."""
        return self.weigh(flat, points, targets, self.assign(flat, points, targets))

    def weigh(self, flat: Tensor, points: AnchorPoints, targets: BoxTargets, found: ScoredPoints) -> dict[str, Tensor]:
        """Return ``box`` and ``cls`` of raw outputs (B, A, 4 + C) for given positive points."""
        # A box of one cell has finite gradients, which count 0 in slots that are not used.
        values = full_precision(rows_at(flat, found.point)).where(found.used[..., None], 1.0)
        quality = found.score.to(values.dtype)
        boxes = boxes_from_distances(values[..., :4], points.corners[found.point], points.strides[found.point])
        goal = rows_at(targets.boxes, found.object).to(values.dtype)
        box = ((1 - corner_iou(boxes, goal, self.box_loss, _EPSILON)) * quality).sum()
        own = values[..., 4:].gather(2, targets.classes.gather(1, found.object)[..., None])[..., 0]
        cls = sum_of_quality_focal(full_precision(flat[..., 4:]), own, quality, found.used)
        total = quality.sum().clamp(min=1)
        return {"box": box * self.gains["box"] / total, "cls": cls * self.gains["cls"] / total}
