from __future__ import annotations

import colorsys

import cv2
import numpy as np
import pytest

from data.transforms.hsv_shift import draw_hsv_shift, shift_hsv
from utils.errors import ModelError


def by_hand(image: np.ndarray, shifts: tuple[int, int, int]) -> np.ndarray:
    """Shift in wide integers, by way of BGR as published."""
    hsv = cv2.cvtColor(image[..., ::-1].copy(), cv2.COLOR_BGR2HSV).astype(np.int64)
    hsv[..., 0] = (hsv[..., 0] + shifts[0]) % 180
    hsv[..., 1:] = (hsv[..., 1:] + shifts[1:]).clip(0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)[..., ::-1]


@pytest.mark.parametrize("shifts", [(5, 30, 30), (-5, -30, -30), (3, 0, -17), (0, 0, 12), (-1, 9, 0), (120, -200, 90)])
def test_colours_are_those_of_the_published_way_through_bgr(shifts):
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    kept = image.copy()
    difference = np.abs(shift_hsv(image, shifts).astype(int) - by_hand(image, shifts))
    assert difference.max() <= 2
    np.testing.assert_array_equal(image, kept)


def test_the_hue_turns_red_to_violet_and_not_to_green():
    red = np.full((1, 1, 3), (250, 10, 10), np.uint8)
    turned = shift_hsv(red, (-5, 0, 0))[0, 0] / 255
    hue, saturation, value = colorsys.rgb_to_hsv(*turned.tolist())
    assert hue * 180 == pytest.approx(175, abs=1)
    assert (saturation, value) == (pytest.approx(240 / 250, abs=0.01), pytest.approx(250 / 255, abs=0.01))


def test_grey_stays_grey_and_nothing_added_is_no_copy():
    grey = np.full((4, 4, 3), 114, np.uint8)
    assert shift_hsv(grey, (0, 0, 0)) is grey
    np.testing.assert_array_equal(shift_hsv(grey, (5, 0, 20)), np.full((4, 4, 3), 134))


def test_draws_lie_in_their_ranges_and_each_rests_half_of_the_time():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_hsv_shift({"hsv_shift": [5, 30, 60]}, rng) for _ in range(4000)])
    assert (np.abs(drawn) <= (5, 30, 60)).all() and drawn.dtype.kind == "i"
    assert (drawn.min(0) <= (-4, -27, -55)).all() and (drawn.max(0) >= (4, 27, 55)).all()
    # Cutting fractions off gives a few more zeros than the coins.
    np.testing.assert_allclose((drawn == 0).mean(0), 0.5 + 0.5 / np.array([5, 30, 60]), atol=0.03)


@pytest.mark.parametrize("wrong", [[5, 30], 5, [5, 30, -1], [5, 30, 256]])
def test_wrong_ranges_are_refused(wrong):
    with pytest.raises(ModelError, match="hsv_shift"):
        draw_hsv_shift({"hsv_shift": wrong}, np.random.default_rng(0))
