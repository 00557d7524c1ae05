"""What heads without anchors share: one prediction per cell, its decoding from all levels at once, and their prior."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from data.samples import Placement
from models.anchor_points import AnchorPoints, anchor_points, flatten_levels
from models.heads.base import Head
from models.heads.levels import levels_without
from models.predictions import DetectionResult, Detections, PostprocessOptions
from models.registry import Built, Scale, construct
from models.views import Level
from utils.detection_results import detection_results
from utils.precision import full_precision

PRIOR_PROBABILITY = 0.01
"""What a fresh head says of every cell: that there is an object, that it is of a class."""


def start_from_prior(conv: nn.Conv2d) -> nn.Conv2d:
    """Set the biases of a convolution to logits so that its outputs begin near the prior probability."""
    nn.init.constant_(conv.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
    return conv


class AnchorFreeHead(Head):
    """Base of heads for boxes whose raw output of a level is (B, channels, rows, columns), one prediction per cell.

    A subclass sets ``num_classes`` and says with ``decode`` what the channels mean.

    Attributes:
        strides: pixels per cell of every level.
    """

    task = "detect"
    targets = ("boxes", "classes")
    evaluator = "boxes"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"the number of classes is above 0, but it is {num_classes}")
        self.num_classes = num_classes
        self.strides: list[int] = []

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from the arguments of the constructor, none of which is a number of channels.

        Raises:
            ValueError: an argument is missing or of the wrong kind.
        """
        return Built(construct(cls, in_channels, *args), 0)

    def set_strides(self, strides: list[int]) -> None:
        """Take the strides of the levels."""
        self.strides = list(strides)

    def decode(self, values: Tensor, points: AnchorPoints) -> Detections:
        """Decode the raw values of cells.

        Args:
            values: (B, A, channels) float32; levels in order, then row, column.
            points: (A) the cells' places.

        Returns:
            Boxes in pixels of the network input, and probabilities.
        """
        raise TypeError(f"{type(self).__name__} cannot decode")

    def predict(self, raw: list[Tensor], image_size: tuple[int, int]) -> Detections:
        """Decode to boxes in pixels of the network input; levels in order, then row, column."""
        return self._decode_levels(raw, range(len(raw)))

    def predict_without(self, level: Level, raw: list[Tensor], image_size: tuple[int, int]) -> Detections:
        """Decode all levels but the one with the largest (``coarsest``) or the smallest stride (``finest``)."""
        return self._decode_levels(raw, levels_without(level, self.strides))

    def _decode_levels(self, raw: list[Tensor], levels: Iterable[int]) -> Detections:
        chosen = list(levels)
        maps = [raw[level] for level in chosen]
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        points = anchor_points(shapes, [self.strides[level] for level in chosen], maps[0].device)
        return self.decode(full_precision(flatten_levels(maps)), points)

    def postprocess(
        self, predictions: Detections, options: PostprocessOptions, placements: list[Placement]
    ) -> list[DetectionResult]:
        """Suppress overlapping boxes and map the rest to native pixels."""
        return detection_results(predictions, options, placements)
