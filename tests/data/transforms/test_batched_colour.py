from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from data.transforms.batched_colour import hsv_to_rgb, jitter_batch, rgb_to_hsv, scale_hsv_batch
from data.transforms.colour import JITTERS, draw_jitter, jitter, scale_hsv


@pytest.fixture
def photos() -> np.ndarray:
    """Random colours, dull and vivid ones, black and white."""
    rng = np.random.default_rng(3)
    photos = rng.integers(0, 256, (4, 60, 70, 3), np.uint8)
    photos[1] = photos[1] // 4 + 90
    photos[2, :20] = rng.integers(0, 256, (20, 70, 1), np.uint8)
    photos[3, :5], photos[3, 5:10] = 0, 255
    return photos


def test_hsv_is_opencvs(photos):
    ours = torch.stack(rgb_to_hsv(torch.from_numpy(photos)), -1).numpy()
    np.testing.assert_array_equal(ours, [cv2.cvtColor(photo, cv2.COLOR_RGB2HSV) for photo in photos])


def test_the_way_back_is_opencvs_to_its_last_level():
    levels = np.stack(np.meshgrid(np.arange(180), np.arange(0, 256, 5), np.arange(0, 256, 5), indexing="ij"), -1)
    levels = levels.reshape(1, -1, 3).astype(np.uint8)
    ours = hsv_to_rgb(*torch.from_numpy(levels).float().unbind(-1)).numpy()
    theirs = cv2.cvtColor(levels, cv2.COLOR_HSV2RGB)
    # Another build of OpenCV may round where this one cuts off.
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("seed", range(3))
def test_gains_equal_those_of_single_images(photos, seed):
    gains = np.random.default_rng(seed).uniform(0.3, 1.7, (4, 3)).astype(np.float32)
    ours = scale_hsv_batch(torch.from_numpy(photos.copy()), torch.from_numpy(gains)).numpy()
    theirs = np.stack([scale_hsv(photo, tuple(gain)) for photo, gain in zip(photos, gains.tolist(), strict=True)])
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.mean() < 0.5 and np.quantile(apart, 0.999) <= 3


@pytest.mark.parametrize("strengths", [(0.4, 0.4, 0.4, 0.0), (0.4, 0.4, 0.4, 0.1), (0.4, 0, 0, 0), (0, 0.9, 0, 0.5)])
def test_jitter_equals_that_of_single_images(photos, strengths):
    rng = np.random.default_rng(0)
    changes = [draw_jitter(strengths, rng) for _ in photos]
    kinds = torch.tensor([[JITTERS.index(kind) for kind, _ in drawn] for drawn in changes])
    factors = torch.tensor([[factor for _, factor in drawn] for drawn in changes])
    ours = jitter_batch(torch.from_numpy(photos.copy()), kinds, factors, with_hue=strengths[3] > 0).numpy()
    theirs = np.stack([jitter(photo, drawn) for photo, drawn in zip(photos, changes, strict=True)])
    apart = np.abs(ours.astype(int) - theirs)
    assert apart.mean() < 0.5 and np.quantile(apart, 0.99) <= (3 if strengths[3] else 1)
