"""The anchor-free detection head of YOLOX (Ge et al., arXiv:2107.08430): decoupled towers, one prediction per cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.anchor_points import AnchorPoints, decode_boxes
from models.heads.anchor_free import AnchorFreeHead, start_from_prior
from models.layers.conv import Conv
from models.layers.depthwise import DWConvPair
from models.losses.yolox import YOLOX_RECIPE, YOLOXCriterion
from models.predictions import Detections
from models.registry import Built, Scale, construct, register, usage
from utils.boxes import xywh_to_xyxy


def tower(hidden: int, depth: int, depthwise: bool) -> nn.Sequential:
    """Return ``depth`` 3x3 convolutions in a row, ``hidden`` channels in and out."""
    block = DWConvPair if depthwise else Conv
    return nn.Sequential(*(block(hidden, hidden, 3) for _ in range(depth)))


@register
class YOLOXDetect(AnchorFreeHead):
    """Per level one tower of convolutions for classes and one for boxes, on a reduced map; a cell is one prediction::

        P -> Conv 1x1 -> | -> 2 Conv 3x3 -> 1x1 -> C classes
                         | -> 2 Conv 3x3 -> | 1x1 -> 4 box values
                                            | 1x1 -> objectness

    Raw output of a level: (B, 4 + 1 + C, rows, columns). A box decodes as ``centre = (xy + cell) * stride`` and
    ``size = exp(wh) * stride``. No weights are shared between levels.

    Args:
        in_channels: channels of the source rows.
        num_classes: number of classes.
        hidden: channels of the towers; a row's are scaled by the model's width.
        depthwise: build the towers of ``DWConvPair``, as in YOLOX-nano.
    """

    loss_names = ("box", "obj", "cls", "l1")
    recipe = YOLOX_RECIPE

    def __init__(self, in_channels: list[int], num_classes: int, hidden: int, depthwise: bool = False) -> None:
        if num_classes < 1 or hidden < 1:
            raise ValueError(f"classes and hidden channels are above 0, but they are {num_classes} and {hidden}")
        super().__init__(num_classes)
        levels = range(len(in_channels))
        self.stems = nn.ModuleList(Conv(channels, hidden, 1) for channels in in_channels)
        self.cls_convs = nn.ModuleList(tower(hidden, 2, depthwise) for _ in levels)
        self.reg_convs = nn.ModuleList(tower(hidden, 2, depthwise) for _ in levels)
        self.cls_preds = nn.ModuleList(start_from_prior(nn.Conv2d(hidden, num_classes, 1)) for _ in levels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in levels)
        self.obj_preds = nn.ModuleList(start_from_prior(nn.Conv2d(hidden, 1, 1)) for _ in levels)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes, hidden, ...]``; the hidden channels are scaled.

        Raises:
            ValueError: an argument is missing or of the wrong kind.
        """
        if len(args) < 2:
            raise ValueError(f"the number of arguments does not fit; {usage(cls)}")
        classes, hidden, *others = args
        if isinstance(hidden, int) and not isinstance(hidden, bool):
            hidden = scale.channels(hidden)
        return Built(construct(cls, in_channels, classes, hidden, *others), 0)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return per level (B, 4 + 1 + C, rows, columns) before any sigmoid."""
        return [torch.cat(self._level(level, x), 1) for level, x in enumerate(features)]

    def _level(self, level: int, x: Tensor) -> list[Tensor]:
        """Return the parts of a level's output in the order of their channels."""
        return self._box_and_class(level, self.stems[level](x))

    def _box_and_class(self, level: int, x: Tensor) -> list[Tensor]:
        boxes, classes = self.reg_convs[level](x), self.cls_convs[level](x)
        return [self.reg_preds[level](boxes), self.obj_preds[level](boxes), self.cls_preds[level](classes)]

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> YOLOXCriterion:
        """Return the YOLOX loss; its published gains hold for every size, class count and number of levels."""
        return YOLOXCriterion(self.strides, self.num_classes, hyp)

    def decode(self, values: Tensor, points: AnchorPoints) -> Detections:
        """Decode (B, A, channels) float32 of all cells."""
        boxes, rest = values[..., :4], values[..., 4 : 5 + self.num_classes].sigmoid()
        return Detections(xywh_to_xyxy(decode_boxes(boxes, points)), rest[..., 1:], rest[..., 0])
