"""The detection head of YOLOv8: distances as distributions over bins (Li et al., arXiv:2006.04388), no objectness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.anchor_points import AnchorPoints, boxes_from_distances
from models.heads.anchor_free import AnchorFreeHead
from models.layers.conv import Conv
from models.losses.distribution_focal import SIDES, expected_distances
from models.losses.yolov8 import YOLOV8_RECIPE, YOLOv8Criterion
from models.predictions import Detections
from models.registry import register

LEAST_BOX_CHANNELS = 16
PRIOR_OBJECTS_PER_IMAGE = 5
PRIOR_IMAGE_SIZE = 640


@register
class YOLOv8Head(AnchorFreeHead):
    """Per level two convolutions for classes and two for boxes; a cell is one prediction::

        P -> 2 Conv 3x3 -> 1x1 -> C classes
        P -> 2 Conv 3x3 -> 1x1 -> 4 x bins logits

    Raw output of a level: (B, 4 bins + C, rows, columns), all bins of the left side first, then of the top, right and
    bottom side. A softmax over a side's bins weighs their numbers 0, 1, 2 ...; their mean is the distance of the side
    from the cell's centre, in strides. No weights are shared between levels.

    With c0 channels of the first source row, the towers are ``max(c0, C)`` and ``max(16, c0 / 4, 4 bins)`` wide at all
    levels.

    Args:
        in_channels: channels of the source rows.
        num_classes: number of classes, C.
        bins: of the distribution of a distance; the largest distance is ``bins - 1`` strides.
    """

    loss_names = ("box", "cls", "dfl")
    recipe = YOLOV8_RECIPE

    def __init__(self, in_channels: list[int], num_classes: int, bins: int = 16) -> None:
        super().__init__(num_classes)
        if bins < 2:
            raise ValueError(f"a distribution has 2 bins or more, but they are {bins}")
        self.bins = bins
        self.counted_decoding = SIDES * bins
        wide = max(in_channels[0], num_classes)
        narrow = max(LEAST_BOX_CHANNELS, in_channels[0] // 4, SIDES * bins)
        self.cls_preds = nn.ModuleList(_tower(channels, wide, num_classes) for channels in in_channels)
        self.reg_preds = nn.ModuleList(_tower(channels, narrow, SIDES * bins) for channels in in_channels)

    @torch.no_grad()
    def set_strides(self, strides: list[int]) -> None:
        """Take the strides, and start from what a fresh head says of each level: five objects, all classes alike."""
        super().set_strides(strides)
        for classes, boxes, stride in zip(self.cls_preds, self.reg_preds, strides, strict=True):
            cells = (PRIOR_IMAGE_SIZE / stride) ** 2
            classes[-1].bias.fill_(math.log(PRIOR_OBJECTS_PER_IMAGE / self.num_classes / cells))
            boxes[-1].bias.fill_(1.0)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return per level (B, 4 bins + C, rows, columns) before any softmax or sigmoid."""
        return [
            torch.cat((boxes(x), classes(x)), 1)
            for x, boxes, classes in zip(features, self.reg_preds, self.cls_preds, strict=True)
        ]

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> YOLOv8Criterion:
        """Return the YOLOv8 loss; its published gains hold for every size, class count and number of levels."""
        return YOLOv8Criterion(self.strides, self.num_classes, self.bins, hyp)

    def decode(self, values: Tensor, points: AnchorPoints) -> Detections:
        """Decode (B, A, 4 bins + C) float32 of all cells."""
        logits, classes = values.split((SIDES * self.bins, self.num_classes), -1)
        boxes = boxes_from_distances(expected_distances(logits, self.bins), points.centres, points.strides)
        return Detections(boxes, classes.sigmoid())


def _tower(c_in: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two 3x3 convolutions and the predicting one."""
    return nn.Sequential(Conv(c_in, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, outputs, 1))
