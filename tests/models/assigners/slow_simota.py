"""SimOTA by its written formula: one image, one pair, one number at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from models.assigners.simota import SimOTARule

Box = Sequence[float]


@dataclass
class SlowImage:
    """What is asked: predictions of all points of an image, and its objects.

    Attributes:
        boxes: per point centre x, centre y, width, height.
        objectness: per point a logit.
        classes: per point a logit for every class.
        centres: per point x and y.
        strides: per point.
        objects: per object centre x, centre y, width, height.
        labels: per object its class.
        further: per object, per point a further cost.
    """

    boxes: Sequence[Box]
    objectness: Sequence[float]
    classes: Sequence[Sequence[float]]
    centres: Sequence[Sequence[float]]
    strides: Sequence[float]
    objects: Sequence[Box]
    labels: Sequence[int]
    further: Sequence[Sequence[float]]


class Doubt(Exception):
    """Two costs, or a sum and a whole number, are so near each other that float32 may decide otherwise."""


def assign_slowly(image: SlowImage, rule: SimOTARule) -> dict[int, tuple[int, float]]:
    """Return the positive points of an image with their object and their overlap with it.

    Raises:
        Doubt: rounding may decide.
    """
    count = len(image.objects)
    regions = [[region(image, g, a, rule) for a in range(len(image.boxes))] for g in range(count)]
    candidates = [a for a in range(len(image.boxes)) if any(regions[g][a][0] for g in range(count))]
    if not candidates:
        return {}
    ious = [[overlap(image.objects[g], image.boxes[a]) for a in candidates] for g in range(count)]
    costs = [
        [pair_cost(image, g, a, ious[g][i], regions[g][a][1], rule) for i, a in enumerate(candidates)]
        for g in range(count)
    ]
    takers: dict[int, list[int]] = {}
    for g in range(count):
        summed = sum(sorted(ious[g], reverse=True)[:10])
        if abs(summed - round(summed)) < 1e-4 and round(summed) > 1:
            raise Doubt
        k = max(int(summed), 1)
        order = sorted(range(len(candidates)), key=lambda i: costs[g][i])
        if k < len(order):
            far_enough(costs[g][order[k - 1]], costs[g][order[k]])
        for i in order[:k]:
            takers.setdefault(i, []).append(g)
    found = {}
    for i, owners in takers.items():
        owner = owners[0]
        if len(owners) > 1:
            order = sorted(range(count), key=lambda g: costs[g][i])
            owner = order[0]
            far_enough(costs[order[0]][i], costs[order[1]][i])
        found[candidates[i]] = (owner, ious[owner][i])
    return found


def far_enough(low: float, high: float) -> None:
    """Let costs pass that are equal (then the first one wins) or have more than float32's rounding between them.

    Raises:
        Doubt: they are nearer.
    """
    if 0 < high - low < 2e-5 + 2e-7 * high:
        raise Doubt


def region(image: SlowImage, g: int, a: int, rule: SimOTARule) -> tuple[bool, bool]:
    """Return whether a point is a candidate because of an object, and whether it lies in the object's own region."""
    (x, y), (cx, cy, w, h) = image.centres[a], image.objects[g]
    reach = rule.region.radius * image.strides[a]
    gaps = [reach - abs(x - cx), reach - abs(y - cy)]
    near = all(gap > 0 for gap in gaps)
    if rule.region.boxes_count:
        gaps += [x - (cx - w / 2), cx + w / 2 - x, y - (cy - h / 2), cy + h / 2 - y]
    if any(0 < abs(gap) < 1e-4 for gap in gaps):
        raise Doubt
    if not rule.region.boxes_count:
        return near, near
    inside = all(gap > 0 for gap in gaps[2:])
    return near or inside, near and inside


def overlap(first: Box, second: Box) -> float:
    """Return the IoU of two boxes, centre x, centre y, width, height."""
    sides = []
    for axis in (0, 1):
        high = min(first[axis] + first[axis + 2] / 2, second[axis] + second[axis + 2] / 2)
        low = max(first[axis] - first[axis + 2] / 2, second[axis] - second[axis + 2] / 2)
        sides.append(max(high - low, 0.0))
    shared = sides[0] * sides[1]
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def pair_cost(image: SlowImage, g: int, a: int, iou: float, own: bool, rule: SimOTARule) -> float:
    """Return class cost + 3 IoU cost + further cost + penalty."""
    total = image.further[g][a]
    for number, logit in enumerate(image.classes[a]):
        score = math.sqrt(sigmoid(logit) * sigmoid(image.objectness[a]))
        total -= math.log(score if number == image.labels[g] else 1 - score)
    return total - 3.0 * math.log(iou + rule.epsilon) + (0.0 if own else rule.penalty)


def sigmoid(x: float) -> float:
    """Return the logistic function."""
    return 1 / (1 + math.exp(-x))
