"""Cutting a batch: every image with its labels once, in order, and nothing else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Batch, Placement, Sample, collate


def make_batch(objects: list[int], testing: bool = False) -> Batch:
    rng = np.random.default_rng(len(objects))
    samples = []
    for number, count in enumerate(objects):
        samples.append(
            Sample(
                image=rng.integers(0, 256, (8, 12, 3), dtype=np.uint8),
                boxes=rng.random((count, 4), dtype=np.float32),
                classes=rng.integers(0, 5, count),
                keypoints=rng.random((count, 2, 3), dtype=np.float32),
                mask=rng.integers(0, 4, (8, 12), dtype=np.uint8),
                id=f"{number}.png",
                placement=Placement(8, 12, left=number) if testing else None,
            )
        )
    return collate(samples)


def labels(batch: Batch, image: int) -> list[torch.Tensor]:
    valid = batch.valid[image]
    return [batch.boxes[image][valid], batch.classes[image][valid], batch.keypoints[image][valid]]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.integers(1, 12), st.booleans())
def test_every_image_is_in_one_piece_with_its_labels(objects: list[int], pieces: int, testing: bool) -> None:
    batch = make_batch(objects, testing)
    parts = batch.cut(pieces)
    sizes = [len(part) for part in parts]
    assert len(parts) == min(pieces, len(objects))
    assert sum(sizes) == len(objects) and min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert [name for part in parts for name in part.ids] == batch.ids
    if testing:
        assert [place for part in parts for place in part.placements] == batch.placements
        assert [id(mask) for part in parts for mask in part.native_masks] == [id(mask) for mask in batch.native_masks]
    else:
        assert torch.equal(torch.cat([part.masks for part in parts]), batch.masks)
        assert all(part.placements is None and part.native_masks is None for part in parts)
    image = 0
    for part in parts:
        counts = objects[image : image + len(part)]
        if pieces > 1 and len(objects) > 1:
            assert part.valid.shape[1] == max(counts), "padding is left over"
        assert part.images.is_contiguous(memory_format=torch.channels_last)
        for own in range(len(part)):
            for mine, whole in zip(labels(part, own), labels(batch, image), strict=True):
                assert torch.equal(mine, whole)
            image += 1


def test_a_batch_of_no_images_stays_as_it_is() -> None:
    empty = make_batch([1, 2]).without_samples()
    assert [len(part) for part in empty.cut(4)] == [0]


def test_a_batch_without_masks_and_keypoints_is_cut() -> None:
    rng = np.random.default_rng(0)
    batch = collate([Sample(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(3)])
    parts = batch.cut(2)
    assert [len(part) for part in parts] == [2, 1]
    assert all(part.masks is None and part.boxes.shape == (len(part), 0, 4) for part in parts)
