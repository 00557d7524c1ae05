"""What the anchor loss says about its assignment is what it trains."""

from __future__ import annotations

import torch

from models.losses.anchor_detection import AnchorDetectionCriterion
from tests.models.losses.made_up_batches import SIZE, STRIDES, random_batch

ANCHORS = torch.tensor([[[1.25, 1.6], [2.0, 3.75]], [[1.9, 3.8], [3.9, 2.8]], [[3.6, 2.8], [4.9, 6.2]]])


def test_places_and_objects_are_those_of_the_targets() -> None:
    loss = AnchorDetectionCriterion(ANCHORS, STRIDES, 3, {"box": 0.05, "obj": 1.0, "cls": 0.5})
    batch = random_batch(4, 5, 3)
    raw = [torch.zeros(4, 2, SIZE // s, SIZE // s, 8) for s in STRIDES]
    found = loss.assignment(raw, batch)
    places = [
        (int(i), (float(c) + 0.5) * s, (float(r) + 0.5) * s, int(k))
        for level, s in zip(loss.prepare(batch).levels, STRIDES, strict=True)
        for i, r, c, k in zip(level.image, level.row, level.column, level.classes, strict=True)
    ]
    classes = batch.classes[found.image, found.object].tolist()
    ours = zip(found.image.tolist(), *found.places.T.tolist(), classes, strict=True)
    assert len(places) > 10 and sorted(ours) == sorted(places)
    assert batch.valid[found.image, found.object].all()


def test_without_objects() -> None:
    loss = AnchorDetectionCriterion(ANCHORS, STRIDES, 3, {"box": 0.05, "obj": 1.0, "cls": 0.5})
    raw = [torch.zeros(2, 2, SIZE // s, SIZE // s, 8) for s in STRIDES]
    assert len(loss.assignment(raw, random_batch(2, 0, 3)).image) == 0
