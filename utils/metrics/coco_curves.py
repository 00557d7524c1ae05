"""Precision and recall as COCO reports them, of all classes, overlaps and ranges of areas, on arrays in memory.

This is the protocol that boxes and keypoints share; they differ in how much a prediction and a label agree. It gives
the numbers of the published program, whose loops over images, classes, ranges and overlaps are here sorts and sums over
all predictions. What makes it fast: most predictions meet no label, and precision has to be known at right ones alone,
because between two of them it only falls.

Shape suffixes: n predictions, m labels, C classes, T overlaps, R recalls, A ranges of areas, L limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from utils.metrics.average_precision import IOU_THRESHOLDS, RECALLS
from utils.metrics.greedy_matching import Matches, match_greedily
from utils.metrics.pairs import Similarity, similar_pairs

SMALL, LARGE = 32.0**2, 96.0**2
"""Square pixels: objects up to the first are small, from the second on large, and medium between."""

ANY_AREA = (0.0, 1e10)
_TINY = np.spacing(1.0)


@dataclass(frozen=True)
class CocoRule:
    """What is asked of a data set.

    Attributes:
        areas: A ranges in square pixels, both ends inside; the first takes everything.
        limits: how many predictions of an image and class count, ascending; precision is that of the last.
    """

    areas: tuple[tuple[float, float], ...]
    limits: tuple[int, ...]


BOX_RULE = CocoRule((ANY_AREA, (0.0, SMALL), (SMALL, LARGE), (LARGE, 1e10)), (1, 10, 100))
KEYPOINT_RULE = CocoRule((ANY_AREA, (SMALL, LARGE), (LARGE, 1e10)), (20,))


class Truth(NamedTuple):
    """The labels of all images.

    Attributes:
        images: (m,) index of the image.
        classes: (m,) class index.
        areas: (m,) square pixels.
        ignored: (m,) bool, labels that count neither way.
        crowd: (m,) bool, labels that any number of predictions may have.
    """

    images: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    crowd: np.ndarray


class Found(NamedTuple):
    """The predictions for all images.

    Attributes:
        images: (n,) index of the image.
        classes: (n,) class index.
        areas: (n,) square pixels.
        scores: (n,) confidence.
    """

    images: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    scores: np.ndarray


class CocoCurves(NamedTuple):
    """What COCO's program accumulates; -1 for classes that have no label of a size.

    Attributes:
        precision: (T, R, C, A) greatest precision at each recall or a higher one, under the last limit.
        recall: (T, C, A, L) greatest recall under each limit.
    """

    precision: np.ndarray
    recall: np.ndarray


def coco_curves(truth: Truth, found: Found, similarity: Similarity, num_classes: int, rule: CocoRule) -> CocoCurves:
    """Match predictions with labels and accumulate precision and recall.

    Args:
        truth: labels of all images.
        found: predictions for all images.
        similarity: of predictions and labels, by their index.
        num_classes: C; every class index is below it.
        rule: sizes and limits that are asked for.
    """
    of_image, of_class, ranks = _orders(found, rule.limits[-1])
    counts = _inside(truth.areas, rule) & ~truth.ignored[:, None]
    groups, label_groups = (values.images.astype(np.int64) * num_classes + values.classes for values in (found, truth))
    pairs = similar_pairs(
        groups[of_image], label_groups, lambda p, g: similarity(of_image[p], g), float(IOU_THRESHOLDS[0])
    )
    matches = match_greedily(pairs, groups[of_image], counts, truth.crowd, IOU_THRESHOLDS)
    matched, uncounted = np.zeros((2, len(found.images)), np.uint64)
    matched[of_image], uncounted[of_image] = matches
    ranked = _Ranked(
        classes=found.classes[of_class],
        ranks=ranks[of_class],
        inside=_inside(found.areas[of_class], rule),
        matches=Matches(matched[of_class], uncounted[of_class]),
    )
    wanted = np.stack([np.bincount(truth.classes[own], minlength=num_classes) for own in counts.T])
    return _accumulate(ranked, wanted, rule)


class _Ranked(NamedTuple):
    """Predictions class by class, each class in order of descending confidence over all images.

    Attributes:
        classes: (n,) class index, ascending.
        ranks: (n,) place, from 0, among the predictions of the same image and class.
        inside: (n, A) bool, whether the prediction's own area lies in each range.
        matches: what each got.
    """

    classes: np.ndarray
    ranks: np.ndarray
    inside: np.ndarray
    matches: Matches


def _orders(found: Found, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predictions by image, class and confidence, and by class and confidence, and (n,) their ranks.

    Ranks are places, from 0, within image and class; what reaches the limit is left out of both orders.
    """
    images, classes = _small_integers(found.images), _small_integers(found.classes)
    # Among equal confidences the earlier image goes first, then the order in which they came.
    by_image = np.argsort(images, kind="stable") if np.any(np.diff(found.images) < 0) else np.arange(len(images))
    order = by_image[np.argsort(-found.scores[by_image], kind="stable")]
    of_class = order[np.argsort(classes[order], kind="stable")]
    of_image = of_class[np.argsort(images[of_class], kind="stable")]
    new = np.diff(found.images[of_image]).astype(bool) | np.diff(found.classes[of_image]).astype(bool)
    starts = np.concatenate(([True], new))[: len(order)].nonzero()[0]
    ranks = np.zeros(len(order), np.int64)
    lengths = np.diff(np.concatenate((starts, [len(order)])))
    ranks[of_image] = np.arange(len(order)) - np.repeat(starts, lengths)
    return of_image[ranks[of_image] < limit], of_class[ranks[of_class] < limit], ranks


def _small_integers(values: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 in 16 bits where they fit, which NumPy sorts many times as fast."""
    return values.astype(np.uint16) if len(values) and values.max() < 1 << 16 else values


def _inside(areas: np.ndarray, rule: CocoRule) -> np.ndarray:
    """Return (n, A) bool, which ranges each area lies in."""
    low, high = np.array(rule.areas).T
    areas = areas.astype(np.float64)[:, None]
    return (areas >= low) & (areas <= high)


def _accumulate(ranked: _Ranked, wanted: np.ndarray, rule: CocoRule) -> CocoCurves:
    """Accumulate the curves.

    Args:
        ranked: predictions with what they got.
        wanted: (A, C) number of labels that count.
        rule: sizes and limits.
    """
    overlaps, (ranges, classes) = len(IOU_THRESHOLDS), wanted.shape
    precision = np.full((overlaps, len(RECALLS), classes, ranges), -1.0)
    recall = np.full((overlaps, classes, ranges, len(rule.limits)), -1.0)
    known = wanted > 0
    # How many predictions with an area in each range stand before, in all classes.
    before = np.concatenate((np.zeros((1, ranges), np.int64), np.cumsum(ranked.inside, 0)))
    starts = np.searchsorted(ranked.classes, np.arange(classes))
    hits = np.flatnonzero(ranked.matches.matched)
    own = ranked.classes[hits], ranked.ranks[hits]
    for a in range(ranges):
        least = _least_right(wanted[a])
        seen = before[hits + 1, a] - before[starts[own[0]], a]
        inside = ranked.inside[hits, a]
        for t in range(overlaps):
            bit = np.uint64(1 << (a * overlaps + t))
            matched = ranked.matches.matched[hits] & bit > 0
            right = np.flatnonzero(matched & (ranked.matches.uncounted[hits] & bit == 0))
            wrong = seen - _running_count(matched & inside, own[0], classes)
            curve = _envelope(own[0][right], wrong[right], least)
            precision[t, :, known[a], a] = curve[known[a]]
            for i, limit in enumerate(rule.limits):
                found = np.bincount(own[0][right[own[1][right] < limit]], minlength=classes)
                recall[t, known[a], a, i] = found[known[a]] / wanted[a, known[a]]
    return CocoCurves(precision, recall)


def _running_count(values: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return (k,) how many of (k,) values are true up to each place within its class; ``classes`` is ascending."""
    total = np.concatenate(([0], np.cumsum(values)))
    return total[1:] - total[np.searchsorted(classes, np.arange(num_classes))][classes]


def _least_right(wanted: np.ndarray) -> np.ndarray:
    """Return (C, R) how many right predictions, 1 or more, reach each recall when (C,) labels are to be found."""
    labels = np.maximum(wanted, 1)[:, None]
    least = np.maximum(np.ceil(RECALLS * labels), 1)
    # Rounding must fall as it does where numbers of right predictions are divided by those of labels.
    least -= (least > 1) & ((least - 1) / labels >= RECALLS)
    least += least / labels < RECALLS
    return least.astype(np.int64)


def _envelope(classes: np.ndarray, wrong: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return (C, R) the greatest precision from each recall on, 0 where it is not reached.

    Args:
        classes: (k,) class of every right prediction, ascending, and within a class by descending confidence.
        wrong: (k,) wrong ones of the class that are more confident.
        least: (C, R) right predictions that reach each recall.
    """
    counts = np.bincount(classes, minlength=len(least))
    first = np.cumsum(counts) - counts
    number = np.arange(len(classes)) - first[classes] + 1
    # A zero behind every class stands for the recalls that it does not reach.
    places = np.arange(len(least))
    values = np.zeros(len(classes) + len(least))
    values[np.arange(len(classes)) + classes] = number / (wrong + number + _TINY)
    from_recall = (first + places)[:, None] + np.minimum(least - 1, counts[:, None])
    greatest = np.maximum.reduceat(values, from_recall.ravel()).reshape(least.shape) if values.size else least * 0.0
    return np.maximum.accumulate(greatest[:, ::-1], 1)[:, ::-1]
