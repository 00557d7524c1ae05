from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sampler import EpochBatchSampler, rectangular_batches, square_batches
from data.transforms.letterbox import plan_for_stride


def keys(sampler: EpochBatchSampler, epoch: int, start: int = 0) -> list:
    sampler.set_position(epoch, start)
    return list(sampler)


def test_every_epoch_holds_every_sample_once_in_its_own_order():
    sampler = EpochBatchSampler(10, 4, seed=0)
    orders = []
    for epoch in (0, 1):
        batches = keys(sampler, epoch)
        assert [len(batch) for batch in batches] == [4, 4, 2] and len(sampler) == 3
        assert {key.epoch for batch in batches for key in batch} == {epoch}
        orders.append([key.index for batch in batches for key in batch])
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
    ("size", "pad", "shape"),
    [
        ((1080, 1920), 0.0, (384, 640)),
        ((1080, 1920), 0.5, (384, 672)),
        ((640, 480), 0.0, (640, 480)),
        ((288, 672), 0.0, (288, 640)),
        ((427, 640), 0.0, (448, 640)),
    ],
)
def test_a_rectangle_suits_its_images(size, pad, shape):
    assert rectangular_batches(np.array([size] * 2), 2, 640, 32, pad) == [([0, 1], shape)]


def test_images_of_other_shapes_do_not_share_a_batch():
    sizes = np.array([(480, 640), (640, 480), (960, 1280), (320, 640), (480, 640)])
    batches = rectangular_batches(sizes, 2, 640, 32)
    assert batches == [([3], (320, 640)), ([0, 2], (480, 640)), ([4], (480, 640)), ([1], (640, 480))]


@given(height=st.integers(8, 4000), width=st.integers(8, 4000), img_size=st.integers(32, 1300))
def test_an_image_is_shown_as_it_would_be_alone(height, width, img_size):
    [(_, shape)] = rectangular_batches(np.array([(height, width)]), 4, img_size, 32)
    assert shape == plan_for_stride((height, width), img_size, 32).out


def test_rectangles_are_whole_strides_without_a_spurious_one():
    for height in range(32, 641, 32):
        [(_, shape)] = rectangular_batches(np.array([(height * 3, 640 * 3)]), 1, 640, 32, 0.0)
        assert shape == (height, 640)


def test_batches_hold_every_image_once():
    rng = np.random.default_rng(0)
    batches = rectangular_batches(rng.integers(50, 200, (23, 2)), 5, 320, 32, 0.5)
    assert sorted(index for indices, _ in batches for index in indices) == list(range(23))
    assert all(1 <= len(indices) <= 5 for indices, _ in batches)
    aspects = [height / width for _, (height, width) in batches]
    assert aspects == sorted(aspects)
    assert all(side % 32 == 0 for _, shape in batches for side in shape)


def test_square_batches_keep_the_order():
    assert square_batches(5, 2, 100, 32) == [([0, 1], (128, 128)), ([2, 3], (128, 128)), ([4], (128, 128))]
