"""Figures of a split that are no faults: how many, of which class, how large."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.checks.class_balance import class_counts
from data.checks.split_facts import SplitFacts

_PERCENTILES = {"least": 0, "p5": 5, "median": 50, "p95": 95, "most": 100}
SMALL, LARGE = 32, 96
"""Sides in pixels of the squares between small, medium and large objects, as COCO has them."""


def split_statistics(facts: SplitFacts, img_size: int) -> dict[str, Any]:
    """Return plain values for JSON.

    Args:
        facts: of the split.
        img_size: length of the longer side of pictures in training; sizes of boxes are given for it.
    """
    usable = facts.usable
    figures: dict[str, Any] = {"images": len(facts.images), "usable": int(usable.sum())}
    if facts.pixels is None:
        figures["objects"] = len(facts.classes)
        figures["background"] = int((np.diff(facts.offsets)[usable] == 0).sum())
        if facts.crowd.any():
            figures["crowds"] = int(facts.crowd.sum())
    sizes = facts.sizes[(facts.sizes > 0).all(1)]
    if len(sizes):
        figures["width"], figures["height"] = _spread(sizes[:, 1]), _spread(sizes[:, 0])
        figures["aspect"] = _spread(sizes[:, 1] / sizes[:, 0])
        figures["sizes"] = len(np.unique(sizes, axis=0))
    figures["classes"] = _classes(facts)
    if len(facts.classes):
        figures["boxes"] = _boxes(facts.box_pixels(img_size))
        figures["objects_per_image"] = _spread(np.diff(facts.offsets)[usable])
    return figures


def _classes(facts: SplitFacts) -> dict[str, dict[str, int | float]]:
    """Return per class name how many objects and images, or which share of the pixels that count."""
    counts = class_counts(facts)
    if facts.pixels is not None:
        images = (facts.pixels[:, :-1] > 0).sum(0)
        shares = counts / max(int(counts.sum()), 1)
        return {
            name: {"share": round(float(share), 6), "images": int(number)}
            for name, share, number in zip(facts.data.names, shares, images, strict=True)
        }
    pairs = np.unique(np.stack([facts.owners, facts.classes], 1), axis=0)
    images = np.bincount(pairs[:, 1], minlength=len(counts))
    return {
        name: {"objects": int(count), "images": int(number)}
        for name, count, number in zip(facts.data.names, counts, images, strict=True)
    }


def _boxes(wh: np.ndarray) -> dict[str, Any]:
    side = np.sqrt(wh.prod(1))
    return {
        "width": _spread(wh[:, 0]),
        "height": _spread(wh[:, 1]),
        "small": int((side < SMALL).sum()),
        "medium": int(((side >= SMALL) & (side < LARGE)).sum()),
        "large": int((side >= LARGE).sum()),
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    points = np.percentile(values, list(_PERCENTILES.values()))
    return {name: round(float(value), 3) for name, value in zip(_PERCENTILES, points, strict=True)}
