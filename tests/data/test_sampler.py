from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample_key import BatchKey
from data.sampler import PARTNER_WINDOW, TrainOrder, aspect_batches, rectangular_batches, square_batches
from data.transforms.letterbox import LetterboxRule, plan_for_stride


def one_pass(order: TrainOrder, number: int) -> list[BatchKey]:
    return list(order.keys(number * len(order), (number + 1) * len(order)))


def indices(batches: list[BatchKey]) -> list[int]:
    return [key.index for batch in batches if not batch.empty for key in batch.samples]


def test_every_pass_holds_every_sample_once_in_its_own_order():
    order = TrainOrder(10, 4, seed=0)
    passes = [one_pass(order, number) for number in (0, 1)]
    for number, batches in enumerate(passes):
        assert [len(batch.samples) for batch in batches] == [4, 4, 2] and len(order) == 3
        assert [batch.number for batch in batches] == [3 * number, 3 * number + 1, 3 * number + 2]
        assert {key.epoch for batch in batches for key in batch.samples} == {number}
        assert sorted(indices(batches)) == list(range(10))
    assert indices(passes[0]) != indices(passes[1])
    assert one_pass(TrainOrder(10, 4, seed=0), 1) == passes[1]
    assert indices(one_pass(TrainOrder(10, 4, seed=1), 1)) != indices(passes[1])


@pytest.mark.parametrize("kind", ["shuffled", "weighted", "rectangular"])
@pytest.mark.parametrize("first", [0, 1, 2, 3, 7])
def test_a_run_goes_on_at_any_batch(first, kind):
    sizes = np.array([(30 + 5 * i, 50) for i in range(10)])
    rectangles = aspect_batches(sizes, 4, 64, 32) if kind == "rectangular" else None
    order = TrainOrder(10, 4, 0, closing_batch=5, rectangles=rectangles)
    if kind == "weighted":
        order.set_weights(np.arange(10), 0)
        order.set_weights(np.arange(10)[::-1], 1)
    whole = list(order.keys(0, 12))
    assert list(order.keys(first, 12)) == whole[first:]
    assert list(itertools.islice(order.keys(first), 12 - first)) == whole[first:]


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    size=st.integers(1, 5),
    kind=st.sampled_from(["", "w", "r"]),
)
def test_the_shares_of_all_processes_are_the_whole_batch(count, batch_size, size, kind):
    rectangles = aspect_batches(np.full((count, 2), 9), batch_size, 64, 32) if kind == "r" else None

    def batches(share: tuple[int, int]) -> list[BatchKey]:
        order = TrainOrder(count, batch_size, 7, share, 1, rectangles)
        if kind == "w":
            order.set_weights(np.ones(count), 0)
        return list(order.keys(0, 2 * len(order)))

    whole, parts = batches((0, 1)), [batches((rank, size)) for rank in range(size)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert not batch.empty and {share.number for share in shares} == {batch.number}
        assert tuple(key for share in shares if not share.empty for key in share.samples) == batch.samples
        lengths = [0 if share.empty else len(share.samples) for share in shares]
        assert max(lengths) - min(lengths) <= 1
        assert all(share.samples[0] in batch.samples for share in shares if share.empty)


def test_mosaic_ends_at_the_closing_batch_of_the_run():
    for closing, expected in ((4, [True] * 4 + [False] * 5), (0, [False] * 9), (None, [True] * 9)):
        batches = list(TrainOrder(10, 4, 0, closing_batch=closing).keys(0, 9))
        assert [{key.mosaic for key in batch.samples} for batch in batches] == [{mosaic} for mosaic in expected]


def test_partners_are_the_neighbours_in_the_order_and_cost_little():
    count = 3 * PARTNER_WINDOW
    order = TrainOrder(count, 16, 0, closing_batch=60)
    batches = one_pass(order, 0)
    places = indices(batches)
    for batch in batches:
        partners = batch.samples[0].partners
        assert all(key.partners is partners for key in batch.samples)
        end = max(batch.number * 16 + 16, PARTNER_WINDOW)
        assert list(partners) == places[end - PARTNER_WINDOW : end]
    assert len(pickle.dumps(batches[0])) < 16 * 60 + PARTNER_WINDOW * 6
    assert all(key.partners == () for batch in order.keys(60, 96) for key in batch.samples)


def test_partners_of_a_process_are_those_of_the_whole_batch():
    whole, half = (next(TrainOrder(1000, 300, 0, share).keys(2)) for share in ((0, 1), (1, 2)))
    assert half.samples[0].partners == whole.samples[0].partners and len(half.samples[0].partners) == 300


def test_partners_are_the_whole_set_where_it_is_small():
    for count in (10, PARTNER_WINDOW):
        assert {key.partners for batch in one_pass(TrainOrder(count, 4, 0), 0) for key in batch.samples} == {()}


def test_weights_draw_samples_with_replacement():
    order = TrainOrder(3000, 16, 0)
    weights = np.repeat([0.0, 1.0, 3.0], 1000)
    order.set_weights(weights, 0)
    first, second = (indices(one_pass(order, number)) for number in (0, 1))
    assert first != second and len(first) == 3000 and len(set(first)) < 2000
    drawn = np.bincount(np.array(first) // 1000, minlength=3)
    assert drawn[0] == 0 and 2.4 < drawn[2] / drawn[1] < 3.7


def test_a_sample_that_comes_again_in_a_pass_gets_other_random_numbers():
    order = TrainOrder(40, 7, 0)
    order.set_weights(np.arange(40), 0)
    names = [(key.index, key.repeat) for batch in one_pass(order, 0) for key in batch.samples]
    seen: dict[int, int] = {}
    for index, repeat in names:
        assert repeat == seen.get(index, 0)
        seen[index] = repeat + 1
    assert max(seen.values()) > 1


def test_weights_hold_from_their_pass_on_and_for_partners_too():
    order = TrainOrder(20, 4, 0)
    order.set_weights(np.eye(20)[3], 0)
    order.set_weights(np.eye(20)[5], 2)
    assert [set(indices(one_pass(order, number))) for number in range(4)] == [{3}, {3}, {5}, {5}]
    assert set(next(order.keys(0)).samples[0].partners) == {3}
    order.forget_weights_before(1)
    assert sorted(order.weights) == [0, 2]
    order.forget_weights_before(2)
    assert sorted(order.weights) == [2]


def test_weights_of_nothing_draw_everything_equally():
    order = TrainOrder(50, 4, 0)
    order.set_weights(np.zeros(50), 0)
    assert len(set(indices(one_pass(order, 0)))) > 20


@pytest.mark.parametrize("weights", [np.ones(9), np.full(10, np.nan), -np.ones(10)])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="10 finite numbers"):
        TrainOrder(10, 4, 0).set_weights(weights, 0)


def test_rectangular_passes_shuffle_whole_batches():
    sizes = np.array([(40 + i, 100) for i in range(30)] + [(100, 50 + i) for i in range(11)])
    batches = aspect_batches(sizes, 4, 320, 32)
    order = TrainOrder(len(sizes), 4, 0, rectangles=batches)
    passes = [one_pass(order, number) for number in (0, 1)]
    known = {tuple(members): shape for members, shape in batches}
    for keys in passes:
        found = {tuple(key.index for key in batch.samples): batch.samples[0].shape for batch in keys}
        assert found == known
        assert not any(key.mosaic for batch in keys for key in batch.samples)
    assert indices(passes[0]) != indices(passes[1]) and sorted(indices(passes[0])) == list(range(len(sizes)))
    with pytest.raises(ValueError, match="exclude"):
        order.set_weights(np.ones(len(sizes)), 0)


@pytest.mark.parametrize(
    ("sizes", "pad", "shape"),
    [
        ([(480, 640), (360, 640)], 0.0, (480, 640)),
        ([(640, 480), (640, 360)], 0.0, (640, 480)),
        ([(480, 640), (640, 480)], 0.0, (640, 640)),
        ([(427, 640), (420, 640)], 0.0, (448, 640)),
        ([(480, 640), (360, 640)], 0.5, (512, 672)),
        ([(400, 300), (400, 300)], 0.0, (640, 480)),
    ],
)
def test_the_rectangle_of_a_batch_suits_all_its_aspects(sizes, pad, shape):
    [(members, found)] = aspect_batches(np.array(sizes), 2, 640, 32, pad)
    assert sorted(members) == [0, 1] and found == shape


def test_rectangles_go_from_wide_to_tall():
    sizes = np.random.default_rng(0).integers(50, 200, (23, 2))
    batches = aspect_batches(sizes, 5, 320, 32)
    places = [index for members, _ in batches for index in members]
    aspects = (sizes[:, 0] / sizes[:, 1])[places]
    assert sorted(places) == list(range(23)) and (np.diff(aspects) >= 0).all()
    assert [len(members) for members, _ in batches] == [5, 5, 5, 5, 3]


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


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 320, 400]))
def test_an_image_in_the_corner_is_shown_as_it_would_be_alone(height, width, img_size):
    rule = LetterboxRule("top-left")
    [(_, shape)] = rectangular_batches(np.array([(height, width)]), 4, img_size, 32, letterbox=rule)
    assert shape == plan_for_stride((height, width), img_size, 32, rule).out


def test_rectangles_are_whole_strides_without_a_spurious_one():
    for height in range(32, 641, 32):
        [(_, shape)] = rectangular_batches(np.array([(height * 3, 640 * 3)]), 1, 640, 32, 0.0)
        assert shape == (height, 640)


def published_shapes(sizes: list[tuple[int, int]], group: int, img_size: int, stride: int) -> list[tuple[int, int]]:
    """Return the input of every image as the page of facts has it: ceil(ratio * size / stride + 0.5) * stride."""
    order = sorted(range(len(sizes)), key=lambda i: sizes[i][0] / sizes[i][1])
    found = {}
    for first in range(0, len(order), group):
        members = order[first : first + group]
        ratios = [sizes[i][0] / sizes[i][1] for i in members]
        sides = (max(ratios), 1) if max(ratios) < 1 else (1, 1 / min(ratios)) if min(ratios) > 1 else (1, 1)
        shape = tuple(int(np.ceil(round(side * img_size / stride + 0.5, 6))) * stride for side in sides)
        found.update(dict.fromkeys(members, shape))
    return [found[i] for i in range(len(sizes))]


@given(st.lists(st.tuples(st.integers(20, 900), st.integers(20, 900)), min_size=1, max_size=30), st.data())
def test_groups_of_similar_aspect_share_a_rectangle_whatever_the_batch_size(sizes, data):
    group, batch_size = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    rule = LetterboxRule(margin=0.5, group=group)
    batches = rectangular_batches(np.array(sizes), batch_size, 320, 32, letterbox=rule)
    shown = {index: shape for members, shape in batches for index in members}
    assert [shown[i] for i in range(len(sizes))] == published_shapes(sizes, group, 320, 32)
    assert sum(len(members) for members, _ in batches) == len(sizes)
    assert all(1 <= len(members) <= batch_size for members, _ in batches)
    if group == 1:
        assert [shown[i] for i in range(len(sizes))] == [plan_for_stride(size, 320, 32, rule).out for size in sizes]


def test_a_square_picture_is_tested_at_672_and_a_margin_adds_to_the_options():
    square = np.array([(500, 500)] * 3)
    rule = LetterboxRule(margin=0.5, group=32)
    assert rectangular_batches(square, 2, 640, 32, letterbox=rule) == [([0, 1], (672, 672)), ([2], (672, 672))]
    assert rectangular_batches(square, 3, 640, 32, 1.0, rule) == [([0, 1, 2], (704, 704))]
    assert rectangular_batches(square, 3, 640, 32, letterbox=LetterboxRule(group=2))[0][1] == (640, 640)


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
