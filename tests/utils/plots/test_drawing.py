"""Boxes, labels, class maps and keypoints on pictures, and the colours they use."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.errors import RunError
from utils.plots.drawing import (
    blend_mask,
    colour_mask,
    draw_boxes,
    font_size_for,
    label_texts,
    line_width_for,
    save_picture,
)
from utils.plots.palette import CITYSCAPES, class_colour, class_palette, mask_palette, readable_on
from utils.plots.text import text_mask

GREY = np.full((120, 160, 3), 114, np.uint8)
BOX = np.array([[40.0, 50.0, 100.0, 90.0]])


def painted(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Return the x1 y1 x2 y2 (inclusive) that differ from the grey picture."""
    rows, columns = np.nonzero((picture != 114).any(-1))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_boxes_lie_where_they_should_and_the_input_stays():
    before = GREY.copy()
    picture = draw_boxes(GREY, BOX, np.array([3]), line_width=2)
    np.testing.assert_array_equal(GREY, before)
    np.testing.assert_allclose(painted(picture), (40, 50, 100, 90), atol=2)
    assert tuple(picture[70, 40]) == class_colour(3)
    assert (picture[60:80, 50:90] == 114).all()


def test_a_box_without_end_goes_beyond_the_picture():
    endless = np.array([[-np.inf, 50, np.inf, 90]], np.float32)
    expected = draw_boxes(GREY, np.array([[-500.0, 50, 500, 90]]), np.array([3]))
    np.testing.assert_array_equal(draw_boxes(GREY, endless, np.array([3])), expected)


def test_the_first_box_is_on_top():
    picture = draw_boxes(GREY, np.repeat(BOX, 2, 0), np.array([1, 5]), line_width=3)
    assert tuple(picture[70, 40]) == class_colour(1)


def test_where_labels_have_no_room_that_of_the_first_is_on_top():
    small = np.full((40, 90, 3), 114, np.uint8)
    boxes = np.repeat([[-90.0, -60, -50, -50]], 12, 0)
    alone = draw_boxes(small, boxes[:1], np.array([1]), ["first"])
    crowd = draw_boxes(small, boxes, np.array([1] + [5] * 11), ["first"] + ["another"] * 11)
    shown = [int((picture == class_colour(1)).all(-1).sum()) for picture in (alone, crowd)]
    assert shown[0] == shown[1] > 100


def inked(picture: np.ndarray, index: int) -> np.ndarray:
    """Return which pixels of labels of a class are nearer to the colour of its letters than to their ground."""
    ground, letters = (np.array(colour, int) for colour in (class_colour(index), readable_on(class_colour(index))))
    way = (letters - ground).astype(np.float32)
    share = (picture.astype(np.float32) - ground) @ way / (way @ way)
    return (share > 0.75) & (np.abs(picture - ground - share[..., None] * way).max(-1) < 4)


def test_labels_stand_above_the_box_in_a_contrasting_colour():
    label = draw_boxes(GREY, BOX, np.array([2]), ["car 0.90"], line_width=2)[25:50, 40:100]
    assert (label == class_colour(2)).all(-1).sum() > 300
    assert inked(label, 2).sum() > 40


@pytest.mark.parametrize("box", [(0, 0, 159, 119), (150, 2, 159, 20), (-30, -30, 20, 20), (140, 110, 400, 300)])
def test_labels_at_the_border_are_complete(box):
    """The whole label is inside: as much of its colour is seen as in the middle of the picture."""
    text = ["truck 0.50"]
    in_the_middle = draw_boxes(GREY, np.array([[60.0, 60, 60, 60]]), np.array([0]), text, line_width=2)
    at_the_border = draw_boxes(GREY, np.array([box], float), np.array([0]), text, line_width=2)
    letters = [inked(picture, 0).sum() for picture in (in_the_middle, at_the_border)]
    assert letters[0] > 40 and letters[1] == letters[0]


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(-1e6, 1e6)] * 4),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.text(max_size=40),
)
def test_any_box_any_text_and_any_picture_size(box, size, text):
    picture = draw_boxes(np.zeros((*size, 3), np.uint8), np.array([box]), np.array([0]), [text])
    assert picture.shape == (*size, 3)


def test_texts():
    classes, scores = np.array([1, 0, 9]), np.array([0.5, 0.987, 0.1])
    assert label_texts(["a", "b"], classes) == ["b", "a", "9"]
    assert label_texts(["a", "b"], classes, scores) == ["b 0.50", "a 0.99", "9 0.10"]


def test_blend_is_a_weighted_mean_and_spares_ignored_pixels():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    class_map = rng.choice([0, 3, 7, 255], (30, 40)).astype(np.uint8)
    palette = mask_palette(["x"])
    blended = blend_mask(image, class_map, palette, alpha=0.4)
    expected = np.where((class_map == 255)[..., None], image, 0.6 * image + 0.4 * palette[class_map])
    np.testing.assert_allclose(blended, expected, atol=0.51)
    np.testing.assert_array_equal(colour_mask(class_map, palette), palette[class_map])
    with pytest.raises(ValueError, match="size"):
        blend_mask(image, class_map[:5], palette)


def test_blend_takes_views_of_pictures():
    bgr = np.random.default_rng(1).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    class_map = np.zeros((8, 9), np.uint8)
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    np.testing.assert_array_equal(
        blend_mask(bgr[..., ::-1], class_map, mask_palette([])), blend_mask(rgb, class_map, mask_palette([]))
    )


def test_save_picture_keeps_red_red(tmp_path):
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 255
    save_picture(tmp_path / "a.png", red)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], red)
    with pytest.raises(RunError, match=r"\.jpg or \.png"):
        save_picture(tmp_path / "a.nothing", red)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_colours_are_fixed_distinct_and_strong():
    palette = class_palette().astype(int)
    assert [class_colour(i) for i in (0, 1, 256)] == [(255, 51, 51), (0, 255, 255), (255, 51, 51)]
    difference = np.abs(palette[:, None] - palette[None]).max(-1) + 1000 * np.eye(256, dtype=int)
    assert difference.min() > 0 and difference[:20, :20].min() >= 51 and difference[:80, :80].min() >= 17
    assert palette.max(1).min() >= 119


def test_mask_colours():
    assert mask_palette(list(CITYSCAPES))[13].tolist() == [0, 0, 142]
    assert mask_palette(["car"])[0].tolist() == list(class_colour(0))
    assert mask_palette(list(CITYSCAPES))[255].tolist() == [0, 0, 0]
    assert readable_on((255, 255, 0)) == (0, 0, 0) and readable_on((0, 0, 142)) == (255, 255, 255)


def test_crowded_labels_can_be_read_in_small_and_in_large_pictures():
    """Of every label, most letters are on the picture: nothing that is drawn later covers them."""
    for width, height in ((480, 360), (3840, 2160)):
        picture = np.full((height, width, 3), 114, np.uint8)
        left = np.linspace(0.05, 0.8, 12) * width
        top = height * (0.3 + 0.02 * (np.arange(12) % 3))
        boxes = np.stack((left, top, left + 0.1 * width, top + 0.4 * height), 1)
        classes, texts = np.zeros(12, np.int64), [f"person 0.{number}" for number in range(40, 52)]
        drawn = draw_boxes(picture, boxes, classes, texts)
        size = font_size_for(line_width_for(picture))
        letters = sum((text_mask(text, size) > 192).sum() for text in texts)
        # Where black letters cover three quarters of a pixel, a quarter of the red is left.
        dark = cv2.inRange(drawn, (0, 0, 0), tuple(c // 4 + 1 for c in class_colour(0)))
        assert readable_on(class_colour(0)) == (0, 0, 0)
        assert cv2.countNonZero(dark) == pytest.approx(letters, rel=0.05)
        assert 7 <= np.ptp(np.nonzero(text_mask("X", size) > 192)[0]) < 0.03 * height


def test_texts_of_followed_objects():
    assert label_texts(["car"], np.array([0, 0]), np.array([0.5, 0.4]), np.array([7, -1])) == [
        "#7 car 0.50",
        "car 0.40",
    ]


def test_labels_contrast_with_every_colour():
    for index in range(256):
        colour = class_colour(index)
        linear = [((np.array(c) / 255) ** 2.2) @ (0.2126, 0.7152, 0.0722) for c in (colour, readable_on(colour))]
        assert (max(linear) + 0.05) / (min(linear) + 0.05) >= 4.5, "what WCAG 2 asks of small text"
