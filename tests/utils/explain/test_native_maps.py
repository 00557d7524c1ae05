"""Maps over patches lie on the picture where the network saw it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.samples import Placement
from data.transforms.letterbox import LetterboxRule, apply_plan, plan_for_stride
from utils.explain.native_maps import enlarge, enlarge_smoothly

RULES = (
    LetterboxRule(),
    LetterboxRule(square=True),
    LetterboxRule(anchor="top-left"),
    LetterboxRule(fit="shortest", shrink="antialias"),
)


def test_whole_patches_are_repeated() -> None:
    maps = np.arange(12.0).reshape(2, 2, 3)
    assert np.array_equal(enlarge(maps, Placement(8, 12), 4), maps.repeat(4, 1).repeat(4, 2))
    twice = enlarge(maps, Placement(4, 6, 2.0, 2.0), 4)
    assert np.array_equal(twice, maps.repeat(2, 1).repeat(2, 2))


def test_padding_on_all_sides_is_left_out() -> None:
    # A picture of 5 x 9 pixels, enlarged twice, lies at (6, 3) of an input of 16 x 32 with patches of 4.
    values = np.arange(32.0).reshape(4, 8)
    placement = Placement(5, 9, 2.0, 2.0, left=6, top=3)
    found = enlarge(values, placement, 4)
    for y in range(5):
        for x in range(9):
            row, column = int((2 * y + 1 + 3) // 4), int((2 * x + 1 + 6) // 4)
            assert found[y, x] == values[row, column]


def test_smooth_maps_agree_at_the_centres_of_patches_and_keep_to_the_picture() -> None:
    values = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    smooth = enlarge_smoothly(values, Placement(15, 20), 5)
    assert np.allclose(smooth[2::5, 2::5], values)
    half_way = smooth[2, 2] + (smooth[2, 7] - smooth[2, 2]) * 2 / 5
    assert smooth[2, 4] == pytest.approx(half_way)
    # The picture covers the two middle columns; what padding beside it is attended to must not shine in.
    values = np.array([[9.0, 1.0, 2.0, 9.0]] * 2)
    smooth = enlarge_smoothly(values, Placement(8, 8, left=4.0), 4)
    assert smooth.max() == 2 and smooth.min() == 1


@settings(max_examples=30)
@given(
    rule=st.sampled_from(RULES),
    size=st.tuples(st.integers(24, 150), st.integers(24, 150)),
    where=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
)
def test_a_bright_spot_is_found_again(rule: LetterboxRule, size: tuple[int, int], where: tuple[float, float]) -> None:
    patch = 8
    plan = plan_for_stride(size, 96, patch, rule)
    image = np.zeros((*size, 3), np.uint8)
    cell = patch / plan.placement.scale_y, patch / plan.placement.scale_x
    y, x = where[0] * size[0], where[1] * size[1]
    top, left = (max(int(centre - 1.5 * side), 0) for centre, side in zip((y, x), cell, strict=True))
    bottom, right = (int(centre + 1.5 * side) + 2 for centre, side in zip((y, x), cell, strict=True))
    image[top:bottom, left:right] = 255
    seen = apply_plan(image, plan)[..., 0].astype(np.float64)
    seen[: plan.top], seen[:, : plan.left] = 0, 0
    seen[plan.top + plan.resized[0] :], seen[:, plan.left + plan.resized[1] :] = 0, 0
    rows, columns = (side // patch for side in plan.out)
    means = seen.reshape(rows, patch, columns, patch).mean((1, 3))
    for found in (enlarge(means, plan.placement, patch), enlarge_smoothly(means, plan.placement, patch)):
        assert found.shape == size
        assert found[min(int(y), size[0] - 1), min(int(x), size[1] - 1)] > 100
        ys, xs = np.indices(size)
        # No patch reaches farther than its own side beyond the spot; the smooth map does by half a side more.
        far = (ys < top - 1.6 * cell[0] - 1) | (ys > bottom + 1.6 * cell[0] + 1)
        far |= (xs < left - 1.6 * cell[1] - 1) | (xs > right + 1.6 * cell[1] + 1)
        assert found[far].max(initial=0) < 10
