from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.rtmdet_view import View, WindowDraw, view_of_four, view_of_one
from tests.data.smooth_dataset import SmoothDataset

SIDE = 96
shares = st.floats(0, 0.999)
draws = st.builds(WindowDraw, st.tuples(shares, shares), st.floats(0.1, 2.0), st.tuples(shares, shares))
COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 250)]
"""Of a mark in each of four tiles; no mixture of one of them with its surroundings is another one."""
indices = st.lists(st.integers(0, 6), min_size=4, max_size=4)


def rendered(view: View) -> Sample:
    return view.pixels(np.zeros((*view.size, 3), np.uint8))


def by_hand(load: Callable[[int], Sample], chosen: list[int], side: int, draw: WindowDraw) -> Sample:
    """Lay a canvas, resize all of it and cut the window out, one after the other as the page of facts says."""
    canvas, mask = np.full((2 * side, 2 * side, 3), 114, np.uint8), np.full((2 * side, 2 * side), 255, np.uint8)
    centre_x, centre_y = int(side * (0.5 + draw.centre[0])), int(side * (0.5 + draw.centre[1]))
    boxes, classes = [], []
    for place, index in enumerate(chosen):
        tile = load(index)
        height, width = tile.image.shape[:2]
        left, top = centre_x - width * (place % 2 == 0), centre_y - height * (place < 2)
        for y in range(max(top, 0), min(top + height, 2 * side)):
            x1, x2 = max(left, 0), min(left + width, 2 * side)
            canvas[y, x1:x2] = tile.image[y - top, x1 - left : x2 - left]
            if tile.mask is not None:
                mask[y, x1:x2] = tile.mask[y - top, x1 - left : x2 - left]
        for box, kind in zip(tile.boxes, tile.classes, strict=True):
            boxes.append(np.add(box, (left, top, left, top)).clip(0, 2 * side))
            classes.append(kind)
    length = int(2 * side * draw.ratio)
    canvas = cv2.resize(canvas, (length, length))
    mask = cv2.resize(mask, (length, length), interpolation=cv2.INTER_NEAREST_EXACT)
    window = min(length, side)
    x, y = (int(share * (length - window + 1)) for share in draw.room)
    kept = []
    for box, kind in zip(boxes, classes, strict=True):
        x1, y1, x2, y2 = box * length / (2 * side) - (x, y, x, y)
        if x1 < window and y1 < window and x2 > 0 and y2 > 0 and x2 > x1 and y2 > y1:
            kept.append((np.clip([x1, y1, x2, y2], 0, window), kind))
    return Sample(
        image=canvas[y : y + window, x : x + window],
        boxes=np.array([box for box, _ in kept], np.float32).reshape(-1, 4),
        classes=np.array([kind for _, kind in kept], np.int64),
        mask=mask[y : y + window, x : x + window],
    )


def loader(task: str) -> Callable[[int], Sample]:
    dataset = SmoothDataset(task)
    return lambda index: dataset.load(index, long_side=SIDE)


@settings(max_examples=40, deadline=None)
@given(draws, indices)
def test_at_its_own_size_a_window_is_cut_out_to_the_pixel(draw, chosen):
    draw = draw._replace(ratio=1.0)
    ours = rendered(view_of_four(loader("segment"), chosen, SIDE, draw))
    theirs = by_hand(loader("segment"), chosen, SIDE, draw)
    np.testing.assert_array_equal(ours.image, theirs.image)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
    np.testing.assert_array_equal(ours.classes, theirs.classes)


@settings(max_examples=60, deadline=None)
@given(draws, indices)
def test_a_resized_window_is_the_published_one_but_for_edges(draw, chosen):
    view = view_of_four(loader("detect"), chosen, SIDE, draw)
    ours, theirs = rendered(view), by_hand(loader("detect"), chosen, SIDE, draw)
    assert ours.image.shape == theirs.image.shape
    # Whole pixels: half of one of the output, or half of one of the tile where the window cuts it.
    tolerance = max(0.5, draw.ratio / 2) + 0.01
    large = [
        (tuple(box), kind)
        for box, kind in zip(theirs.boxes.tolist(), theirs.classes, strict=True)
        if min(box[2] - box[0], box[3] - box[1]) > 2 * tolerance
    ]
    found = [(box, kind) for box, kind in zip(ours.boxes.tolist(), ours.classes, strict=True)]
    for box, kind in large:
        distances = [np.abs(np.subtract(box, other)).max() for other, other_kind in found if other_kind == kind]
        assert distances and min(distances) <= tolerance
    assert len(found) >= len(large)
    if draw.ratio >= 0.5:
        # Smooth pictures shifted by up to a pixel differ little; grey against a picture differs much, at edges alone.
        apart = np.abs(ours.image.astype(int) - theirs.image.astype(int)).max(-1)
        assert np.median(apart) <= 8 and (apart > 40).mean() < 0.06


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.floats(0.1, 2.0), st.tuples(shares, shares), st.sampled_from([(96, 96), (64, 128)]))
def test_a_single_picture_is_resized_then_cropped_exactly(index, ratio, room, most):
    dataset = SmoothDataset("segment")
    picture = dataset.load(index, long_side=max(int(SIDE * ratio), 1))
    height, width = picture.image.shape[:2]
    shown = rendered(view_of_one(picture, most, WindowDraw((0, 0), ratio, room)))
    rows, columns = min(height, most[0]), min(width, most[1])
    x, y = int(room[0] * (width - columns + 1)), int(room[1] * (height - rows + 1))
    np.testing.assert_array_equal(shown.image, picture.image[y : y + rows, x : x + columns])
    np.testing.assert_array_equal(shown.mask, picture.mask[y : y + rows, x : x + columns])
    boxes = (picture.boxes - (x, y, x, y)).clip(0, (columns, rows, columns, rows))
    expected = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    np.testing.assert_allclose(shown.boxes, expected, atol=1e-4)
    assert shown.id == f"{index}.png"


@settings(max_examples=60, deadline=None)
@given(draw=draws, data=st.data())
def test_marks_are_where_their_boxes_and_points_say(draw, data):
    """One bright rectangle per tile: what is seen of it is what its box says, and its corners are its keypoints."""
    kinds = [data.draw(st.tuples(st.integers(40, 96), st.integers(40, 96))) for _ in range(4)]
    tiles = [_marked(kind, number) for number, kind in enumerate(kinds)]
    draw = draw._replace(ratio=max(draw.ratio, 0.4))
    shown = rendered(view_of_four(lambda index: tiles[index], [0, 1, 2, 3], SIDE, draw))
    tolerance = max(1.0, draw.ratio) + 1
    for box, kind, points in zip(shown.boxes, shown.classes, shown.keypoints, strict=True):
        mark = np.argwhere((shown.image == COLOURS[kind]).all(-1))
        if min(box[2] - box[0], box[3] - box[1]) > 3 * tolerance:
            (y1, x1), (y2, x2) = mark.min(0), mark.max(0) + 1
            assert np.abs(box - (x1, y1, x2, y2)).max() <= tolerance
        for (x, y, visible), corner in zip(points, ([0, 1], [2, 1], [0, 3], [2, 3]), strict=True):
            if visible:
                assert np.abs(np.array([x, y]) - box[corner]).max() <= tolerance


def _marked(size: tuple[int, int], number: int) -> Sample:
    height, width = size
    x1, y1, x2, y2 = width // 5, height // 4, width - width // 6, height - height // 5
    image = np.full((height, width, 3), 20, np.uint8)
    image[y1:y2, x1:x2] = COLOURS[number]
    points = [[x1, y1, 2], [x2, y1, 2], [x1, y2, 2], [x2, y2, 2]]
    return Sample(
        image, np.array([[x1, y1, x2, y2]], np.float32), np.array([number]), np.array([points], np.float32), id="a"
    )


def test_a_canvas_smaller_than_the_window_is_shown_whole():
    draw = WindowDraw((0.5, 0.5), 0.25, (0.9, 0.1))
    view = view_of_four(loader("detect"), [0, 1, 2, 3], SIDE, draw)
    assert view.size == (48, 48)
    assert len(view.labels.boxes) == sum(len(loader("detect")(i).boxes) for i in range(4))


def test_tiles_that_are_not_seen_are_not_loaded():
    loaded = []

    def load(index: int) -> Sample:
        loaded.append(index)
        return loader("detect")(index)

    view = view_of_four(load, [0, 1, 2, 5], SIDE, WindowDraw((0.5, 0.5), 2.0, (0.99, 0.99)))
    assert loaded == [5] and view.labels.id == "5.png"


@pytest.mark.parametrize("left", [0.0, 40.0])
def test_what_touches_the_window_from_outside_is_gone_and_a_sliver_stays(left):
    picture = np.zeros((100, 100, 3), np.uint8)
    x = left + 20  # where the window of 20 pixels ends
    boxes = np.array([[x, 10, x + 9, 20], [x - 0.25, 10, x + 9, 20], [left - 9, 10, left, 20]], np.float32)
    draw = WindowDraw((0, 0), 1.0, ((left + 0.5) / 81, 0.0))
    view = view_of_one(Sample(picture, boxes, np.arange(3)), (20, 20), draw)
    assert view.labels.classes.tolist() == [1]
    np.testing.assert_allclose(view.labels.boxes, [[19.75, 10, 20, 20]])


def test_somebody_without_a_visible_keypoint_is_dropped():
    picture, boxes = np.zeros((40, 40, 3), np.uint8), np.array([[0, 0, 30, 30], [0, 0, 30, 30]], np.float32)
    points = np.array([[[5, 5, 2]], [[25, 25, 2]]], np.float32)
    view = view_of_one(Sample(picture, boxes, np.arange(2), points), (10, 10), WindowDraw((0, 0), 1.0, (0, 0)))
    assert view.labels.classes.tolist() == [0] and view.labels.keypoints.tolist() == [[[5, 5, 2]]]
