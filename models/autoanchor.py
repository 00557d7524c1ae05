"""Do the anchors fit the data? And if not, better ones: k-means on box shapes, then random evolution (YOLOv5)."""

from __future__ import annotations

import logging
import warnings

import numpy as np
from scipy.cluster.vq import kmeans

LOGGER = logging.getLogger("yolograph")
ENOUGH_RECALL = 0.98
SMALLEST_SIDE = 2.0
GENERATIONS = 1000
MUTATION_PROBABILITY = 0.9
MUTATION_SIGMA = 0.1


def anchor_fitness(wh: np.ndarray, anchors: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Measure how well anchors fit box shapes.

    Args:
        wh: (n, 2) box widths and heights in pixels.
        anchors: (k, 2) in pixels.
        threshold: largest ratio of sides that counts as a match (recipe key ``anchor_t``).

    Returns:
        Best possible recall (share of boxes that match an anchor, 0..1), mean number of anchors above the threshold
        per box, and the fitness (mean of the best ratio where it matches, 0..1).
    """
    ratio = wh[:, None] / anchors[None]
    closeness = np.minimum(ratio, 1 / ratio).min(2)
    best = closeness.max(1)
    return (
        float((best > 1 / threshold).mean()),
        float((closeness > 1 / threshold).sum(1).mean()),
        float((best * (best > 1 / threshold)).mean()),
    )


def fit_anchors(wh: np.ndarray, count: int, threshold: float, rng: np.random.Generator) -> np.ndarray:
    """Find anchors for box shapes.

    Args:
        wh: (n, 2) box widths and heights in pixels at training size.
        count: how many anchors.
        threshold: as in ``anchor_fitness``.
        rng: source of the start points and mutations.

    Returns:
        (count, 2) widths and heights in pixels, smallest area first.
    """
    usable = wh[(wh >= SMALLEST_SIDE).any(1)].astype(np.float64)
    anchors = np.exp(rng.uniform(np.log(4.0), np.log(max(float(wh.max(initial=8.0)), 8.0)), (count, 2)))
    if len(usable) > count:
        spread = np.maximum(usable.std(0), 1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kmeans(usable / spread, count, iter=30, rng=rng)[0] * spread
        if len(found) == count:
            anchors = found
    if len(usable) == 0:
        return anchors[np.argsort(anchors.prod(1))]
    best = anchor_fitness(usable, anchors, threshold)[2]
    for _ in range(GENERATIONS):
        mask = rng.random((count, 2)) < MUTATION_PROBABILITY
        change = np.clip(mask * rng.random() * rng.standard_normal((count, 2)) * MUTATION_SIGMA + 1, 0.3, 3.0)
        candidate = np.maximum(anchors * change, 2.0)
        fitness = anchor_fitness(usable, candidate, threshold)[2]
        if fitness > best:
            best, anchors = fitness, candidate
    return anchors[np.argsort(anchors.prod(1))]


def adapt_anchors(
    anchors: np.ndarray, wh: np.ndarray, threshold: float, rng: np.random.Generator
) -> list[list[float]] | None:
    """Return better anchors for the data, or None when the model's own serve.

    Args:
        anchors: (L, A, 2) the model's anchors in pixels, the level with the smallest stride first.
        wh: (n, 2) box widths and heights in pixels at training size.
        threshold: recipe key ``anchor_t``.
        rng: source of randomness.

    Returns:
        Per level a flat list of widths and heights in pixels, as a model YAML has them.
    """
    if len(wh) == 0:
        LOGGER.warning("autoanchor: the training set has no boxes, the model's anchors stay")
        return None
    own = np.maximum(anchors.reshape(-1, 2), 1e-3)
    jittered = wh * rng.uniform(0.9, 1.1, (len(wh), 1))
    recall, matching, _ = anchor_fitness(jittered, own, threshold)
    LOGGER.info("anchors: %.2f per box match, best possible recall %.4f", matching, recall)
    if recall >= ENOUGH_RECALL:
        return None
    fitted = fit_anchors(wh, len(own), threshold, rng)
    better = anchor_fitness(wh, fitted, threshold)[0]
    if better <= recall:
        LOGGER.info("anchors: fitted ones reach %.4f, which is not better, so the model's stay", better)
        return None
    LOGGER.info("anchors: replaced by fitted ones, best possible recall %.4f", better)
    return [[round(float(value), 2) for value in level] for level in fitted.reshape(len(anchors), -1)]
