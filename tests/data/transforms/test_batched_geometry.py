from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.transforms.batched_geometry import (
    AffineRanges,
    Views,
    affine_matrices,
    inverse_matrices,
    warp_images,
    warp_masks,
)
from data.transforms.geometry import affine_matrix, draw_affine

HYP = {"degrees": 40, "translate": 0.2, "scale": 0.6, "shear": 12, "perspective": 0.001}
SIDE = 40
TILE_SIZES = [(30, 40), (40, 25), (40, 40), (22, 40)]
FRAME = (40, 48)


@pytest.mark.parametrize("source", [64, 128])
def test_matrices_equal_those_of_single_draws(source):
    generators = [[np.random.default_rng(seed) for seed in range(20)] for _ in range(2)]
    draws = [draw_affine(HYP, rng) for rng in generators[0]]
    units = np.stack([rng.uniform(-1, 1, 8) for rng in generators[1]])
    matrices, zooms = affine_matrices(units, AffineRanges.of(HYP), np.full(20, source), 64)
    expected = [affine_matrix(draw, (source, source), (64, 64)) for draw in draws]
    np.testing.assert_allclose(matrices, expected, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(zooms, [draw.scale for draw in draws])


def tiles_and_canvas(centre: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return framed pictures and masks, their corners, and the canvas and its mask that they make."""
    rng = np.random.default_rng(0)
    pictures = np.full((4, *FRAME, 3), 114, np.uint8)
    masks = np.full((4, *FRAME), 255, np.uint8)
    canvas, classes = np.full((2 * SIDE, 2 * SIDE, 3), 114, np.uint8), np.full((2 * SIDE, 2 * SIDE), 255, np.uint8)
    corners = []
    for place, (height, width) in enumerate(TILE_SIZES):
        pictures[place, :height, :width] = rng.integers(0, 256, (height, width, 3))
        masks[place, :height, :width] = rng.integers(0, 9, (height, width))
        left = centre[0] - width if place % 2 == 0 else centre[0]
        top = centre[1] - height if place < 2 else centre[1]
        corners.append((left, top))
        ys, xs = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        on = (ys + top >= 0) & (ys + top < 2 * SIDE) & (xs + left >= 0) & (xs + left < 2 * SIDE)
        canvas[ys[on] + top, xs[on] + left] = pictures[place][ys[on], xs[on]]
        classes[ys[on] + top, xs[on] + left] = masks[place][ys[on], xs[on]]
    return pictures, masks, np.array(corners), canvas, classes


def view_of(corners: np.ndarray, matrix: np.ndarray, across: bool = False, down: bool = False) -> Views:
    inverse = inverse_matrices(matrix[None], np.array([across]), np.array([down]), SIDE)
    return Views(
        places=torch.arange(4)[None],
        corners=torch.from_numpy(corners[None].astype(np.float32)),
        canvas=torch.tensor([[2.0 * SIDE, 2.0 * SIDE]]),
        inverse=torch.from_numpy(inverse.astype(np.float32)),
        frame=torch.tensor([FRAME[1], FRAME[0]], dtype=torch.float32),
        perspective=bool(matrix[2, :2].any()),
    )


def bilinear(canvas: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Interpolate a canvas on grey at every output pixel, in float64."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    x, y, w = np.einsum("ij,jhw->ihw", np.linalg.inv(matrix), np.stack([columns, rows, np.ones_like(rows)]))
    x, y = x / w, y / w
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    out = np.zeros((SIDE, SIDE, 3))
    for dy in (0, 1):
        for dx in (0, 1):
            inside = (x0 + dx >= 0) & (x0 + dx < 2 * SIDE) & (y0 + dy >= 0) & (y0 + dy < 2 * SIDE)
            values = canvas[(y0 + dy).clip(0, 2 * SIDE - 1), (x0 + dx).clip(0, 2 * SIDE - 1)].astype(float)
            weight = (1 - np.abs(x - x0 - dx)) * (1 - np.abs(y - y0 - dy))
            out += np.where(inside[..., None], values, 114) * weight[..., None]
    return out


@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 999), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_tiles_are_seen_as_on_one_canvas(x, y, seed, across, down, perspective):
    pictures, masks, corners, canvas, classes = tiles_and_canvas((x, y))
    draw = draw_affine(HYP if perspective else HYP | {"perspective": 0}, np.random.default_rng(seed))
    matrix = affine_matrix(draw, (2 * SIDE, 2 * SIDE), (SIDE, SIDE))
    view = view_of(corners, matrix, across, down)
    image = warp_images(torch.from_numpy(pictures), view, (SIDE, SIDE))[0].numpy()
    expected = bilinear(canvas, matrix)
    mask = warp_masks(torch.from_numpy(masks), view, (SIDE, SIDE))[0].numpy()
    nearest = cv2.warpPerspective(classes, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST, borderValue=255)
    if across:
        expected, nearest = expected[:, ::-1], nearest[:, ::-1]
    if down:
        expected, nearest = expected[::-1], nearest[::-1]
    assert np.abs(image - expected).max() < 1
    assert (mask != nearest).mean() < 0.02, "but for pixels that lie half-way"


@pytest.mark.parametrize("shift", [0.0, 0.5, 0.25])
@pytest.mark.parametrize("centre", [(33, 41), (40, 40)])
def test_every_mask_pixel_comes_from_one_tile_even_half_way_between_two(shift, centre):
    _, masks, corners, _, _ = tiles_and_canvas(centre)
    for place in range(4):
        masks[place][masks[place] != 255] = 10 * (place + 1)
    values = set(np.unique(masks))
    matrix = np.array([[1, 0, -20 + shift], [0, 1, -20 + shift], [0, 0, 1.0]])
    mask = warp_masks(torch.from_numpy(masks), view_of(corners, matrix), (SIDE, SIDE))
    assert set(np.unique(mask)) <= values
    assert (mask != 255).float().mean() > 0.5


def test_no_pixel_of_a_canvas_is_seen_beyond_its_border():
    pictures, _, corners, canvas, _ = tiles_and_canvas((20, 60))
    assert (corners < 0).any(), "a tile reaches beyond the canvas"
    matrix = np.array([[0.4, 0, 4], [0, 0.4, 4], [0, 0, 1.0]])
    image = warp_images(torch.from_numpy(pictures), view_of(corners, matrix), (SIDE, SIDE))[0].numpy()
    np.testing.assert_allclose(image, bilinear(canvas, matrix), atol=1)
    assert (image[:4] == 114).all() and (image[:, :3] == 114).all()
