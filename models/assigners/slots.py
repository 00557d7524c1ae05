"""Positive points in slots: a fixed number per image, of which only some are used, so that sizes follow from shapes.

Shape suffixes: B images, A anchor points, S slots.
"""

from __future__ import annotations

import torch
from torch import Tensor


def contested_and_first(point: Tensor, claimed: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Return what a claim is up against.

    Args:
        point: (B, S) index of the point that the slot is about.
        claimed: (B, S) bool, False where the slot claims nothing.
        points: A.

    Returns:
        (B, S) bool twice: several slots claim this slot's point; this slot claims it and is the first that does.
    """
    images, slots = point.shape
    slot = torch.arange(slots, device=point.device).expand_as(point)
    claims = torch.zeros(images, points, dtype=torch.int64, device=point.device).scatter_add(1, point, claimed.long())
    first = torch.full((images, points), slots, device=point.device)
    first = first.scatter_reduce(1, point, slot.where(claimed, slots), "amin")
    return claims.gather(1, point) > 1, claimed & (first.gather(1, point) == slot)


def by_point(values: Tensor, point: Tensor, used: Tensor, points: int, empty: float) -> Tensor:
    """Return (B, A), the values (B, S) of the used slots at their points (B, S), and ``empty`` elsewhere."""
    # Slots that are not used write into a column of their own, which is cut off.
    place = point.where(used, points)
    return values.new_full((len(values), points + 1), empty).scatter(1, place, values)[:, :-1]
