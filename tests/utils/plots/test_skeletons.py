"""Skeletons: who is drawn where, in which colour, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data.keypoints import COCO_PERSON, KeypointSpec, generic_keypoints
from utils.plots.drawing import line_width_for
from utils.plots.palette import class_colour
from utils.plots.skeletons import LEFT, MIDDLE, RIGHT, Poses2d, draw_poses, keypoint_colours

GREY = np.full((120, 160, 3), 114, np.uint8)
PAIR = KeypointSpec(("nose", "left", "right"), (0, 2, 1), (0.1, 0.1, 0.1), ((0, 1), (1, 2)))
POINTS = np.array([[[80, 20], [30, 90], [130, 90]]], float)


def drawn(visibility: list[int], spec: KeypointSpec = PAIR, points: np.ndarray = POINTS) -> np.ndarray:
    labels = np.concatenate([points, np.array(visibility, float).reshape(1, -1, 1)], 2)
    return draw_poses(GREY, Poses2d.from_labels(labels), spec, 2)


def at(picture: np.ndarray, x: int, y: int) -> tuple[int, ...]:
    return tuple(picture[y, x].tolist())


def test_points_and_links_have_the_colour_of_their_side() -> None:
    picture = drawn([2, 2, 2])
    assert (at(picture, 80, 20), at(picture, 30, 90), at(picture, 130, 90)) == (MIDDLE, LEFT, RIGHT)
    assert at(picture, 80, 90) == MIDDLE, "a link between the sides"
    limb = drawn([2, 2, 2], replace(PAIR, skeleton=((0, 1),)))
    assert at(limb, 80, 90) == (114, 114, 114) and at(limb, 55, 55) != (114, 114, 114)
    assert (GREY == 114).all(), "the picture itself is not touched"


def test_what_is_not_labelled_is_left_out_with_its_links() -> None:
    picture = drawn([2, 0, 2])
    assert (picture[60:, :60] == 114).all() and at(picture, 80, 90) == (114, 114, 114)
    assert (drawn([0, 0, 0]) == 114).all()


def test_hidden_keypoints_are_rings() -> None:
    no_links = replace(PAIR, skeleton=())
    picture = drawn([1, 2, 2], no_links)
    assert at(picture, 80, 20) == (114, 114, 114) and (picture[14:27, 74:87] != 114).any()
    assert at(picture, 30, 90) == LEFT


def test_only_sure_keypoints_of_a_prediction_are_drawn() -> None:
    found = np.concatenate([POINTS, [[[0.9], [0.29], [0.3]]]], 2)
    assert Poses2d.from_scores(found, 0.3).shown.tolist() == [[True, False, True]]
    assert Poses2d.from_scores(found, 0.0).shown.all()
    found[0, 0, 0] = np.nan
    assert Poses2d.from_scores(found, 0.3).shown.tolist() == [[False, False, True]]
    assert not Poses2d.from_scores(found, 0.3).hidden.any()


@pytest.mark.parametrize("spec", [COCO_PERSON, generic_keypoints(1), generic_keypoints(40)])
def test_any_number_of_keypoints_anywhere(spec: KeypointSpec) -> None:
    far = np.random.default_rng(0).uniform(-1e9, 1e9, (3, len(spec), 2))
    far[0] /= 1e7
    for points in (far, far[:0], np.full_like(far, np.nan)):
        labels = np.concatenate([points, np.full((*points.shape[:2], 1), 2.0)], 2)
        assert draw_poses(GREY, Poses2d.from_labels(labels), spec).shape == GREY.shape


def test_colours_follow_names_before_order() -> None:
    assert keypoint_colours(PAIR) == [MIDDLE, LEFT, RIGHT]
    assert keypoint_colours(replace(PAIR, names=("nose", "Right", "Left"))) == [MIDDLE, RIGHT, LEFT]
    assert keypoint_colours(replace(PAIR, names=("a", "b", "c"))) == [MIDDLE, LEFT, RIGHT]
    assert keypoint_colours(COCO_PERSON)[5:7] == [LEFT, RIGHT] and keypoint_colours(COCO_PERSON)[0] == MIDDLE
    plain = keypoint_colours(generic_keypoints(4))
    assert plain == [class_colour(i) for i in range(4)] and len(set(plain)) == 4


def test_small_objects_get_thinner_lines_than_large_ones() -> None:
    canvas = np.full((900, 900, 3), 114, np.uint8)
    shown = np.ones((1, 3), bool)

    def drawn_at(scale: float, width: int | None = None) -> np.ndarray:
        return draw_poses(canvas, Poses2d(POINTS * scale, shown, ~shown), PAIR, width)

    width = line_width_for(canvas)
    assert width > 2
    np.testing.assert_array_equal(drawn_at(5), drawn_at(5, width))
    small, thick = ((picture != 114).any(-1).sum() for picture in (drawn_at(0.3), drawn_at(0.3, width)))
    assert small < 0.8 * thick


def test_the_first_object_lies_on_top() -> None:
    points = np.stack([POINTS[0], POINTS[0][[0, 2, 1]]])
    labels = np.concatenate([points, np.full((2, 3, 1), 2.0)], 2)
    assert at(draw_poses(GREY, Poses2d.from_labels(labels), PAIR, 2), 30, 90) == LEFT
