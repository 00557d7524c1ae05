"""The detection loss of YOLOv5: CIoU for matched boxes, objectness for all cells, class probabilities for matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from data.packed_arrays import arrays_to_device
from data.samples import Batch
from models.assigners.anchor_ratio import LevelMatches, assign_by_anchor_ratio
from models.assigners.assigned_points import AssignedPoints
from models.heads.base import Criterion
from models.losses.focal import binary_cross_entropy
from models.losses.iou import paired_iou
from utils.boxes import xyxy_to_xywh

LEVEL_BALANCE_OF_THREE = (4.0, 1.0, 0.4)
LEVEL_BALANCE = (4.0, 1.0, 0.25, 0.06, 0.02)
AUTOBALANCE_RATE = 0.0001


@dataclass
class AnchorTargets:
    """Matches of every level.

    Attributes:
        levels: one entry per level.
        normalizers: (2 * levels,) matches of each level, then cells (image x anchor x row x column) of each level.
    """

    levels: list[LevelMatches]
    normalizers: Tensor

    def to(self, device: torch.device) -> AnchorTargets:
        """Return the targets on ``device``, in one copy that nobody waits for."""
        if self.normalizers.device == device:
            return self
        parts = {
            f"{i}/{name}": part.numpy() for i, level in enumerate(self.levels) for name, part in vars(level).items()
        }
        moved = arrays_to_device(parts | {"normalizers": self.normalizers.numpy()}, device)
        levels = [
            LevelMatches(**{name: moved[f"{i}/{name}"] for name in vars(level)}) for i, level in enumerate(self.levels)
        ]
        return AnchorTargets(levels, moved["normalizers"])


class AnchorDetectionCriterion(Criterion):
    """Loss of an anchor-based detection head.

    Args:
        anchors: (L, A, 2) anchor widths and heights in cells of each level.
        strides: pixels per cell of each level.
        num_classes: classes; with one class there is no class loss.
        hyp: gains ``box``, ``obj``, ``cls``; ``cls_pw`` and ``obj_pw`` (positive weights), ``anchor_t`` (largest ratio
            of a match), ``fl_gamma`` (focal exponent), ``label_smoothing``, ``autobalance``.
    """

    def __init__(self, anchors: Tensor, strides: list[int], num_classes: int, hyp: Mapping[str, Any]) -> None:
        super().__init__()
        # No buffer, so that it stays where labels are: taking it back from a GPU for each batch would wait for that.
        self.anchors = anchors.detach().clone().float().cpu()
        self.strides = list(strides)
        self.num_classes = num_classes
        self.gains = {"box": float(hyp["box"]), "obj": float(hyp["obj"]), "cls": float(hyp["cls"])}
        self.class_pos_weight = float(hyp.get("cls_pw", 1.0))
        self.object_pos_weight = float(hyp.get("obj_pw", 1.0))
        self.max_ratio = float(hyp.get("anchor_t", 4.0))
        self.gamma = float(hyp.get("fl_gamma", 0.0))
        smoothing = float(hyp.get("label_smoothing", 0.0))
        self.positive, self.negative = 1.0 - 0.5 * smoothing, 0.5 * smoothing
        self.autobalance = bool(hyp.get("autobalance", False))
        balance = LEVEL_BALANCE_OF_THREE if len(self.strides) == 3 else LEVEL_BALANCE
        balance += balance[-1:] * (len(self.strides) - len(balance))
        self.register_buffer("balance", torch.tensor(balance, dtype=torch.float32))

    def prepare(self, batch: Batch) -> AnchorTargets:
        """Assign the batch's objects to anchors and cells."""
        image_T, object_T = batch.valid.nonzero(as_tuple=True)
        boxes_T4 = xyxy_to_xywh(batch.boxes[image_T, object_T])
        classes_T = batch.classes[image_T, object_T]
        height, width = batch.images.shape[-2:]
        levels, cells = [], []
        for anchors_A2, stride in zip(self.anchors.to(boxes_T4.device), self.strides, strict=True):
            grid = (height // stride, width // stride)
            matches = assign_by_anchor_ratio(
                boxes_T4 / stride, classes_T, image_T, anchors_A2, grid, len(batch), self.max_ratio
            )
            levels.append(matches)
            cells.append(len(batch) * len(anchors_A2) * grid[0] * grid[1])
        counts = [len(level) for level in levels] + cells
        return AnchorTargets(levels, torch.tensor(counts, dtype=torch.float32))

    def forward(self, raw: list[Tensor], targets: AnchorTargets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh raw maps.

        Args:
            raw: per level (N, A, rows, columns, 5 + C).
            targets: from ``prepare``.
            totals: sum of ``normalizers`` over the nominal batch.

        Returns:
            ``box``, ``obj`` and ``cls``: float32 scalars with their gains.
        """
        totals = targets.normalizers if totals is None else totals
        totals = totals.to(raw[0].device, non_blocking=True).clamp(min=1)
        box, obj, cls = (raw[0].new_zeros((), dtype=torch.float32) for _ in range(3))
        level_objectness = []
        # A copy, because rebalancing changes the weights in place before the backward pass.
        balance = self.balance.clone()
        for i, (output, matches) in enumerate(zip(raw, targets.levels, strict=True)):
            goal = torch.zeros(output.shape[:-1], dtype=torch.float32, device=output.device)
            if len(matches):
                place = (matches.image, matches.anchor, matches.row, matches.column)
                picked = output[place].float()
                iou = self._overlap(picked, matches)
                box = box + (1.0 - iou).sum() / totals[i]
                score = iou.detach().clamp(min=0)
                goal[tuple(index[matches.deciding] for index in place)] = score[matches.deciding]
                if self.num_classes > 1:
                    cls = cls + self._class_loss(picked[:, 5:], matches) / (totals[i] * self.num_classes)
            loss = binary_cross_entropy(output[..., 4].float(), goal, self.object_pos_weight, self.gamma)
            cells = totals[len(raw) + i]
            obj = obj + loss.sum() / cells * balance[i]
            level_objectness.append(loss.detach().mean())
        if self.autobalance and self.training and len(raw[0]):
            self._rebalance(level_objectness)
        return {"box": box * self.gains["box"], "obj": obj * self.gains["obj"], "cls": cls * self.gains["cls"]}

    def assignment(self, raw: list[Tensor], batch: Batch) -> AssignedPoints:
        """Return the centres of the cells that answer for objects, once for each of their anchors that does."""
        image_T, object_T = batch.valid.nonzero(as_tuple=True)
        boxes_T4 = xyxy_to_xywh(batch.boxes[image_T, object_T])
        targets, places = [], []
        for output, anchors_A2, stride in zip(raw, self.anchors.to(boxes_T4.device), self.strides, strict=True):
            # Every object as if it were in an image of its own, so that the matches tell which object they are of.
            order = torch.arange(len(boxes_T4), device=boxes_T4.device)
            grid = (output.shape[2], output.shape[3])
            matches = assign_by_anchor_ratio(
                boxes_T4 / stride, order, order, anchors_A2, grid, len(boxes_T4), self.max_ratio
            )
            targets.append(matches.image)
            places.append((torch.stack((matches.column, matches.row), 1) + 0.5) * stride)
        target = torch.cat(targets)
        return AssignedPoints(image_T[target], object_T[target], torch.cat(places))

    def _overlap(self, picked: Tensor, matches: LevelMatches) -> Tensor:
        """Return the complete IoU (n,) of decoded boxes with their targets, both in cells."""
        xy = picked[:, 0:2].sigmoid() * 2 - 0.5
        wh = (picked[:, 2:4].sigmoid() * 2) ** 2 * matches.anchors
        return paired_iou(torch.cat((xy, wh), 1), matches.boxes, "ciou")

    def _class_loss(self, logits: Tensor, matches: LevelMatches) -> Tensor:
        """Return the summed class loss of the matches of one level."""
        goal = torch.full_like(logits, self.negative)
        goal.scatter_(1, matches.classes[:, None], self.positive)
        return binary_cross_entropy(logits, goal, self.class_pos_weight, self.gamma).sum()

    def _rebalance(self, level_objectness: list[Tensor]) -> None:
        """Move the level weights towards equal objectness losses, the stride-16 level staying at 1."""
        for i, value in enumerate(level_objectness):
            self.balance[i] = self.balance[i] * (1 - AUTOBALANCE_RATE) + AUTOBALANCE_RATE / value
        reference = self.strides.index(16) if 16 in self.strides else min(1, len(self.strides) - 1)
        self.balance /= self.balance[reference].clone()
