"""Batches of pictures that differ in size: padded at the right and below, and cut without padding nobody needs."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.deliveries import Delivery, Made, pack
from data.samples import Batch, Placement, Sample, collate

sides = st.tuples(st.integers(1, 9), st.integers(1, 9))


def make_samples(sizes: list[tuple[int, int]], testing: bool = False) -> list[Sample]:
    rng = np.random.default_rng(len(sizes))
    return [
        Sample(
            image=rng.integers(1, 256, (*size, 3), dtype=np.uint8),
            boxes=rng.random((number % 3, 4), dtype=np.float32),
            classes=rng.integers(0, 5, number % 3),
            mask=rng.integers(0, 4, size, dtype=np.uint8),
            id=f"{number}.png",
            placement=Placement(*size) if testing else None,
        )
        for number, size in enumerate(sizes)
    ]


def holds(batch: Batch, samples: list[Sample]) -> None:
    """Make sure that a batch is these samples in the smallest canvas that holds all of them."""
    sizes = [sample.image.shape[:2] for sample in samples]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    assert batch.images.shape == (len(samples), 3, height, width)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.sizes == (None if len(set(sizes)) == 1 else sizes)
    assert batch.masks is None or (batch.masks.shape == (len(samples), height, width) and batch.masks.is_contiguous())
    for i, (sample, (own_height, own_width)) in enumerate(zip(samples, sizes, strict=True)):
        image = batch.images[i].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image[:own_height, :own_width], sample.image)
        assert not image[own_height:].any() and not image[:, own_width:].any()
        np.testing.assert_array_equal(batch.boxes[i][batch.valid[i]], sample.boxes)
        if batch.masks is not None:
            mask = batch.masks[i].numpy()
            np.testing.assert_array_equal(mask[:own_height, :own_width], sample.mask)
            assert (mask[own_height:] == 255).all() and (mask[:, own_width:] == 255).all()


@given(st.lists(sides, min_size=1, max_size=7), st.integers(1, 8), st.booleans())
def test_every_piece_is_as_small_as_its_pictures_allow(
    sizes: list[tuple[int, int]], pieces: int, testing: bool
) -> None:
    samples = make_samples(sizes, testing)
    batch = collate(samples)
    holds(batch, samples)
    first = 0
    for piece in batch.cut(pieces):
        holds(piece, samples[first : first + len(piece)])
        again = piece.cut(2)
        holds(again[0], samples[first : first + len(again[0])])
        first += len(piece)
    assert first == len(samples)


def test_sizes_are_plain_numbers_and_stay_where_the_batch_goes() -> None:
    batch = collate(make_samples([(4, 6), (8, 3)]))
    assert batch.sizes == [(4, 6), (8, 3)] and all(type(side) is int for size in batch.sizes for side in size)
    assert batch.to(torch.device("cpu")).sizes == batch.to(torch.device("meta")).sizes == batch.sizes
    empty = batch.without_samples()
    assert empty.sizes is None and empty.images.shape == (0, 3, 8, 6) and [len(part) for part in empty.cut(3)] == [0]


def test_memory_is_pinned_with_sizes(monkeypatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    batch = collate(make_samples([(4, 6), (8, 3)]))
    assert batch.pin_memory().sizes == batch.sizes
    assert Delivery(batch, [], None).pin_memory().open().sizes == batch.sizes


def test_native_masks_of_a_padded_test_batch_are_as_they_were() -> None:
    samples = make_samples([(4, 6), (8, 3)], testing=True)
    batch = pack([Made(sample) for sample in samples]).open()
    holds(batch, samples)
    assert batch.masks is None
    for mask, sample in zip(batch.native_masks, samples, strict=True):
        np.testing.assert_array_equal(mask, sample.mask)
