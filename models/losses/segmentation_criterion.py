"""The loss of a segmentation head: one pixel loss on the main output, the same on auxiliary outputs at less weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from data.samples import Batch
from models.heads.base import Criterion
from models.losses.segmentation import hardest_pixels, labelled_weight, pixel_cross_entropy, pixel_focal
from utils.errors import ModelError, did_you_mean

IGNORED = 255
PIXEL_LOSSES = ("cross_entropy", "ohem", "focal")


@dataclass
class PixelTargets:
    """Class of every pixel: ``masks`` (N, H, W) uint8, 255 ignored; ``normalizers`` (1,) weight of labelled pixels."""

    masks: Tensor
    normalizers: Tensor

    def to(self, device: torch.device) -> PixelTargets:
        """Return the targets on ``device``."""
        return PixelTargets(self.masks.to(device, non_blocking=True), self.normalizers.to(device, non_blocking=True))


class SegmentationCriterion(Criterion):
    """Pixel loss of a segmentation head.

    Args:
        num_classes: classes of the head.
        hyp: ``seg_loss`` (cross_entropy, ohem or focal), ``seg_class_weights`` (one per class, cross entropy only),
            ``seg_aux`` (weights of the auxiliary outputs in their order), ``seg_ohem_threshold``, ``seg_focal_gamma``.

    Raises:
        ModelError: the recipe names an unknown loss, or one of its values does not fit.
    """

    def __init__(self, num_classes: int, hyp: Mapping[str, Any]) -> None:
        super().__init__()
        self.kind = hyp.get("seg_loss", "cross_entropy")
        if self.kind not in PIXEL_LOSSES:
            raise ModelError(
                f"recipe key seg_loss is '{self.kind}', but must be one of {', '.join(PIXEL_LOSSES)}."
                f"{did_you_mean(self.kind, PIXEL_LOSSES)}"
            )
        weights = hyp.get("seg_class_weights")
        if weights is not None:
            self._check_class_weights(weights, num_classes)
        weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        # A second copy that stays on the CPU, where masks are counted as a rule.
        self._weights_for_counting = None if weights is None else weights.clone()
        self.aux_weights = _numbers("seg_aux", hyp.get("seg_aux", [0.15, 0.05]))
        self.threshold = float(hyp.get("seg_ohem_threshold", 0.7))
        if not 0 < self.threshold <= 1:
            raise ModelError(
                f"recipe key seg_ohem_threshold must be above 0 and at most 1, but it is {self.threshold:g}"
            )
        self.gamma = float(hyp.get("seg_focal_gamma", 1.0))

    def _check_class_weights(self, weights: Any, num_classes: int) -> None:
        if self.kind != "cross_entropy":
            raise ModelError(
                f"recipe key seg_class_weights needs seg_loss cross_entropy, not {self.kind}; remove one of them"
            )
        if len(_numbers("seg_class_weights", weights)) != num_classes:
            raise ModelError(
                f"recipe key seg_class_weights has {len(weights)} values, but the head has {num_classes} classes"
            )

    def prepare(self, batch: Batch) -> PixelTargets:
        """Count the labelled pixels of the batch."""
        on_cpu = batch.masks.device.type == "cpu"
        weights = self._weights_for_counting if on_cpu else self.class_weights
        return PixelTargets(batch.masks, labelled_weight(batch.masks, IGNORED, weights).reshape(1))

    def forward(self, raw: list[Tensor], targets: PixelTargets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh logits.

        Args:
            raw: the main logits (N, C, h, w), then auxiliary ones.
            targets: from ``prepare``.
            totals: (1,) weight of the labelled pixels of the nominal batch.

        Returns:
            ``seg``: a float32 scalar.

        Raises:
            ModelError: the recipe has fewer auxiliary weights than the head has auxiliary outputs.
        """
        if len(self.aux_weights) < len(raw) - 1:
            raise ModelError(
                f"recipe key seg_aux has {len(self.aux_weights)} values, but the head has {len(raw) - 1} "
                "auxiliary outputs"
            )
        own = targets.normalizers.to(raw[0].device, non_blocking=True)[0]
        total = own if totals is None else totals.to(raw[0].device, non_blocking=True)[0]
        goal = targets.masks.long()
        weights = [1.0, *self.aux_weights[: len(raw) - 1]]
        loss = raw[0].new_zeros((), dtype=torch.float32)
        for logits, weight in zip(raw, weights, strict=True):
            full = F.interpolate(logits.float(), goal.shape[-2:], mode="bilinear", align_corners=True)
            loss = loss + weight * self._mean(full, goal, own, total)
        return {"seg": loss}

    def _mean(self, logits: Tensor, goal: Tensor, own: Tensor, total: Tensor) -> Tensor:
        """Return this batch's share of the nominal batch's mean pixel loss."""
        if self.kind == "ohem":
            summed, count = hardest_pixels(logits, goal, IGNORED, self.threshold)
            return summed / count.clamp(min=1) * (own / total.clamp(min=1))
        if self.kind == "focal":
            summed, _ = pixel_focal(logits, goal, IGNORED, self.gamma)
        else:
            summed, _ = pixel_cross_entropy(logits, goal, IGNORED, self.class_weights)
        return summed / total.clamp(min=1)


def _numbers(key: str, values: Any) -> list[float]:
    """Return a recipe's list as floats.

    Raises:
        ModelError: it is no list of numbers of 0 or more.
    """
    is_list = isinstance(values, list | tuple)
    if not is_list or any(isinstance(v, bool) or not isinstance(v, int | float) or not v >= 0 for v in values):
        raise ModelError(f"recipe key {key} must be a list of numbers of 0 or more, but it is {values!r}")
    return [float(v) for v in values]
