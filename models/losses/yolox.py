"""The loss of YOLOX (Ge et al., arXiv:2107.08430): IoU, objectness, classes, and L1 in the last epochs.

Shape suffixes: B images, M padded objects, A anchor points, C classes, S slots for positive points (most are not used).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.packed_arrays import tensors_to_device
from data.samples import Batch
from models.anchor_points import AnchorPoints, decode_boxes, decode_boxes_at, encode_boxes_at, rows_at
from models.assigners.simota import SIMOTA_RULES, Assignment, Labels, PairCost, assign_simota
from models.losses.anchor_point_criterion import AnchorPointCriterion
from models.losses.box_targets import box_targets
from models.losses.recipe_words import chosen_word
from utils.boxes import xyxy_to_xywh
from utils.precision import full_precision

YOLOX_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "yolox_box": 5.0,
        "yolox_obj": 1.0,
        "yolox_cls": 1.0,
        "yolox_l1": 1.0,
        "yolox_box_loss": "iou",
        "simota": "official",
    }
)
"""Recipe keys of the head, with the published values."""
BOX_LOSSES = ("iou", "giou")
_TINY = 1e-16


@dataclass
class ObjectTargets:
    """Labelled objects of a batch, padded.

    Attributes:
        boxes: (B, M, 4) float32, centre x, centre y, width, height in pixels of the network input.
        classes: (B, M) int64.
        valid: (B, M) bool, False where the row is padding.
        normalizers: (1,) float32, number of images.
        keypoints: (B, M, K, 3) float32, x, y and visibility; None for heads without keypoints.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor
    normalizers: Tensor
    keypoints: Tensor | None = None

    def to(self, device: torch.device) -> ObjectTargets:
        """Return the targets on ``device``, in one copy that nobody waits for."""
        return tensors_to_device(self, device)


@dataclass(frozen=True)
class Positives:
    """What the head says at the positive points, and what it should say. Rows of slots that are not used count 0.

    Attributes:
        values: (B, S, channels) raw outputs, at least float32.
        weight: (B, S) 1 where the slot is used, otherwise 0.
        count: () number of positive points of the batch, at least 1.
        object: (B, S) index of the object.
        boxes: (B, S, 4) the object's centre x, centre y, width, height in pixels.
        classes: (B, S) the object's class.
        fit: (B, S) how well the prediction fits the object, which is what the probability of its class should be: the
            overlap of the boxes, unless a head knows better.
        corners: (B, S, 2) of the points in pixels.
        strides: (B, S, 1) of the points in pixels.
    """

    values: Tensor
    weight: Tensor
    count: Tensor
    object: Tensor
    boxes: Tensor
    classes: Tensor
    fit: Tensor
    corners: Tensor
    strides: Tensor


class YOLOXCriterion(AnchorPointCriterion):
    """Loss of a YOLOX head. Which points are positive depends on the predictions, see ``models/assigners/simota.py``.

    Every part is a sum over the batch at hand, divided by the positive points of that batch, at least 1. The parts are
    ``box``, ``obj``, ``cls`` and ``l1``, which is 0 but in the last epochs.

    Args:
        strides: pixels per cell of each level.
        num_classes: classes.
        hyp: keys of ``YOLOX_RECIPE``, each optional; ``close_mosaic``, the number of last epochs in which L1 counts.

    Raises:
        ModelError: the recipe names an unknown box loss or assignment.
    """

    def __init__(self, strides: Sequence[int], num_classes: int, hyp: Mapping[str, Any]) -> None:
        super().__init__(strides, num_classes)
        names = {"box": "yolox_box", "obj": "yolox_obj", "cls": "yolox_cls", "l1": "yolox_l1"}
        self.gains = {part: float(hyp.get(key, YOLOX_RECIPE[key])) for part, key in names.items()}
        self.box_loss = chosen_word(hyp, "yolox_box_loss", YOLOX_RECIPE, BOX_LOSSES)
        self.rule = SIMOTA_RULES[chosen_word(hyp, "simota", YOLOX_RECIPE, tuple(SIMOTA_RULES))]
        self.last_epochs = int(hyp.get("close_mosaic", 0))
        self.with_l1 = False
        self.l1_begins: int | None = None

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Count L1 in the last ``close_mosaic`` epochs."""
        self.l1_begins = epochs - self.last_epochs if self.last_epochs else None
        self.with_l1 = epoch >= epochs - self.last_epochs

    @property
    def resting(self) -> Mapping[str, int | None]:
        """L1, until it counts."""
        return {} if self.with_l1 else {"l1": self.l1_begins}

    def prepare(self, batch: Batch) -> ObjectTargets:
        """Collect the labels; nothing can be assigned before the forward pass."""
        labels = box_targets(batch)
        return ObjectTargets(xyxy_to_xywh(labels.boxes), labels.classes, labels.valid, labels.normalizers)

    def parts(self, flat: Tensor, points: AnchorPoints, targets: ObjectTargets) -> dict[str, Tensor]:
        """Return ``box``, ``obj``, ``cls`` and ``l1`` of raw outputs (B, A, 4 + 1 + C, or more behind these)."""
        positives = self.positives(flat, points, targets, self.assign(flat, points, targets))
        return {name: part / positives.count for name, part in self._parts(flat, positives, targets).items()}

    def assign(self, flat: Tensor, points: AnchorPoints, targets: ObjectTargets) -> Assignment:
        """Choose the positive points among raw outputs (B, A, channels)."""
        flat = flat.detach()
        boxes = decode_boxes(flat[..., :4], points)
        labels = Labels(targets.boxes, targets.classes, targets.valid)
        further = self._pair_cost(flat, points, targets)
        classes = flat[..., 5 : 5 + self.num_classes]
        return assign_simota(boxes, flat[..., 4], classes, labels, points, self.rule, further)

    def _pair_cost(self, flat: Tensor, points: AnchorPoints, targets: ObjectTargets) -> PairCost | None:
        """Return a further cost of pairs in the assignment; boxes and classes have none."""
        return None

    def positives(self, flat: Tensor, points: AnchorPoints, targets: ObjectTargets, found: Assignment) -> Positives:
        """Look up what the head says at the positive points, raw (B, A, channels), and what it should say."""
        values = full_precision(rows_at(flat, found.point))
        return Positives(
            # Raw values of 0 decode to a box of one cell, so slots that are not used have finite gradients, times 0.
            values=values.where(found.used[..., None], 0.0),
            weight=found.used.to(values.dtype),
            count=found.used.sum().clamp(min=1).to(values.dtype),
            object=found.object,
            boxes=rows_at(targets.boxes, found.object).to(values.dtype),
            classes=targets.classes.gather(1, found.object),
            fit=found.iou.to(values.dtype),
            corners=points.corners[found.point],
            strides=points.strides[found.point],
        )

    def _parts(self, flat: Tensor, positives: Positives, targets: ObjectTargets) -> dict[str, Tensor]:
        """Return the sums of all parts over the batch, with their gains."""
        objectness = full_precision(flat[..., 4])
        # Cross entropy with targets 0 and 1, without a map of targets.
        obj = F.softplus(objectness).sum() - (positives.values[..., 4] * positives.weight).sum()
        box = self._box_loss(positives) * positives.weight
        cls = self._class_loss(positives) * positives.weight
        parts = {"box": box.sum(), "obj": obj, "cls": cls.sum(), "l1": torch.zeros_like(obj)}
        if self.with_l1:
            goal = encode_boxes_at(positives.boxes, positives.corners, positives.strides)
            parts["l1"] = ((positives.values[..., :4] - goal).abs().sum(-1) * positives.weight).sum()
        return {name: value * self.gains[name] for name, value in parts.items()}

    def _box_loss(self, positives: Positives) -> Tensor:
        """Return (B, S): ``1 - IoU^2``, or ``1 - GIoU``."""
        boxes = decode_boxes_at(positives.values[..., :4], positives.corners, positives.strides)
        overlap = plain_iou(boxes, positives.boxes, self.box_loss == "giou")
        return 1 - (overlap.clamp(-1, 1) if self.box_loss == "giou" else overlap.square())

    def _class_loss(self, positives: Positives) -> Tensor:
        """Return (B, S) the cross entropy of all classes; the target is the fit for the object's and 0 for others."""
        logits = positives.values[..., 5 : 5 + self.num_classes]
        own = logits.gather(2, positives.classes[..., None])[..., 0]
        return F.softplus(logits).sum(-1) - own * positives.fit


def plain_iou(boxes: Tensor, others: Tensor, generalised: bool = False) -> Tensor:
    """Return the overlap of ``boxes[i]`` with ``others[i]`` as YOLOX has it: nothing but 1e-16 in the denominators.

    Args:
        boxes: (..., 4) centre x, centre y, width, height.
        others: (..., 4) in the same form and unit.
        generalised: subtract the share of the common hull that neither box covers (GIoU, arXiv:1902.09630).

    Returns:
        (...) in 0..1, or above -1 when generalised.
    """
    low1, high1 = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    low2, high2 = others[..., :2] - others[..., 2:] / 2, others[..., :2] + others[..., 2:] / 2
    shared = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(-1)
    union = boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - shared
    iou = shared / (union + _TINY)
    if not generalised:
        return iou
    hull = (torch.maximum(high1, high2) - torch.minimum(low1, low2)).prod(-1)
    return iou - (hull - union) / hull.clamp(min=_TINY)
