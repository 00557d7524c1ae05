"""Labelled boxes of a batch: what is taken over, and how it reaches a device."""

from __future__ import annotations

import torch

from models.losses.box_targets import box_targets
from tests.models.losses.made_up_batches import random_batch


def test_labels_are_taken_as_they_are() -> None:
    batch = random_batch(3, 4, 5)
    batch.boxes = batch.boxes.double()
    targets = box_targets(batch)
    assert targets.boxes.dtype == torch.float32 and torch.equal(targets.boxes, batch.boxes.float())
    assert targets.classes is batch.classes and targets.valid is batch.valid
    assert targets.normalizers.tolist() == [3] and box_targets(batch.without_samples()).normalizers.tolist() == [0]


def test_they_reach_the_device_whole() -> None:
    targets = box_targets(random_batch(2, 4, 3))
    assert targets.to(torch.device("cpu")) is targets
    moved = targets.to(torch.device("meta"))
    for name in ("boxes", "classes", "valid", "normalizers"):
        ours, there = getattr(targets, name), getattr(moved, name)
        assert there.device.type == "meta" and there.shape == ours.shape and there.dtype == ours.dtype
    # From a device whose values cannot be packed on the CPU they move one by one.
    assert moved.to(torch.device("meta")) is moved


def test_the_number_of_images_stays_on_the_cpu() -> None:
    """The step adds up denominators there, before any pass."""
    targets = box_targets(random_batch(2, 4, 3).to(torch.device("meta")))
    assert targets.boxes.device.type == "meta" and targets.normalizers.device.type == "cpu"
    assert targets.to(torch.device("meta")).normalizers.device.type == "meta"
