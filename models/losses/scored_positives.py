"""What heads that predict distances say at their positive points, and what they should say.

Shape suffixes: B images, S slots for positive points (most are not used).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.anchor_points import AnchorPoints, rows_at
from models.assigners.scored_points import ScoredPoints
from models.losses.box_targets import BoxTargets
from utils.precision import full_precision


@dataclass(frozen=True)
class ScoredPositives:
    """Predictions and targets in slots. Everything of boxes is measured in strides of the point.

    Attributes:
        values: (B, S, channels) raw outputs, at least float32; 0 where the slot is not used.
        score: (B, S) the target score, 0 where the slot is not used.
        classes: (B, S) the object's class.
        boxes: (B, S, 4) the object's x1 y1 x2 y2 in strides.
        places: (B, S, 2) the point's x and y in strides.
    """

    values: Tensor
    score: Tensor
    classes: Tensor
    boxes: Tensor
    places: Tensor

    @classmethod
    def at(cls, flat: Tensor, points: AnchorPoints, targets: BoxTargets, found: ScoredPoints) -> ScoredPositives:
        """Look up what an assignment has found among raw outputs (B, A, channels)."""
        values = full_precision(rows_at(flat, found.point))
        strides = points.strides[found.point]
        return cls(
            # Slots that are not used have finite values and gradients, times 0.
            values=values.where(found.used[..., None], 0.0),
            score=found.score.to(values.dtype),
            classes=targets.classes.gather(1, found.object),
            boxes=(rows_at(targets.boxes, found.object) / strides).to(values.dtype),
            places=(points.centres[found.point] / strides).to(values.dtype),
        )
