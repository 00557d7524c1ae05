"""Whether the objects that a file answers with are a right answer for what the model says of the same picture.

Where two boxes overlap by nearly the threshold, or two confidences are nearly equal, rounding decides what stays, and
so it decides for all weaker boxes too. The objects of two right programs may therefore differ. What makes an answer
right can be held against the model's candidates without such chances: every object is a candidate, none covers another
one of its class, and every candidate that is missing is covered by a stronger object, or there is no place left for it.
There is one such answer only, but for ties within the tolerance.

Shape suffixes: B images, N candidates, C classes, M places for objects, m objects of a picture, p pairs of candidate
and class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from models.object_rules import ObjectRule
from utils.export.difference import Difference, magnitude_of

Outputs = Mapping[str, np.ndarray]
_NEAR = 0.05
"""Candidates whose confidence is further below the threshold cannot be objects by rounding."""
AT_ONCE = 1_000_000
"""Pairs of boxes that are compared together; thirty thousand objects have nine hundred times as many."""
_EDGE = 4
"""The overlap of two boxes of side s changes by about so much over s for every pixel that edges move."""


def compare_objects(candidates: Outputs, objects: Outputs, rule: ObjectRule, image: str) -> dict[str, Difference]:
    """Compare the objects of a head with the model's candidates.

    Args:
        candidates: by field, such as ``boxes`` (B, N, 4), of the model.
        objects: by field, of the file.
        rule: what shall be kept.
        image: what the network saw.

    Returns:
        By field. That of ``count`` is how far confidences or boxes, relative to the largest, would have to move for the
        choice to be right; infinite where the places behind the count are not empty.
    """
    shapes = {field: values.shape for field, values in objects.items()}
    if any(not np.isfinite(values).all() for values in (*candidates.values(), *objects.values())):
        return {field: Difference(shape, math.inf, math.inf, image) for field, shape in shapes.items()}
    confidences = candidates["scores"].astype(np.float64)
    if "objectness" in candidates:
        confidences = confidences * candidates["objectness"][..., None]
    worst = dict.fromkeys(objects, 0.0)
    for i, count in enumerate(objects["count"].tolist()):
        of_picture = {field: values[i] for field, values in objects.items() if field != "count"}
        if not _is_filled(of_picture, count, rule):
            worst["count"] = math.inf
            continue
        found = {field: values[:count] for field, values in of_picture.items()}
        given = {field: values[i] for field, values in candidates.items()}
        if (found["classes"] < 0).any() or (found["classes"] >= confidences.shape[-1]).any():
            worst["classes"] = math.inf
            continue
        for field, value in _of_picture(given, confidences[i], found, rule):
            worst[field] = max(worst[field], value)
    scales = {field: magnitude_of(candidates[field]) for field in ("boxes", "keypoints") if field in worst}
    scales["scores"] = magnitude_of(confidences)
    return {
        field: Difference(shapes[field], value, value / scales.get(field, 1.0), image) for field, value in worst.items()
    }


def _is_filled(objects: Outputs, count: int, rule: ObjectRule) -> bool:
    """Whether the answer for a picture has its objects in front and nothing behind them."""
    if not 0 <= count <= rule.most or any(len(values) != rule.most for values in objects.values()):
        return False
    return not any(values[count:].any() for values in objects.values())


def _of_picture(
    given: Outputs, confidences: np.ndarray, found: Outputs, rule: ObjectRule
) -> Iterator[tuple[str, float]]:
    """Yield differences of one picture by field.

    Args:
        given: the candidates, (N, ...) each.
        confidences: (N, C) float64.
        found: the objects, (m, ...) each.
        rule: what shall be kept.
    """
    scale = magnitude_of(given["boxes"])
    rows = _nearest(given["boxes"] / scale, confidences, found, scale)
    own = confidences[rows, found["classes"]]
    yield "boxes", _largest(np.abs(given["boxes"][rows].astype(np.float64) - found["boxes"]))
    yield "scores", _largest(np.abs(own - found["scores"]))
    yield "scores", _largest(rule.confidence - own)
    yield "scores", _largest(np.diff(found["scores"].astype(np.float64)))
    if not rule.every_class:
        yield "classes", _largest(confidences[rows].max(1) - own)
    if "keypoints" in found:
        yield "keypoints", _largest(np.abs(given["keypoints"][rows].astype(np.float64) - found["keypoints"]))
    surest = magnitude_of(confidences)
    relative = replace(rule, confidence=rule.confidence / surest)
    yield "count", _wrong_choice(given["boxes"] / scale, confidences / surest, rows, found["classes"], relative)


def _nearest(boxes: np.ndarray, confidences: np.ndarray, found: Outputs, scale: float) -> np.ndarray:
    """Return the (m,) candidate that each object is, by place and confidence in its class."""
    possible = np.flatnonzero(confidences.max(1) > found["scores"].min(initial=1) - _NEAR)
    if len(possible) == 0:
        possible = np.arange(len(boxes))
    rows = []
    for box, score, own_class in zip(found["boxes"] / scale, found["scores"], found["classes"], strict=True):
        apart = np.abs(boxes[possible] - box).max(1)
        rows.append(possible[np.maximum(apart, np.abs(confidences[possible, own_class] - score)).argmin()])
    return np.array(rows, np.int64)


def _wrong_choice(
    boxes: np.ndarray, confidences: np.ndarray, rows: np.ndarray, classes: np.ndarray, rule: ObjectRule
) -> float:
    """Return how far confidences or boxes would have to move for the chosen pairs to be the right ones.

    Args:
        boxes: (N, 4), relative to the largest value.
        confidences: (N, C), relative to the largest, as that of the rule is.
        rows: (m,) candidates that were chosen.
        classes: (m,) and their classes.
        rule: what shall be kept.
    """
    pair_rows, pair_classes = _pairs(confidences, rule)
    scores, chosen_scores = confidences[pair_rows, pair_classes], confidences[rows, classes]
    wrong = 0.0
    if rule.overlap is not None:
        for part in _parts(len(rows), len(rows)):
            among = _beyond(boxes[rows[part]], boxes[rows], rule.overlap)
            twice = np.triu((among > 0) & (classes[part, None] == classes), 1 + part.start)
            wrong = max(wrong, _largest(np.where(twice, among, 0)))
    elif len(set(zip(rows.tolist(), classes.tolist(), strict=True))) < len(rows):
        return math.inf
    chosen = np.zeros(confidences.shape, bool)
    chosen[rows, classes] = True
    missing = ~chosen[pair_rows, pair_classes]
    pair_rows, pair_classes, scores = pair_rows[missing], pair_classes[missing], scores[missing]
    excuse = scores - rule.confidence
    if len(rows) == rule.most:
        excuse = np.minimum(excuse, np.maximum(scores - chosen_scores.min(), 0))
    if rule.overlap is not None and len(rows):
        for part in _parts(len(pair_rows), len(rows)):
            too_little = np.maximum(-_beyond(boxes[pair_rows[part]], boxes[rows], rule.overlap), 0)
            too_weak = np.maximum(scores[part, None] - chosen_scores, 0)
            covered = np.where(pair_classes[part, None] == classes, np.maximum(too_little, too_weak), math.inf)
            excuse[part] = np.minimum(excuse[part], covered.min(1))
    return max(wrong, _largest(excuse))


def _parts(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of rows whose pairs with all columns are in memory together."""
    at_once = max(1, AT_ONCE // max(columns, 1))
    for first in range(0, rows, at_once):
        yield slice(first, first + at_once)


def _pairs(confidences: np.ndarray, rule: ObjectRule) -> tuple[np.ndarray, np.ndarray]:
    """Return row and class of the pairs above the threshold, (p,) each."""
    if rule.every_class:
        pair_rows, pair_classes = np.nonzero(confidences > rule.confidence)
        return pair_rows, pair_classes
    best = confidences.argmax(1)
    pair_rows = np.flatnonzero(confidences[np.arange(len(best)), best] > rule.confidence)
    return pair_rows, best[pair_rows]


def _beyond(first: np.ndarray, second: np.ndarray, overlap: float) -> np.ndarray:
    """Return how far edges of (a, 4) and (b, 4) boxes must move to overlap by as much as the threshold, (a, b).

    Above 0 where they overlap by more, below where by less.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    low, high = np.maximum(first[:, None, :2], second[:, :2]), np.minimum(first[:, None, 2:], second[:, 2:])
    common = (high - low).clip(0).prod(-1)
    areas, others = ((each[:, 2:] - each[:, :2]).prod(-1) for each in (first, second))
    union = np.maximum(areas[:, None] + others - common, np.finfo(np.float64).tiny)
    sides, other_sides = ((each[:, 2:] - each[:, :2]).min(-1).clip(0) for each in (first, second))
    return (common / union - overlap) * np.minimum(sides[:, None], other_sides) / _EDGE


def _largest(values: np.ndarray) -> float:
    return max(float(values.max(initial=0)), 0.0)


def compare_class_maps(logits: np.ndarray, found: np.ndarray, image: str) -> Difference:
    """Compare the classes of pixels with the model's logits.

    Args:
        logits: (B, C, H, W) of the model.
        found: (B, H, W) uint8 of the file.
        image: what the network saw.

    Returns:
        By how much the logit of a told class is below the largest of its pixel.
    """
    if found.shape != (logits.shape[0], *logits.shape[2:]) or found.max(initial=0) >= logits.shape[1]:
        return Difference(found.shape, math.inf, math.inf, image)
    told = np.take_along_axis(logits, found[:, None].astype(np.int64), 1)[:, 0]
    absolute = float((logits.max(1).astype(np.float64) - told).max(initial=0))
    return Difference(found.shape, absolute, absolute / magnitude_of(logits), image)
