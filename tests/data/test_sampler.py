from __future__ import annotations

import numpy as np
import pytest

from data.sampler import EpochBatchSampler, rectangular_batches, square_batches


def keys(sampler: EpochBatchSampler, epoch: int, start: int = 0) -> list:
    sampler.set_position(epoch, start)
    return list(sampler)


def test_every_epoch_holds_every_sample_once_in_its_own_order():
    sampler = EpochBatchSampler(10, 4, seed=0)
    orders = []
    for epoch in (0, 1):
        batches = keys(sampler, epoch)
        assert [len(batch) for batch in batches] == [4, 4, 2] and len(sampler) == 3
        assert {e for batch in batches for e, _ in batch} == {epoch}
        orders.append([index for batch in batches for _, index in batch])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]
    assert keys(EpochBatchSampler(10, 4, seed=0), 1) == keys(sampler, 1)
    assert keys(EpochBatchSampler(10, 4, seed=1), 1) != keys(sampler, 1)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_goes_on_where_it_stopped(start):
    sampler = EpochBatchSampler(10, 4, seed=0)
    assert keys(sampler, 5, start) == keys(sampler, 5)[start:]


def test_the_position_is_read_when_iteration_starts():
    sampler = EpochBatchSampler(10, 4, seed=0)
    sampler.set_position(1, 0)
    running = iter(sampler)
    sampler.set_position(2, 0)
    assert list(running) == keys(sampler, 1)


@pytest.mark.parametrize(
    ("sizes", "pad", "shape"),
    [
        ([(1080, 1920)] * 2, 0.0, (384, 640)),
        ([(1080, 1920)] * 2, 0.5, (384, 672)),
        ([(640, 480)] * 2, 0.0, (640, 480)),
        ([(288, 672)] * 2, 0.0, (288, 640)),
        ([(480, 640), (640, 480)], 0.0, (640, 640)),
        ([(480, 640), (320, 640)], 0.0, (480, 640)),
        ([(640, 320), (640, 480)], 0.0, (640, 480)),
    ],
)
def test_a_rectangle_suits_all_images_of_its_batch(sizes, pad, shape):
    assert rectangular_batches(np.array(sizes), 2, 640, 32, pad)[0][1] == shape


def test_rectangles_are_whole_strides_without_a_spurious_one():
    for height in range(32, 641, 32):
        [(_, shape)] = rectangular_batches(np.array([(height * 3, 640 * 3)]), 1, 640, 32, 0.0)
        assert shape == (height, 640)


def test_batches_hold_similar_aspects_and_every_image_once():
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 200, (23, 2))
    batches = rectangular_batches(sizes, 5, 320, 32, 0.5)
    order = [index for indices, _ in batches for index in indices]
    assert sorted(order) == list(range(23)) and [len(indices) for indices, _ in batches] == [5, 5, 5, 5, 3]
    assert (np.diff(sizes[order, 0] / sizes[order, 1]) >= 0).all()
    assert all(side % 32 == 0 for _, shape in batches for side in shape)


def test_square_batches_keep_the_order():
    assert square_batches(5, 2, 100, 32) == [([0, 1], (128, 128)), ([2, 3], (128, 128)), ([4], (128, 128))]
