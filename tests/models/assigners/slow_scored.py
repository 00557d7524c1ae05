"""Task-aligned assignment and ATSS by their written formulas: one image, one pair, one number at a time, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Box = Sequence[float]
Found = dict[int, tuple[int, float]]
"""Positive point -> its object and its target score."""


class Doubt(Exception):
    """Two numbers are so near each other that float32 may decide otherwise."""


@dataclass
class SlowImage:
    """What is asked: predictions of all points of an image, and its objects.

    Attributes:
        boxes: per point the predicted x1 y1 x2 y2.
        logits: per point, per class.
        centres: per point x and y.
        strides: per point.
        level_sizes: points of every level.
        objects: per object x1 y1 x2 y2.
        labels: per object its class.
    """

    boxes: Sequence[Box]
    logits: Sequence[Sequence[float]]
    centres: Sequence[Sequence[float]]
    strides: Sequence[float]
    level_sizes: Sequence[int]
    objects: Sequence[Box]
    labels: Sequence[int]


def task_aligned_slowly(image: SlowImage, topk: int, alpha: float, beta: float, eps: float, complete: bool) -> Found:
    """Assign with CIoU (``complete``) or plain IoU.

    Raises:
        Doubt: rounding may decide.
    """
    measure = complete_iou if complete else plain_iou
    count, points = len(image.objects), range(len(image.boxes))
    overlaps = [[max(measure(image.boxes[a], box), 0.0) for a in points] for box in image.objects]

    def worth(g: int, a: int, change: float = 0.0) -> float:
        score = 1 / (1 + math.exp(-image.logits[a][image.labels[g]]))
        return score**alpha * max(overlaps[g][a] + change, 0.0) ** beta

    claims: dict[int, list[int]] = {}
    for g in range(count):
        own = [a for a in points if is_inside(image.centres[a], image.objects[g])]
        for a in own:
            near_zero = complete and abs(complete_iou(image.boxes[a], image.objects[g])) < 1e-5
            if near_zero or 0 < overlaps[g][a] < 1e-5:
                raise Doubt
        order = sorted((a for a in own if worth(g, a) > 0), key=lambda a, g=g: -worth(g, a))
        if len(order) > topk:
            last, next_one = order[topk - 1], order[topk]
            equal = worth(g, last) == worth(g, next_one)
            if not equal and worth(g, last, -2e-6) < 1.00001 * worth(g, next_one, 2e-6):
                raise Doubt
        for a in order[:topk]:
            claims.setdefault(a, []).append(g)
    owners = settle(claims, lambda g, a: overlaps[g][a], count)
    found = {}
    for a, g in owners.items():
        rivals = [b for b, owner in owners.items() if owner == g]
        most = max(worth(g, b) for b in rivals)
        found[a] = (g, worth(g, a) * max(overlaps[g][b] for b in rivals) / (most + eps))
    return found


def atss_slowly(image: SlowImage, nearest: int = 9, side: float = 5.0) -> Found:
    """Assign by the labels alone, and score by the predictions' overlap.

    Raises:
        Doubt: rounding may decide.
    """
    count = len(image.objects)
    squares = [
        (x - side * s / 2, y - side * s / 2, x + side * s / 2, y + side * s / 2)
        for (x, y), s in zip(image.centres, image.strides, strict=True)
    ]
    claims: dict[int, list[int]] = {}
    for g, box in enumerate(image.objects):
        candidates = nearest_slowly(image, box, nearest)
        ious = [plain_iou(squares[a], box) for a in candidates]
        mean = sum(ious) / len(ious)
        variance = sum((iou - mean) ** 2 for iou in ious) / (len(ious) - 1) if len(ious) > 1 else 0.0
        for a, iou in zip(candidates, ious, strict=True):
            inside = is_inside(image.centres[a], box)
            if inside and len(ious) > 1 and abs(iou - mean - math.sqrt(variance)) < 1e-5:
                raise Doubt
            if inside and iou > mean + math.sqrt(variance):
                claims.setdefault(a, []).append(g)
    owners = settle(claims, lambda g, a: plain_iou(squares[a], image.objects[g]), count)
    return {a: (g, plain_iou(image.boxes[a], image.objects[g])) for a, g in owners.items()}


def nearest_slowly(image: SlowImage, box: Box, nearest: int = 9) -> list[int]:
    """Return the points of every level that are nearest to a box's centre, level by level, the nearest first.

    Raises:
        Doubt: rounding may decide.
    """
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    candidates: list[int] = []
    first = 0
    for size in image.level_sizes:

        def distance(a: int) -> float:
            return math.dist(image.centres[a], centre) / image.strides[a]

        order = sorted(range(first, first + size), key=distance)
        for low, high in pairwise(order[: nearest + 1]):
            if 0 < distance(high) - distance(low) < 1e-5:
                raise Doubt
        candidates += order[:nearest]
        first += size
    return candidates


def settle(claims: dict[int, list[int]], overlap, count: int) -> dict[int, int]:
    """Give every claimed point to one object: of several claims to the object that it overlaps most of all.

    Raises:
        Doubt: rounding may decide.
    """
    owners = {}
    for a, claimers in claims.items():
        owners[a] = claimers[0]
        if len(claimers) > 1:
            order = sorted(range(count), key=lambda g, a=a: -overlap(g, a))
            owners[a] = order[0]
            if 0 < overlap(order[0], a) - overlap(order[1], a) < 1e-5:
                raise Doubt
    return owners


def is_inside(place: Sequence[float], box: Box) -> bool:
    """Return whether a place lies in a box and not on its edge."""
    gaps = (place[0] - box[0], box[2] - place[0], place[1] - box[1], box[3] - place[1])
    return min(gaps) > 1e-9


def plain_iou(first: Box, second: Box) -> float:
    """Return the IoU of two boxes; sides below 0 count 0."""
    shared = 1.0
    for axis in (0, 1):
        shared *= max(min(first[axis + 2], second[axis + 2]) - max(first[axis], second[axis]), 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def complete_iou(first: Box, second: Box) -> float:
    """Return the CIoU of two boxes."""
    hull = [max(first[i + 2], second[i + 2]) - min(first[i], second[i]) for i in (0, 1)]
    offset = [(first[i] + first[i + 2] - second[i] - second[i + 2]) / 2 for i in (0, 1)]
    distance = (offset[0] ** 2 + offset[1] ** 2) / (hull[0] ** 2 + hull[1] ** 2)
    angles = [math.atan2(box[2] - box[0], box[3] - box[1]) for box in (first, second)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    iou = plain_iou(first, second)
    weight = aspect / (aspect - iou + 1) if aspect > 0 else 0.0
    return iou - distance - weight * aspect
