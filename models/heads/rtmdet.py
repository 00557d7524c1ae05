"""The head of RTMDet (Lyu et al., arXiv:2212.07784) as YOLO-MS has it: convolutions shared by the levels, norms not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.anchor_points import AnchorPoints, boxes_from_distances
from models.heads.anchor_free import AnchorFreeHead, start_from_prior
from models.layers.shared_conv import SharedConv
from models.losses.rtmdet import RTMDET_RECIPE, RTMDetCriterion
from models.predictions import Detections
from models.registry import Built, Scale, construct, register, usage

SPREAD = 0.01
"""Standard deviation of the weights of every convolution of a fresh head."""
MOST_STACKED = 100


@register
class RTMDetHead(AnchorFreeHead):
    """Per level two towers whose convolutions all levels share, each level with BatchNorms of its own::

        P -> | -> Conv 3x3 (shared) -> BatchNorm of the level -> activation, as often as stacked -> 1x1 -> 4 distances
             | -> the same with other weights ---------------------------------------------------> 1x1 -> C classes

    Raw output of a level: (B, 4 + C, rows, columns), distances left, top, right and bottom in strides from the upper
    left corner of the cell, used as they are: they may be negative. There is no objectness. The towers keep the
    channels of the source rows, which are the same for all levels.

    Args:
        in_channels: channels of the source rows.
        num_classes: number of classes.
        stacked: convolutions of a tower.
        activation: of the towers; the model's own activation is not used here.
    """

    loss_names = ("box", "cls")
    recipe = RTMDET_RECIPE

    def __init__(
        self, in_channels: list[int], num_classes: int, stacked: int = 2, activation: str = "nn.LeakyReLU(0.01)"
    ) -> None:
        super().__init__(num_classes)
        if not 1 <= stacked <= MOST_STACKED:
            raise ValueError(f"the convolutions of a tower are 1 to {MOST_STACKED}, but they are {stacked}")
        if len(set(in_channels)) != 1:
            listed = ", ".join(str(channels) for channels in in_channels)
            raise ValueError(
                "its levels share their convolutions, so the rows it reads have equal channels, but these have "
                f"{listed}; put a Conv row behind each of them"
            )
        channels, levels = in_channels[0], len(in_channels)
        towers = (
            nn.ModuleList(SharedConv(channels, channels, levels, activation=activation) for _ in range(stacked))
            for _ in range(2)
        )
        self.cls_convs, self.reg_convs = towers
        self.cls_preds = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for _ in range(levels))
        self.reg_preds = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in range(levels))
        self._initialise()

    def _initialise(self) -> None:
        """Begin with small weights, distances of 0 and the prior probability of every class."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=SPREAD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for conv in self.cls_preds:
            start_from_prior(conv)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes, stacked, activation]``.

        Raises:
            ValueError: an argument is missing or of the wrong kind, or the source rows differ in channels.
        """
        if not args:
            raise ValueError(f"the number of arguments does not fit; {usage(cls)}")
        return Built(construct(cls, in_channels, *args), 0)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return per level (B, 4 + C, rows, columns) before any sigmoid."""
        return [self._level(level, x) for level, x in enumerate(features)]

    def _level(self, level: int, x: Tensor) -> Tensor:
        boxes = classes = x
        for conv in self.reg_convs:
            boxes = conv(boxes, level)
        for conv in self.cls_convs:
            classes = conv(classes, level)
        return torch.cat((self.reg_preds[level](boxes), self.cls_preds[level](classes)), 1)

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> RTMDetCriterion:
        """Return the loss of YOLO-MS; its published gains hold for every size, class count and number of levels."""
        return RTMDetCriterion(self.strides, self.num_classes, hyp)

    def decode(self, values: Tensor, points: AnchorPoints) -> Detections:
        """Decode (B, A, 4 + C) float32 of all cells."""
        distances, logits = values.split((4, self.num_classes), -1)
        return Detections(boxes_from_distances(distances, points.corners, points.strides), logits.sigmoid())
