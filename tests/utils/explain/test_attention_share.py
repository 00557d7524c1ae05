"""How much of a token's attention lies in its box."""

from __future__ import annotations

import numpy as np
import pytest

from data.samples import Placement
from utils.explain.attention_share import share_in_box

PLACED = Placement(height=40, width=60, scale_x=2.0, scale_y=2.0, top=0.0, left=0.0)
"""A picture of 60 x 40 pixels that an input of 120 x 80 shows twice as large: patches of 20 cover 10 of its pixels."""


def test_attention_on_the_box_alone_is_all_in_it() -> None:
    maps = np.zeros((2, 4, 6))
    maps[0, 1, 2] = maps[1, 2, 3] = 0.25
    shares = share_in_box(maps, np.array([20.0, 10.0, 40.0, 30.0]), PLACED, 20)
    np.testing.assert_allclose(shares.heads, [1, 1, 1])
    assert shares.area == pytest.approx(400 / 2400)


def test_even_attention_is_what_the_box_covers() -> None:
    shares = share_in_box(np.full((3, 4, 6), 0.01), np.array([7.0, 0.0, 60.0, 13.0]), PLACED, 20)
    np.testing.assert_allclose(shares.heads, shares.area)


def test_part_of_a_patch_counts_in_part() -> None:
    maps = np.zeros((1, 4, 6))
    maps[0, 0, 0] = 1
    shares = share_in_box(maps, np.array([0.0, 0.0, 5.0, 10.0]), PLACED, 20)
    np.testing.assert_allclose(shares.heads, 0.5)


def test_heads_stand_for_themselves_and_a_blind_one_says_nothing() -> None:
    maps = np.zeros((3, 4, 6))
    maps[0, 0, 0], maps[1, 3, 5] = 0.3, 0.1
    shares = share_in_box(maps, np.array([0.0, 0.0, 10.0, 10.0]), PLACED, 20)
    np.testing.assert_allclose(shares.heads, [0.75, 1, 0, np.nan])


def test_padding_and_boxes_beyond_the_picture_do_not_count() -> None:
    placed = Placement(height=20, width=60, scale_x=2.0, scale_y=2.0, top=20.0, left=0.0)
    maps = np.zeros((1, 4, 6))
    maps[0, 0], maps[0, 1, 0] = 1.0, 0.5  # row 0 of patches is padding
    shares = share_in_box(maps, np.array([-30.0, -30.0, 10.0, 90.0]), placed, 20)
    np.testing.assert_allclose(shares.heads, 1)
    assert shares.area == pytest.approx(1 / 6)
