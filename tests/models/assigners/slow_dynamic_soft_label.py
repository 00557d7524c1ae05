"""Dynamic soft labels by their written formula: one image, one pair, one number at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = Sequence[float]
UNREACHABLE = 1e8


@dataclass
class SlowImage:
    """What is asked: predictions of all points of an image, and its objects.

    Attributes:
        boxes: per point x1, y1, x2, y2.
        classes: per point a logit for every class.
        corners: per point x and y.
        strides: per point.
        objects: per object x1, y1, x2, y2.
        labels: per object its class.
    """

    boxes: Sequence[Box]
    classes: Sequence[Sequence[float]]
    corners: Sequence[Sequence[float]]
    strides: Sequence[float]
    objects: Sequence[Box]
    labels: Sequence[int]


class Doubt(Exception):
    """Two costs, or a sum and a whole number, are so near each other that float32 may decide otherwise."""


def assign_slowly(image: SlowImage) -> dict[int, tuple[int, float]]:
    """Return the positive points of an image with their object and their soft label.

    Raises:
        Doubt: rounding may decide.
    """
    count = len(image.objects)
    candidates = [a for a, place in enumerate(image.corners) if any(holds(box, place) for box in image.objects)]
    costs = [{a: pair_cost(image, g, a) for a in candidates} for g in range(count)]
    takers: dict[int, list[int]] = {}
    for g in range(count):
        ious = sorted((overlap(image.objects[g], box) for box in image.boxes), reverse=True)
        order = sorted((a for a in candidates if costs[g][a] < UNREACHABLE), key=lambda a: costs[g][a])
        k = how_many(ious)
        if k < len(order):
            far_enough(costs[g][order[k - 1]], costs[g][order[k]])
        for a in order[:k]:
            takers.setdefault(a, []).append(g)
    found = {}
    for a, owners in takers.items():
        owner = owners[0]
        if len(owners) > 1:
            order = sorted(range(count), key=lambda g: costs[g][a])
            owner = order[0]
            far_enough(costs[order[0]][a], costs[order[1]][a])
        found[a] = (owner, overlap(image.objects[owner], image.boxes[a]))
    return found


def how_many(ious: Sequence[float]) -> int:
    """Return how many points an object takes, from its overlaps in falling order.

    Raises:
        Doubt: their sum is nearly a whole number.
    """
    summed = sum(ious[:13])
    if 0 < abs(summed - round(summed)) < 1e-5 and round(summed) > 1:
        raise Doubt
    return max(int(summed), 1)


def far_enough(low: float, high: float) -> None:
    """Let costs pass that are equal (then the first one wins) or have more than float32's rounding between them.

    Raises:
        Doubt: they are nearer.
    """
    if 0 < high - low < 2e-5 + 2e-5 * high:
        raise Doubt


def holds(box: Box, place: Sequence[float]) -> bool:
    """Return whether a place lies inside a box and not on its edge."""
    return box[0] < place[0] < box[2] and box[1] < place[1] < box[3]


def overlap(first: Box, second: Box) -> float:
    """Return the IoU of two boxes x1, y1, x2, y2; what is turned inside out shares nothing."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / max(sum(areas) - shared, 1e-6)


def pair_cost(image: SlowImage, g: int, a: int) -> float:
    """Return cost of the class + cost of the overlap + soft centre prior.

    Raises:
        Doubt: it is nearly the limit.
    """
    box, (x, y) = image.objects[g], image.corners[a]
    iou, logit = overlap(box, image.boxes[a]), image.classes[a][image.labels[g]]
    probability = 1 / (1 + math.exp(-logit))
    entropy = -iou * math.log(probability) - (1 - iou) * math.log(1 - probability)
    distance = math.hypot(x - (box[0] + box[2]) / 2, y - (box[1] + box[3]) / 2) / image.strides[a]
    cost = entropy * abs(iou - probability) ** 2 - 3 * math.log(iou + 1e-7) + 10 ** (distance - 3)
    if abs(cost - UNREACHABLE) < 1e5:
        raise Doubt
    return cost
