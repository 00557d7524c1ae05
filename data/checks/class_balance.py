"""How often each class is there, and which ones training or validation never shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.checks.finding import Finding
from data.checks.split_facts import SplitFacts

RARE = 1000
"""Times fewer objects or pixels than the most common class has."""


def class_counts(facts: SplitFacts) -> np.ndarray:
    """Return (C,) int64: objects, or pixels of masks, of each class in a split."""
    if facts.pixels is not None:
        return facts.pixels[:, :-1].sum(0)
    return np.bincount(facts.classes, minlength=len(facts.data.names))


def balance_findings(splits: Mapping[str, SplitFacts]) -> list[Finding]:
    """Return what is odd about the classes of one task's splits, by their names."""
    found = [finding for facts in splits.values() for finding in _emptiness(facts)]
    train, val = splits.get("train"), splits.get("val")
    if train is None or not class_counts(train).any():
        return found
    names, trained = train.data.names, class_counts(train)
    unit = "pixels" if train.pixels is not None else "objects"
    for index in np.flatnonzero(trained == 0).tolist():
        found.append(Finding("class-untrained", train.where, f"'{names[index]}' has no {unit} in {train.where}"))
    for index in np.flatnonzero((trained > 0) & (trained * RARE < trained.max())).tolist():
        most = int(trained.argmax())
        sentence = f"{train.where}: {unit} of '{names[index]}': {trained[index]}, of '{names[most]}': {trained[most]}"
        found.append(Finding("class-rare", train.where, sentence))
    if val is not None and class_counts(val).any():
        for index in np.flatnonzero((trained > 0) & (class_counts(val) == 0)).tolist():
            found.append(Finding("class-unmeasured", val.where, f"'{names[index]}' has no {unit} in {val.where}"))
    return found


def _emptiness(facts: SplitFacts) -> list[Finding]:
    """Say that a split has no object at all, or that most of its images have none."""
    usable = facts.usable
    if facts.pixels is not None or not usable.any():
        return []
    searched = next((label for label in facts.labels if label), facts.data.source)
    total = int(usable.sum())
    with_objects = int((np.diff(facts.offsets)[usable] > 0).sum())
    if not with_objects:
        sentence = f"{facts.where}: 0 of {total} images have an object (looked for {searched})"
        return [Finding("labels-none", facts.where, sentence)]
    if 2 * with_objects < total:
        sentence = f"{facts.where}: {total - with_objects} of {total} images have no object"
        return [Finding("background-many", facts.where, sentence, count=total - with_objects)]
    return []
