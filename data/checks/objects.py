"""Looks at the objects of a split: sizes, boxes with several classes, keypoints."""

from __future__ import annotations

import numpy as np

from data.checks.finding import Finding
from data.checks.split_facts import SplitFacts

TINY = 2.0
"""Pixels at the size of training; a shorter side is less than a quarter of the finest cell of most models."""
HUGE = 0.98
"""Share of both sides of the image."""
FAR = 0.25
"""Share of a box's sides by which a visible keypoint may lie outside of it."""
_SAME = 1e-4
"""Share of the image within which two edges are the same."""


def object_findings(facts: SplitFacts, img_size: int) -> list[Finding]:
    """Return what is odd about the objects of a split.

    Args:
        facts: of the split.
        img_size: length of the longer side of pictures in training, pixels.
    """
    if not len(facts.classes):
        return []
    sides = facts.box_pixels(img_size).min(1)
    shares = (facts.boxes[:, 2:] - facts.boxes[:, :2]).min(1)
    readable = (facts.sizes[facts.owners] > 0).all(1)
    tiny = f"{{}}: {{}} with a side below {TINY:g} pixels when the image's long side is {img_size}"
    huge = f"{{}}: {{}} of at least {HUGE:.0%} of the image's width and height"
    found = _per_image(facts, "box-tiny", readable & (sides < TINY), tiny)
    found += _per_image(facts, "box-huge", (shares >= HUGE) & ~facts.crowd, huge)
    found += _per_image(facts, "label-conflict", _conflicts(facts), "{}: {} that another class has too")
    if facts.data.keypoints:
        found += _keypoint_findings(facts)
    return found


def _per_image(facts: SplitFacts, check: str, which: np.ndarray, sentence: str) -> list[Finding]:
    """Return a finding for every image with objects that are chosen by (m,) bool."""
    counts = np.bincount(facts.owners[which], minlength=len(facts.images))
    found = []
    for i in np.flatnonzero(counts).tolist():
        number, image = int(counts[i]), facts.images[i]
        text = sentence.format(image, f"{number} box" if number == 1 else f"{number} boxes")
        found.append(Finding(check, facts.where, text, (image,), number))
    return found


def _conflicts(facts: SplitFacts) -> np.ndarray:
    """Return (m,) bool: objects whose box is in their image with another class before them."""
    if len(facts.data.names) == 1:
        return np.zeros(len(facts.classes), bool)
    edges = (facts.boxes / _SAME).round().astype(np.int64)
    table = np.hstack([facts.owners[:, None], edges])
    _, first, group = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return facts.classes != facts.classes[first[group.reshape(-1)]]


def _keypoint_findings(facts: SplitFacts) -> list[Finding]:
    labelled = facts.keypoints[..., 2] > 0
    low, high = facts.boxes[:, None, :2], facts.boxes[:, None, 2:]
    points, room = facts.keypoints[..., :2], FAR * (high - low)
    # Hidden ones may well be outside: many annotators draw boxes around what they see.
    far = ((facts.keypoints[..., 2] > 1) & ((points < low - room) | (points > high + room)).any(2)).any(1)
    found = _per_image(facts, "keypoint-outside", far, "{}: {} with a visible keypoint far outside")
    without = int((~labelled.any(1) & ~facts.crowd).sum())
    if without:
        sentence = f"{facts.where}: {without} of {len(labelled)} objects have no labelled keypoint"
        found.append(Finding("keypoint-none", facts.where, sentence, count=without))
    return found
