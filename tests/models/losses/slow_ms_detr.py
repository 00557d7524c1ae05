"""The terms of MS-DETR's loss by their formulas, one query after the other, in plain Python and double precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from tests.models.assigners.slow_one_to_many import assign_slowly, merge_slowly

ALPHA, GAMMA = 0.25, 2.0
Box = Sequence[float]
Pairs = list[tuple[int, int]]


class Picture(NamedTuple):
    """What a layer says of a picture, and what there is.

    Attributes:
        logits: of every query.
        boxes: of every query, centre x, centre y, width, height.
        objects: boxes of the objects in the same form.
        classes: of the objects.
    """

    logits: list[list[float]]
    boxes: list[Box]
    objects: list[Box]
    classes: list[int]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def overlaps(one: Box, two: Box) -> tuple[float, float]:
    """Return IoU and generalised IoU."""
    (a, b, c, d), (e, f, g, h) = ((x - w / 2, y - s / 2, x + w / 2, y + s / 2) for x, y, w, s in (one, two))
    shared = max(min(c, g) - max(a, e), 0) * max(min(d, h) - max(b, f), 0)
    union = (c - a) * (d - b) + (g - e) * (h - f) - shared
    hull = (max(c, g) - min(a, e)) * (max(d, h) - min(b, f))
    return shared / union, shared / union - (hull - union) / hull


def distance(one: Box, two: Box) -> float:
    return sum(abs(a - b) for a, b in zip(one, two, strict=True))


def focal(logit: float, there: bool) -> float:
    p = sigmoid(logit)
    if there:
        return -ALPHA * (1 - p) ** GAMMA * math.log(p)
    return -(1 - ALPHA) * p**GAMMA * math.log(1 - p)


def hungarian(picture: Picture, class_cost: float = 2.0) -> Pairs:
    """Return the pairs of the least cost; boxes count 5 and generalised IoU 2."""
    cost = np.zeros((len(picture.boxes), len(picture.objects)))
    for q, box in enumerate(picture.boxes):
        for t, (other, label) in enumerate(zip(picture.objects, picture.classes, strict=True)):
            p = sigmoid(picture.logits[q][label])
            there = ALPHA * (1 - p) ** GAMMA * -math.log(p + 1e-8)
            absent = (1 - ALPHA) * p**GAMMA * -math.log(1 - p + 1e-8)
            cost[q, t] = class_cost * (there - absent) + 5 * distance(box, other) - 2 * overlaps(box, other)[1]
    return [(int(q), int(t)) for q, t in zip(*linear_sum_assignment(cost), strict=True)]


def one_to_many(picture: Picture, merged_with: Pairs | None = None) -> tuple[Pairs, dict[int, int]]:
    """Return pairs and owners under the published rule."""
    scores = [
        [
            0.7 * overlaps(box, other)[0] + 0.3 * sigmoid(logits[label])
            for other, label in zip(picture.objects, picture.classes, strict=True)
        ]
        for box, logits in zip(picture.boxes, picture.logits, strict=True)
    ]
    pairs, owner = assign_slowly(scores, 6, 0.4)
    if merged_with is not None:
        owner = merge_slowly(owner, merged_with)
        pairs = list(owner.items())
    return pairs, owner


def terms(picture: Picture, pairs: Pairs, owner: dict[int, int]) -> list[float]:
    """Return class, L1 and GIoU of a picture, summed."""
    cls = sum(
        focal(logit, q in owner and picture.classes[owner[q]] == label)
        for q, logits in enumerate(picture.logits)
        for label, logit in enumerate(logits)
    )
    box = sum(distance(picture.boxes[q], picture.objects[t]) for q, t in pairs)
    giou = sum(1 - overlaps(picture.boxes[q], picture.objects[t])[1] for q, t in pairs)
    return [cls, box, giou]
