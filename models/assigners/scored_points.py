"""What assigners answer that give every positive point a target score, and what they have in common.

Shape suffixes: B images, G objects (padded), A anchor points, S slots for positive points (most are not used).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.assigners.slots import by_point


class LabelledBoxes(Protocol):
    """Labelled objects of a batch.

    Attributes:
        boxes: (B, G, 4) x1 y1 x2 y2 in pixels of the network input.
        classes: (B, G) int64.
        valid: (B, G) bool, False where the row is padding.
    """

    boxes: Tensor
    classes: Tensor
    valid: Tensor


@dataclass(frozen=True)
class ScoredPoints:
    """Which points are positive, in S slots per image of which only some are used; each point is in one slot at most.

    Attributes:
        point: (B, S) index of the anchor point; any index where the slot is not used.
        object: (B, S) index of the object that the point answers for.
        score: (B, S) float32 in 0..1, what the probability of the object's class should be; 0 where the slot is not
            used.
        used: (B, S) bool.
        points: A.
    """

    point: Tensor
    object: Tensor
    score: Tensor
    used: Tensor
    points: int

    def dense(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return for every point: positive (B, A) bool, matched object (B, A) or -1, target score (B, A) or 0."""
        matched = by_point(self.object, self.point, self.used, self.points, -1)
        score = by_point(self.score, self.point, self.used, self.points, 0.0)
        return matched >= 0, matched, score


def no_points(images: int, points: int, device: torch.device) -> ScoredPoints:
    """Return an answer without slots."""
    index = torch.zeros(images, 0, dtype=torch.int64, device=device)
    return ScoredPoints(index, index, index.float(), index.bool(), points)


@dataclass(frozen=True)
class Claims:
    """What every object would like to have, before objects compete.

    Attributes:
        point: (B, S) index of the anchor point, or of its column among candidates.
        object: (B, S) index of the object that claims it.
        real: (B, S) bool, False where nothing is claimed.
    """

    point: Tensor
    object: Tensor
    real: Tensor


class Favourites:
    """For every place the object that overlaps it most, found by looking at some objects after the others.

    Attributes:
        overlap: (B, P) the largest overlap, -1 while there is no object.
        object: (B, P) the object; of equal ones the first.
    """

    def __init__(self, images: int, places: int, device: torch.device) -> None:
        self.overlap = torch.full((images, places), -1.0, device=device)
        self.object = torch.zeros(images, places, dtype=torch.int64, device=device)

    def look_at(self, overlap: Tensor, valid: Tensor, first: int) -> None:
        """Compare with further objects.

        Args:
            overlap: (B, g, P) of some objects.
            valid: (B, g) bool, False where the row is padding.
            first: index of the first of these objects.
        """
        largest, which = overlap.masked_fill(~valid[..., None], -1.0).max(1)
        self.object = (which + first).where(largest > self.overlap, self.object)
        self.overlap = torch.maximum(self.overlap, largest)


def pieces(objects: int, pairs_of_one: int, most: int) -> Iterator[slice]:
    """Yield slices of objects that have at most ``most`` pairs together, or one object each."""
    step = max(most // max(pairs_of_one, 1), 1)
    for start in range(0, objects, step):
        yield slice(start, min(start + step, objects))


def inside(boxes: Tensor, places: Tensor) -> Tensor:
    """Return whether places lie in boxes and not on their edges.

    Args:
        boxes: (..., 4) x1 y1 x2 y2.
        places: (..., 2) x and y; the shapes without the last axis broadcast.
    """
    x, y = places.unbind(-1)
    left, top, right, bottom = boxes.unbind(-1)
    return (x > left) & (x < right) & (y > top) & (y < bottom)
