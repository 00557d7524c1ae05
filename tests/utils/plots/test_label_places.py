"""Places of labels: inside the picture, by their boxes, and off one another where there is room."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.plots.label_places import leaders, place_labels

SIZE = (60, 16)


def overlap(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the share of every label that the labels before it cover at most."""
    low, high = places, places + sizes
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    return np.tril(shared.clip(min=0).prod(2), -1).max(1) / sizes.prod(1)


def place(boxes: list[tuple[int, ...]], picture: tuple[int, int], size=SIZE, width: int = 2) -> np.ndarray:
    return place_labels(np.array(boxes).reshape(-1, 4), np.tile(size, (len(boxes), 1)), picture, width)


def test_alone_it_stands_above_its_box_and_inside_where_the_picture_ends():
    assert place([(50, 50, 150, 120)], (240, 320)).tolist() == [[49, 33]]
    assert place([(50, 2, 150, 120)], (240, 320)).tolist() == [[49, 0]]
    assert place([(300, 50, 319, 120)], (240, 320)).tolist() == [[260, 33]]
    assert place([], (240, 320)).shape == (0, 2)


def test_equal_boxes_have_labels_side_by_side():
    for count in (2, 4, 8):
        places = place([(100, 100, 220, 180)] * count, (480, 640))
        assert overlap(places, np.tile(SIZE, (count, 1))).max() == 0


def test_a_row_of_people_can_be_told_apart():
    boxes = [(x, 100 + x % 7, x + 40, 300) for x in range(20, 440, 25)]
    places = place(boxes, (360, 480))
    assert overlap(places, np.tile(SIZE, (len(boxes), 1))).max() < 0.1
    alone = np.array([place([box], (360, 480))[0] for box in boxes])
    assert overlap(alone, np.tile(SIZE, (len(boxes), 1))).max() > 0.3, "without each other in mind they would overlap"


def test_a_label_does_not_hide_a_small_object():
    small, large = (60, 34, 90, 48), (50, 50, 200, 150)
    x, y = place([large, small], (240, 320))[0].tolist()
    assert x >= small[2] or y >= small[3] or y + SIZE[1] <= small[1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-(2**15), 2**15)] * 4), max_size=8),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(1, 12),
)
def test_every_label_is_inside_or_begins_in_the_corner(boxes, picture, width):
    places = place(boxes, picture, width=width)
    room = np.maximum(np.array(picture[::-1]) - SIZE, 0)
    assert ((places >= 0) & (places <= room)).all()


def far_places(boxes: np.ndarray, picture: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.tile(SIZE, (len(boxes), 1))
    places = place_labels(boxes, sizes, picture, 2)
    return places, leaders(boxes, places, sizes, 2)


def test_a_crowd_of_small_objects_is_labelled_around_and_tied_to_its_labels():
    x, y = (grid.ravel() for grid in np.meshgrid(range(200, 280, 10), range(150, 190, 20)))
    boxes = np.stack((x, y, x + 8, y + 16), 1)
    places, lines = far_places(boxes, (360, 480))
    assert overlap(places, np.tile(SIZE, (len(boxes), 1))).max() < 0.1, "16 objects in 80 x 36 pixels"
    apart = (lines[:, 0] != lines[:, 1]).any(1)
    assert apart.sum() > 4
    for box, place_, (start, end) in zip(boxes[apart], places[apart], lines[apart], strict=True):
        assert ((box[:2] <= end) & (end <= box[2:])).all(), "the line ends at the object"
        assert ((place_ <= start) & (start <= place_ + SIZE)).all(), "and begins at the label"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-50, 400)] * 2, *[st.integers(1, 150)] * 2), max_size=12))
def test_only_labels_that_stand_apart_have_a_line(rows):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.int64).reshape(-1, 4)
    places, lines = far_places(boxes, (240, 320))
    gaps = np.maximum(np.maximum(boxes[:, :2] - places - SIZE, places - boxes[:, 2:]), 0).max(1, initial=0)
    np.testing.assert_array_equal((lines[:, 0] != lines[:, 1]).any(1), gaps > 3)
    lengths = np.abs(lines[:, 0] - lines[:, 1]).max(1, initial=0)
    np.testing.assert_array_equal(lengths[gaps > 3], gaps[gaps > 3])
