"""The anchor-based detection head of YOLOv5."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.samples import Placement
from models.autoanchor import adapt_anchors
from models.heads.base import Head
from models.heads.levels import levels_without
from models.losses.anchor_detection import AnchorDetectionCriterion
from models.predictions import DetectionResult, Detections, PostprocessOptions
from models.registry import Built, Scale, construct, register
from models.views import Level
from utils.boxes import xywh_to_xyxy
from utils.detection_results import detection_results
from utils.errors import ModelError

MOST_ANCHORS = 50
"""Of one level; half of what a list of a model YAML may hold."""
PRIOR_OBJECTS_PER_IMAGE = 8
PRIOR_IMAGE_SIZE = 640
PRIOR_CLASS_PROBABILITY = 0.6


@register
class Detect(Head):
    """Per level a 1x1 convolution to ``anchors x (4 box + 1 objectness + C classes)``::

        P3 -> 1x1 -> (B, A, H/8,  W/8,  5 + C)
        P4 -> 1x1 -> (B, A, H/16, W/16, 5 + C)
        P5 -> 1x1 -> (B, A, H/32, W/32, 5 + C)

    Boxes decode as ``xy = (2 sigmoid - 0.5 + cell) * stride`` and ``wh = (2 sigmoid)^2 * anchor``.

    Args:
        in_channels: channels of the source rows.
        num_classes: number of classes.
        anchors: per level a flat list ``w0, h0, w1, h1, ...`` in pixels, or how many anchors a level has; then the
            anchors are placeholders that autoanchor replaces before training.
    """

    task = "detect"
    targets = ("boxes", "classes")
    evaluator = "boxes"
    loss_names = ("box", "obj", "cls")
    recipe = MappingProxyType(
        {
            "box": 0.05,
            "obj": 1.0,
            "obj_pw": 1.0,
            "cls": 0.5,
            "cls_pw": 1.0,
            "iou_t": 0.2,
            "anchor_t": 4.0,
            "fl_gamma": 0.0,
            "label_smoothing": 0.0,
            "autobalance": False,
        }
    )
    derived_buffers = ("anchors",)

    def __init__(self, in_channels: list[int], num_classes: int, anchors: list[list[float]] | int) -> None:
        super().__init__()
        self._placeholders = isinstance(anchors, int)
        if isinstance(anchors, int):
            anchors = [list(range(2 * anchors))] * len(in_channels)
        self.num_classes = num_classes
        self.strides: list[int] = []
        pixels = torch.tensor(anchors, dtype=torch.float32).view(len(anchors), -1, 2)
        self.register_buffer("anchors", pixels)
        areas = [sum(w * h for w, h in zip(level[::2], level[1::2], strict=True)) for level in anchors]
        self._anchors_grow = areas[-1] >= areas[0]
        outputs = pixels.shape[1] * (num_classes + 5)
        self.m = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for channels in in_channels)

    @classmethod
    def from_row(cls, in_channels: list[int], number: int, args: list[Any], scale: Scale) -> Built:
        """Build from ``[classes, anchors]``.

        Raises:
            ValueError: the class count or the anchors do not fit the number of levels.
        """
        if len(args) != 2:
            raise ValueError(f"Detect takes [nc, anchors], but got {len(args)} arguments")
        classes, anchors = args
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
            raise ValueError(f"the number of classes must be a whole number above 0, but it is {classes!r}")
        if isinstance(anchors, list):
            check_anchor_lists(anchors, len(in_channels))
        elif isinstance(anchors, bool) or not isinstance(anchors, int) or not 1 <= anchors <= MOST_ANCHORS:
            raise ValueError(
                f"the anchors must be one list per level or a count of up to {MOST_ANCHORS}, but they are {anchors!r}"
            )
        return Built(construct(cls, in_channels, classes, anchors), 0)

    def set_strides(self, strides: list[int]) -> None:
        """Take the strides, turn the anchors from pixels into cells and give the biases their priors."""
        self.strides = list(strides)
        if len(strides) > 1 and self._anchors_grow != (strides[-1] > strides[0]):
            self.anchors.copy_(self.anchors.flip(0))
        self.anchors /= torch.tensor(strides, dtype=torch.float32).view(-1, 1, 1)
        self._start_from_priors()

    @torch.no_grad()
    def _start_from_priors(self) -> None:
        """Shift the biases so that a fresh head expects eight objects in a 640 px image, all classes alike."""
        anchors = self.anchors.shape[1]
        for conv, stride in zip(self.m, self.strides, strict=True):
            bias = conv.bias.view(anchors, -1)
            bias[:, 4] += math.log(PRIOR_OBJECTS_PER_IMAGE / (PRIOR_IMAGE_SIZE / stride) ** 2)
            bias[:, 5:] += math.log(PRIOR_CLASS_PROBABILITY / (self.num_classes - 0.99999))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return per level (B, A, rows, columns, 5 + C) before any sigmoid."""
        anchors = self.anchors.shape[1]
        raw = []
        for x, conv in zip(features, self.m, strict=True):
            y = conv(x)
            batch, _, rows, columns = y.shape
            raw.append(y.view(batch, anchors, self.num_classes + 5, rows, columns).permute(0, 1, 3, 4, 2))
        return raw

    def criterion(self, hyp: Mapping[str, Any], image_size: int | None = None) -> AnchorDetectionCriterion:
        """Return the YOLOv5 loss; published gains are for 640 px, 80 classes and three levels.

        Raises:
            ModelError: the anchors are placeholders still, so nothing could be assigned to them.
        """
        if self._placeholders:
            raise ModelError(
                "the model YAML gives only the number of anchors, and none were fitted to the data: "
                "leave --noautoanchor out, or write their sizes under 'anchors'"
            )
        if image_size is not None:
            levels = 3 / len(self.strides)
            hyp = dict(hyp)
            hyp["box"] *= levels
            hyp["cls"] *= self.num_classes / 80 * levels
            hyp["obj"] *= (image_size / 640) ** 2 * levels
        return AnchorDetectionCriterion(self.anchors, self.strides, self.num_classes, hyp)

    def adapt_to_objects(self, wh: np.ndarray, hyp: Mapping[str, Any], rng: np.random.Generator) -> dict[int, Any]:
        """Fit the anchors to the training objects where the row's own would miss too many of them."""
        pixels = self.anchors.float().cpu().numpy() * np.array(self.strides, np.float32).reshape(-1, 1, 1)
        descending = self.strides[0] > self.strides[-1]
        fitted = adapt_anchors(pixels[::-1] if descending else pixels, wh, float(hyp["anchor_t"]), rng)
        if fitted is None:
            return {}
        return {1: fitted[::-1] if descending else fitted}

    def predict(self, raw: list[Tensor], image_size: tuple[int, int]) -> Detections:
        """Decode to boxes in pixels of the network input; levels in order, then anchor, row, column."""
        return self._decode(raw, range(len(raw)))

    def predict_without(self, level: Level, raw: list[Tensor], image_size: tuple[int, int]) -> Detections:
        """Decode all levels but the one with the largest (``coarsest``) or the smallest stride (``finest``)."""
        return self._decode(raw, levels_without(level, self.strides))

    def _decode(self, raw: list[Tensor], levels: Iterable[int]) -> Detections:
        boxes, objectness, scores = [], [], []
        for level in levels:
            output, anchors, stride = raw[level], self.anchors[level], self.strides[level]
            batch, _, rows, columns, _ = output.shape
            y = output.float().sigmoid()
            row, column = torch.meshgrid(
                torch.arange(rows, device=y.device), torch.arange(columns, device=y.device), indexing="ij"
            )
            cell = torch.stack((column, row), -1).to(y.dtype)
            xy = (y[..., 0:2] * 2 - 0.5 + cell) * stride
            wh = (y[..., 2:4] * 2) ** 2 * (anchors.float() * stride).view(1, -1, 1, 1, 2)
            boxes.append(torch.cat((xy, wh), -1).reshape(batch, -1, 4))
            objectness.append(y[..., 4].reshape(batch, -1))
            scores.append(y[..., 5:].reshape(batch, -1, self.num_classes))
        return Detections(xywh_to_xyxy(torch.cat(boxes, 1)), torch.cat(scores, 1), torch.cat(objectness, 1))

    def postprocess(
        self, predictions: Detections, options: PostprocessOptions, placements: list[Placement]
    ) -> list[DetectionResult]:
        """Suppress overlapping boxes and map the rest to native pixels."""
        return detection_results(predictions, options, placements)


def check_anchor_lists(anchors: list[Any], levels: int) -> None:
    """Hold a YAML's anchors against the number of levels.

    Raises:
        ValueError: not one list per level, an odd count, lists of different lengths, or a value not above 0.
    """
    if len(anchors) != levels:
        raise ValueError(
            f"there are {len(anchors)} lists of anchors, but 'from' names {levels} rows; give one list per row"
        )
    lengths = {len(level) if isinstance(level, list) else -1 for level in anchors}
    if len(lengths) != 1 or -1 in lengths or lengths.pop() % 2:
        raise ValueError("every level needs the same number of anchors, written as a flat list w0, h0, w1, h1, ...")
    values = [value for level in anchors for value in level]
    wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, int | float) or not v > 0]
    if wrong or not values:
        raise ValueError(
            f"anchor sizes are pixels above 0, but one is {wrong[0]!r}" if wrong else "the anchors are empty"
        )
