from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from data.transforms.colour import (
    change_brightness,
    change_contrast,
    change_hue,
    change_saturation,
    draw_hsv_gains,
    draw_jitter,
    jitter,
    scale_hsv,
)


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth random colours, as a photograph has."""
    rng = np.random.default_rng(3)
    return np.kron(rng.integers(0, 256, (8, 10, 3)), np.ones((6, 6, 1))).astype(np.uint8)


@pytest.mark.parametrize("seed", [1, 2])
def test_published_hsv_is_reproduced(shared, seed):
    facts = json.loads((shared / "parity/metrics_augment.json").read_text())["hsv"]
    gains = next(entry["gains_h_s_v"] for entry in facts if entry["numpy_seed"] == seed)
    arrays = np.load(shared / "parity/metrics_augment.npz")
    rgb = np.ascontiguousarray(arrays["image"][..., ::-1])
    out = scale_hsv(rgb, tuple(gains))[::8, ::8, ::-1].astype(int)
    assert np.abs(out - arrays[f"hsv{seed}"]).max() <= 2


def test_hsv_gains_stay_in_their_ranges_and_fill_them():
    rng = np.random.default_rng(0)
    gains = np.array([draw_hsv_gains({"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4}, rng) for _ in range(500)])
    reach = np.array([0.015, 0.7, 0.4])
    assert (np.abs(gains - 1) <= reach).all()
    assert (gains.max(0) > 1 + 0.9 * reach).all() and (gains.min(0) < 1 - 0.9 * reach).all()


def test_no_gain_changes_nothing(photo):
    assert draw_hsv_gains({}, np.random.default_rng(0)) == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(scale_hsv(photo, (1.0, 1.0, 1.0)), photo)


def test_zero_saturation_gain_gives_grey(photo):
    out = scale_hsv(photo, (1.0, 0.0, 1.0))
    np.testing.assert_array_equal(out[..., 0], photo.max(-1))
    assert (out == out[..., :1]).all()


@pytest.mark.parametrize("factor", [0.0, 0.55, 1.0, 1.45])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (change_brightness, functional.adjust_brightness),
        (change_contrast, functional.adjust_contrast),
        (change_saturation, functional.adjust_saturation),
    ],
)
def test_changes_equal_torchvisions(photo, ours, theirs, factor):
    expected = theirs(torch.from_numpy(photo).permute(2, 0, 1), factor).permute(1, 2, 0).numpy()
    assert np.abs(ours(photo, factor).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("turn", [-0.5, -0.15, 0.0, 0.1])
def test_hue_equals_torchvisions_up_to_its_coarser_steps(photo, turn):
    expected = functional.adjust_hue(torch.from_numpy(photo).permute(2, 0, 1), turn).permute(1, 2, 0).numpy()
    difference = np.abs(change_hue(photo, turn).astype(int) - expected)
    assert difference.max() <= 10 and difference.mean() < 3


def test_jitter_draws_factors_in_range_in_random_order():
    rng = np.random.default_rng(0)
    drawn = [draw_jitter((0.45, 0.3, 2.0, 0.15), rng) for _ in range(300)]
    assert len({tuple(kind for kind, _ in changes) for changes in drawn}) == 24
    ranges = {"brightness": (0.55, 1.45), "contrast": (0.7, 1.3), "saturation": (0.0, 3.0), "hue": (-0.15, 0.15)}
    for kind, (low, high) in ranges.items():
        factors = [factor for changes in drawn for name, factor in changes if name == kind]
        assert low <= min(factors) < low + 0.05 * (high - low) and high >= max(factors) > high - 0.05 * (high - low)


def test_strength_zero_leaves_a_change_out(photo):
    assert draw_jitter((0, 0, 0, 0), np.random.default_rng(0)) == []
    np.testing.assert_array_equal(jitter(photo, []), photo)
    assert [kind for kind, _ in draw_jitter((0, 0.4, 0, 0), np.random.default_rng(0))] == ["contrast"]


def test_jitter_applies_in_the_given_order(photo):
    changes = [("brightness", 1.4), ("contrast", 0.6)]
    np.testing.assert_array_equal(jitter(photo, changes), change_contrast(change_brightness(photo, 1.4), 0.6))
    assert (jitter(photo, changes) != jitter(photo, changes[::-1])).any()


@pytest.mark.parametrize(
    "gains", [(0.985, 0.3, 0.6), (1.015, 1.7, 1.4), (0.993, 1.0, 0.8), (1.39271, 0.5173, 1.2018), (1.9, 1, 1)]
)
def test_hsv_gains_equal_a_table_per_channel(gains):
    """The published form looks every channel up in a table of 256 entries; hue goes around a circle of 180."""
    image = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    levels = np.arange(256, dtype=np.float64)
    columns = [(levels * gains[0]) % 180, (levels * gains[1]).clip(0, 255), (levels * gains[2]).clip(0, 255)]
    table = np.stack(columns, 1).astype(np.uint8)[None]
    expected = cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)
    assert np.abs(scale_hsv(image, gains).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("gains", [(0.985, 0.3, 1.4), (1.9, 0.5, 1.1)])
def test_hsv_can_be_changed_in_place_and_in_a_part_of_an_image(photo, gains):
    kept = photo.copy()
    expected = scale_hsv(photo, gains)
    np.testing.assert_array_equal(photo, kept)
    larger = np.zeros((100, 100, 3), np.uint8)
    part = larger[3 : 3 + photo.shape[0], 5 : 5 + photo.shape[1]]
    scale_hsv(photo, gains, out=part)
    np.testing.assert_array_equal(part, expected)
    part[:] = 0
    assert not larger.any(), "nothing beside the part was written"
    assert scale_hsv(photo, gains, out=photo) is photo
    np.testing.assert_array_equal(photo, expected)
    again = scale_hsv(kept, gains)
    scale_hsv(255 - kept, gains)
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("gains", [(0.985, 0.3, 0.6), (1.015, 1.7, 1.4), (1.39271, 0.5173, 1.2018)])
def test_hsv_gains_equal_the_plain_calls_of_opencv(gains):
    # Rows of 64 pixels, because OpenCV rounds otherwise at the end of others.
    image = np.random.default_rng(2).integers(0, 256, (61, 64, 3), dtype=np.uint8)
    cut_off = np.column_stack([np.diag(gains), np.full(3, -0.5 + 2**-13)])
    hsv = cv2.transform(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), cut_off)
    np.testing.assert_array_equal(scale_hsv(image, gains), cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
