"""What heads answer: batched predictions (still on the device) and per-image results (native pixels).

Shape suffixes: B images, N candidate boxes, C classes, H rows, W columns, k kept objects.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass
class Detections:
    """Decoded boxes of a batch before suppression.

    Attributes:
        boxes: (B, N, 4) x1 y1 x2 y2 in pixels of the network input.
        scores: (B, N, C) class probabilities in 0..1, not multiplied by objectness.
        objectness: (B, N) in 0..1, or None for heads without it.
    """

    boxes: Tensor
    scores: Tensor
    objectness: Tensor | None = None


@dataclass
class Masks:
    """Class logits of a batch: (B, C, H, W) at the network input's size."""

    logits: Tensor


def named_outputs(predictions: Any) -> dict[str, Tensor]:
    """Return the tensors of a head's batched predictions by field name; fields that are None are left out.

    Args:
        predictions: a dataclass of tensors, such as ``Detections`` or ``Masks``.
    """
    values = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    return {name: value for name, value in values.items() if value is not None}


@dataclass
class DetectionResult:
    """Objects found in one image.

    Attributes:
        boxes: (k, 4) float32 x1 y1 x2 y2 in native pixels, inside the image.
        scores: (k,) float32 in 0..1, descending.
        classes: (k,) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


@dataclass
class MaskResult:
    """Class of every pixel of one image: (h, w) uint8 at native size."""

    class_map: Tensor


@dataclass(frozen=True)
class PostprocessOptions:
    """How predictions become results.

    Attributes:
        conf: least confidence of a kept object, 0..1.
        iou: overlap above which the weaker of two boxes is suppressed, 0..1.
        max_det: most objects kept per image.
        multi_label: a box may answer for several classes (testing) or only for its best (detecting).
        agnostic: suppress across classes.
        classes: keep only these class indices, or None for all.
    """

    conf: float = 0.25
    iou: float = 0.45
    max_det: int = 300
    multi_label: bool = False
    agnostic: bool = False
    classes: tuple[int, ...] | None = None
