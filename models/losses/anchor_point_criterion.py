"""What the losses of anchor-free heads have in common: one prediction per cell, positives found by prediction.

Shape suffixes: B images, A anchor points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from data.samples import Batch
from models.anchor_points import AnchorPoints, anchor_points, flatten_levels
from models.assigners.assigned_points import AssignedPoints
from models.heads.base import Criterion, Targets
from models.losses.box_targets import BoxTargets, box_targets
from utils.precision import without_autocast


class Slots(Protocol):
    """Positive points in S slots per image, of which only some are used.

    Attributes:
        point: (B, S) index of the anchor point; any index where the slot is not used.
        object: (B, S) index of the object that the point answers for.
        used: (B, S) bool.
    """

    point: Tensor
    object: Tensor
    used: Tensor


class AnchorPointCriterion(Criterion):
    """Base of losses of heads with one prediction per cell.

    Their denominators, such as the number of positive points, are known only after the forward pass. So every part is
    a mean over the batch at hand and is weighed by that batch's share of the nominal batch's images. The published
    programs divide per process likewise.

    Args:
        strides: pixels per cell of each level.
        num_classes: classes.
    """

    def __init__(self, strides: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.strides = list(strides)
        self.num_classes = num_classes

    def prepare(self, batch: Batch) -> BoxTargets:
        """Collect the labels; nothing can be assigned before the forward pass."""
        return box_targets(batch)

    def forward(self, raw: list[Tensor], targets: Targets, totals: Tensor | None = None) -> dict[str, Tensor]:
        """Weigh raw maps.

        Args:
            raw: per level (B, channels, rows, columns).
            targets: from ``prepare``.
            totals: (1,) number of images of the nominal batch.

        Returns:
            The parts by name: scalars with their gains, float32 (float64 for raw maps of that kind).
        """
        with without_autocast(raw[0].device):
            flat = flatten_levels(raw)
            parts = self.parts(flat, self.points_of(raw), targets)
            if totals is None:
                return parts
            share = len(flat) / totals.to(flat.device, non_blocking=True)[0].clamp(min=1)
            return {name: part * share for name, part in parts.items()}

    def parts(self, flat: Tensor, points: AnchorPoints, targets: Targets) -> dict[str, Tensor]:
        """Return the parts of raw outputs (B, A, channels) with their gains, each a mean over these images."""
        raise TypeError(f"{type(self).__name__} does not weigh outputs")

    def assign(self, flat: Tensor, points: AnchorPoints, targets: Targets) -> Slots:
        """Choose the positive points among raw outputs (B, A, channels); carries no gradient."""
        raise TypeError(f"{type(self).__name__} does not assign")

    def points_of(self, raw: Sequence[Tensor]) -> AnchorPoints:
        """Return the anchor points of raw maps."""
        return anchor_points([(level.shape[-2], level.shape[-1]) for level in raw], self.strides, raw[0].device)

    def places(self, points: AnchorPoints) -> Tensor:
        """Return (A, 2), x and y from where boxes are measured, in pixels."""
        return points.centres

    @torch.no_grad()
    def assignment(self, raw: list[Tensor], batch: Batch) -> AssignedPoints:
        """Return the places of the positive points and their objects, for pictures."""
        with without_autocast(raw[0].device):
            points, flat = self.points_of(raw), flatten_levels(raw)
            found = self.assign(flat, points, self.prepare(batch).to(flat.device))
        image, slot = found.used.nonzero(as_tuple=True)
        return AssignedPoints(image, found.object[image, slot], self.places(points)[found.point[image, slot]])
