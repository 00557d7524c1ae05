from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.geometry import (
    AffineDraw,
    affine_matrix,
    boxes_to_keep,
    draw_affine,
    flip_left_right,
    flip_up_down,
    similarity_matrix,
    visible_window,
    warp_boxes,
    warp_image,
    warp_keypoints,
    warp_points,
    warp_sample,
)
from utils.errors import DataError, ModelError

IDENTITY = np.eye(3)


def sample_with(boxes, keypoints=None, size=(40, 60), mask=None) -> Sample:
    rng = np.random.default_rng(0)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(
        image=rng.integers(0, 255, (*size, 3), np.uint8),
        boxes=boxes,
        classes=np.arange(len(boxes)),
        keypoints=None if keypoints is None else np.array(keypoints, np.float32),
        mask=mask,
        id="a.png",
    )


@pytest.mark.parametrize("case", [0, 1, 2])
def test_published_perspective_is_reproduced(shared, case):
    facts = json.loads((shared / "parity/metrics_augment.json").read_text())["random_perspective"][case]
    arrays = np.load(shared / "parity/metrics_augment.npz")
    drawn = facts["draws"]
    draw = AffineDraw(
        perspective=tuple(drawn["perspective"]),
        degrees=drawn["degrees"],
        scale=drawn["scale"],
        shear=tuple(drawn["shear_degrees"]),
        translate=tuple(drawn["translate_fraction"]),
    )
    labels = arrays["labels"]
    image = np.ascontiguousarray(arrays["image"][..., ::-1])
    sample = Sample(image=image, boxes=labels[:, 1:].astype(np.float32), classes=labels[:, 0].astype(np.int64))
    out = tuple(facts["out_hw"])
    moved = warp_sample(sample, affine_matrix(draw, image.shape[:2], out), out, draw.scale, max_aspect=20)
    expected = arrays[f"persp{case}_labels"]
    assert len(moved.boxes) == facts["kept"]
    np.testing.assert_array_equal(moved.classes, expected[:, 0])
    np.testing.assert_allclose(moved.boxes, expected[:, 1:], atol=1e-3)
    thumbnail = cv2.resize(moved.image, (8, 8), interpolation=cv2.INTER_AREA)[..., ::-1].astype(int)
    assert np.abs(thumbnail - arrays[f"persp{case}_image_mean_8x8"]).max() <= 3


def test_draws_stay_in_their_ranges_and_fill_them():
    hyp = {"degrees": 10, "translate": 0.1, "scale": 0.5, "shear": 5, "perspective": 0.0005}
    rng = np.random.default_rng(1)
    draws = [draw_affine(hyp, rng) for _ in range(500)]
    for values, low, high in [
        ([draw.degrees for draw in draws], -10, 10),
        ([draw.scale for draw in draws], 0.5, 1.5),
        ([draw.shear[1] for draw in draws], -5, 5),
        ([draw.translate[0] for draw in draws], 0.4, 0.6),
        ([draw.perspective[0] for draw in draws], -0.0005, 0.0005),
    ]:
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high >= max(values) > high - 0.05 * (high - low)


def test_an_empty_recipe_draws_nothing():
    assert draw_affine({}, np.random.default_rng(0)) == AffineDraw()
    np.testing.assert_allclose(affine_matrix(AffineDraw(), (40, 60), (40, 60)), IDENTITY, atol=1e-12)


@pytest.mark.parametrize("hyp", [{"scale": 1.0}, {"degrees": "10"}, {"translate": -0.1}, {"shear": float("nan")}])
def test_a_recipe_out_of_range_is_named(hyp):
    with pytest.raises(ModelError, match=f"'{next(iter(hyp))}'"):
        draw_affine(hyp, np.random.default_rng(0))


draws = st.builds(
    AffineDraw,
    perspective=st.tuples(st.floats(-5e-4, 5e-4), st.floats(-5e-4, 5e-4)),
    degrees=st.floats(-180, 180),
    scale=st.floats(0.3, 2),
    shear=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
    translate=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)


@given(draws)
def test_points_come_back_through_the_inverse(draw):
    matrix = affine_matrix(draw, (96, 128), (64, 64))
    points = np.array([[0.0, 0], [128, 0], [60, 40], [128, 96]])
    back = warp_points(warp_points(points, matrix), np.linalg.inv(matrix))
    np.testing.assert_allclose(back, points, atol=1e-6)


@given(draws)
def test_a_moved_box_holds_every_moved_point_of_the_box(draw):
    matrix = affine_matrix(draw, (96, 128), (64, 80))
    box = np.array([[20, 30, 90, 70]], np.float32)
    inside = np.stack(np.meshgrid(np.linspace(20, 90, 5), np.linspace(30, 70, 5)), -1).reshape(-1, 2)
    points = warp_points(inside, matrix).clip(0, (80, 64))
    x1, y1, x2, y2 = warp_boxes(box, matrix, (64, 80))[0]
    assert (points >= np.array([x1, y1]) - 1e-3).all() and (points <= np.array([x2, y2]) + 1e-3).all()


@given(draws)
def test_keypoints_move_as_box_corners_do(draw):
    matrix = affine_matrix(draw, (96, 128), (64, 80))
    keypoints = warp_keypoints(np.array([[[20, 30, 2], [90, 70, 1]]], np.float32), matrix, (64, 80))[0]
    points = warp_points(np.array([[20.0, 30], [90, 70]]), matrix)
    for moved, point, visibility in zip(keypoints, points, (2, 1), strict=True):
        if 0 <= point[0] < 80 and 0 <= point[1] < 64:
            np.testing.assert_allclose(moved, [*point, visibility], atol=1e-3)
        else:
            np.testing.assert_array_equal(moved, 0)


@pytest.mark.parametrize("perspective", [0.0, 3e-4])
def test_image_mask_box_and_keypoints_move_together(painted, bounding_box, perspective):
    sample = painted([(120, 160)]).load(0)
    draw = AffineDraw(scale=1.3, translate=(0.45, 0.55), perspective=(perspective, 0))
    moved = warp_sample(sample, affine_matrix(draw, (120, 160), (128, 128)), (128, 128), draw.scale)
    box = moved.boxes[0]
    np.testing.assert_allclose(bounding_box(moved.mask == 1), box, atol=1.5)
    np.testing.assert_allclose(bounding_box(moved.image[..., 0] > 180), box, atol=1.5)
    if not perspective:
        np.testing.assert_allclose(moved.keypoints[0, 0], [box[0], box[1], 2], atol=1e-3)


def test_uncovered_pixels_are_grey_and_ignored(painted):
    sample = painted([(40, 40)]).load(0)
    moved = warp_sample(sample, similarity_matrix(1, 1, 20, 0), (40, 40), 1.0)
    assert (moved.image[:, :20] == 114).all() and (moved.mask[:, :20] == 255).all()
    np.testing.assert_array_equal(moved.mask[:, 20:], sample.mask[:, :20])


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], True),
        ([0, 0, 10, 10], [0, 0, 2, 10], False),  # too narrow
        ([0, 0, 10, 10], [0, 0, 3, 3], False),  # 9 % of the area
        ([0, 0, 10, 10], [0, 0, 4, 4], True),  # 16 %
        ([0, 0, 90, 3], [0, 0, 90, 3], False),  # aspect 30
    ],
)
def test_which_boxes_are_kept(before, after, kept):
    before, after = np.array([before], np.float32), np.array([after], np.float32)
    assert boxes_to_keep(before, after, max_aspect=20).tolist() == [kept]


def test_area_is_compared_with_the_scaled_original():
    before, after = np.array([[0, 0, 100, 100]], np.float32), np.array([[0, 0, 25, 25]], np.float32)
    assert not boxes_to_keep(before, after)[0]
    assert boxes_to_keep(before, after, scale=0.5)[0]


def test_aspect_limit_defaults_to_100():
    boxes = np.array([[0, 0, 297, 3], [0, 0, 400, 3]], np.float32)
    assert boxes_to_keep(boxes, boxes).tolist() == [True, False]


def test_no_boxes_stay_no_boxes():
    moved = warp_sample(sample_with([]), IDENTITY, (40, 60), 1.0)
    assert moved.boxes.shape == (0, 4) and moved.classes.shape == (0,)


def test_flip_moves_box_keypoints_and_mask_with_the_image(painted, bounding_box):
    sample = painted([(60, 80)]).load(0)
    for flip in (flip_left_right, flip_up_down):
        moved = flip(sample)
        np.testing.assert_array_equal(bounding_box(moved.mask == 1), moved.boxes[0])
        np.testing.assert_array_equal(bounding_box(moved.image[..., 0] > 100), moved.boxes[0])
        assert (moved.keypoints[0, 3] == 0).all(), "an unlabelled keypoint stays at 0"
    assert flip_left_right(sample).keypoints[0, 0, 0] == 80 - sample.keypoints[0, 0, 0]
    assert flip_up_down(sample).keypoints[0, 0, 1] == 60 - sample.keypoints[0, 0, 1]


def test_pairs_trade_places_left_to_right():
    sample = sample_with([[10, 10, 30, 30]], [[[12, 11, 2], [28, 12, 1], [20, 20, 2]]])
    moved = flip_left_right(sample, [(0, 1)]).keypoints[0]
    np.testing.assert_array_equal(moved, [[32, 12, 1], [48, 11, 2], [40, 20, 2]])


@pytest.mark.parametrize("flip", [lambda sample: flip_left_right(sample, [(0, 1)]), flip_up_down])
def test_flipping_twice_changes_nothing_and_spares_the_input(painted, flip):
    sample = painted([(60, 80)]).load(0)
    back = flip(flip(sample))
    original = painted([(60, 80)]).load(0)
    for name in ("image", "boxes", "keypoints", "mask"):
        np.testing.assert_array_equal(getattr(back, name), getattr(original, name))
        np.testing.assert_array_equal(getattr(sample, name), getattr(original, name))


def test_pairs_beyond_the_data_sets_keypoints_are_refused():
    with pytest.raises(DataError, match=r"a\.png.*flip_pairs"):
        flip_left_right(sample_with([[1, 1, 9, 9]], [[[2, 2, 2]]]), [(0, 5)])


@pytest.mark.parametrize("perspective", [(0.0, 0.0), (0.001, -0.0005)])
def test_an_image_is_warped_as_opencv_warps_three_channels(perspective):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    draw = AffineDraw(perspective=perspective, degrees=20, scale=0.9, shear=(3, -4), translate=(0.4, 0.55))
    matrix = affine_matrix(draw, (40, 60), (50, 50))
    warp, rows = (cv2.warpPerspective, 3) if any(perspective) else (cv2.warpAffine, 2)
    expected = warp(image, matrix[:rows], (50, 50), flags=cv2.INTER_LINEAR, borderValue=(114,) * 3)
    with_alpha = np.dstack([image, np.zeros((40, 60), np.uint8)])
    for source in (image, with_alpha):
        warped = warp_image(source, matrix, (50, 50))
        assert warped.shape == (50, 50, 3) and np.abs(warped.astype(int) - expected).max() <= 1


@given(
    st.floats(0.1, 3),
    st.floats(-180, 180),
    st.tuples(*[st.floats(-0.004, 0.004)] * 2),
    st.tuples(*[st.floats(-1, 2)] * 2),
)
def test_nothing_outside_the_visible_window_is_seen(scale, degrees, perspective, translate):
    draw = AffineDraw(perspective=perspective, degrees=degrees, scale=scale, translate=translate)
    matrix = affine_matrix(draw, (50, 70), (40, 30))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    x1, y1, x2, y2 = visible_window(matrix, (50, 70), (40, 30))
    assert 0 <= x1 <= x2 <= 70 and 0 <= y1 <= y2 <= 50
    other = np.full_like(image, 7)
    other[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    np.testing.assert_array_equal(warp_image(other, matrix, (40, 30)), warp_image(image, matrix, (40, 30)))


def test_the_visible_window_is_no_larger_than_what_is_seen():
    matrix = affine_matrix(AffineDraw(scale=2.0), (100, 200), (60, 80))
    assert visible_window(matrix, (100, 200), (60, 80)) == (78, 33, 122, 67)
