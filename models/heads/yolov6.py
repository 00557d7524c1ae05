"""The detection head of YOLOv6 2.0, sizes n, t and s (Li et al., arXiv:2209.02976): distances, no objectness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.anchor_points import AnchorPoints, boxes_from_distances
from models.heads.anchor_free import AnchorFreeHead, start_from_prior
from models.layers.conv import Conv
from models.losses.yolov6 import YOLOV6_RECIPE, YOLOv6Criterion
from models.predictions import Detections
from models.registry import register


@register
class YOLOv6Head(AnchorFreeHead):
    """Per level a 1x1 convolution, then one convolution for classes and one for boxes; a cell is one prediction::

        P -> Conv 1x1 -> | -> Conv 3x3 -> 1x1 -> C classes
                         | -> Conv 3x3 -> 1x1 -> 4 distances

    Raw output of a level: (B, 4 + C, rows, columns). The distances are those from the cell's centre to the left, top,
    right and bottom side, in strides and as they are. No weights are shared between levels. YOLOv6 has SiLU here and
    ReLU elsewhere, so its YAMLs say ``{activation: nn.SiLU()}`` behind the row's arguments.

    Args:
        in_channels: channels of the source rows, which are those of the convolutions too.
        num_classes: number of classes.
    """

    loss_names = ("box", "cls")
    recipe = YOLOV6_RECIPE

    def __init__(self, in_channels: list[int], num_classes: int) -> None:
        super().__init__(num_classes)
        self.stems = nn.ModuleList(Conv(channels, channels, 1) for channels in in_channels)
        self.cls_convs = nn.ModuleList(Conv(channels, channels, 3) for channels in in_channels)
        self.reg_convs = nn.ModuleList(Conv(channels, channels, 3) for channels in in_channels)
        self.cls_preds = nn.ModuleList(
            start_from_prior(nn.Conv2d(channels, num_classes, 1)) for channels in in_channels
        )
        self.reg_preds = nn.ModuleList(nn.Conv2d(channels, 4, 1) for channels in in_channels)
        for conv in (*self.cls_preds, *self.reg_preds):
            nn.init.zeros_(conv.weight)
        for conv in self.reg_preds:
            # Every box begins with sides of two strides, the cell in its middle.
            nn.init.ones_(conv.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return per level (B, 4 + C, rows, columns) before any sigmoid."""
        return [self._level(level, x) for level, x in enumerate(features)]

    def _level(self, level: int, x: Tensor) -> Tensor:
        x = self.stems[level](x)
        boxes, classes = self.reg_convs[level](x), self.cls_convs[level](x)
        return torch.cat((self.reg_preds[level](boxes), self.cls_preds[level](classes)), 1)

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> YOLOv6Criterion:
        """Return the YOLOv6 loss; its published gains hold for every size, class count and number of levels."""
        return YOLOv6Criterion(self.strides, self.num_classes, hyp)

    def decode(self, values: Tensor, points: AnchorPoints) -> Detections:
        """Decode (B, A, 4 + C) float32 of all cells."""
        boxes = boxes_from_distances(values[..., :4], points.centres, points.strides)
        return Detections(boxes, values[..., 4:].sigmoid())
