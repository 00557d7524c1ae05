"""How pictures are cut into tiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tiles import MOST_TILES, Tile, Tiling
from utils.command_lines.tiles import tiling_of
from utils.errors import UsageError


@settings(max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(32, 100), st.floats(0, 0.8))
def test_tiles_cover_a_picture_with_the_overlap_and_own_every_pixel_once(height, width, size, overlap):
    tiles = Tiling(size, overlap).tiles(height, width)
    owners = np.zeros((height, width), int)
    for tile in tiles:
        assert (tile.height, tile.width) == (min(size, height), min(size, width)), "all tiles of a picture are equal"
        top, left, bottom, right = tile.own
        assert tile.top <= top < bottom <= tile.top + tile.height
        assert tile.left <= left < right <= tile.left + tile.width
        owners[top:bottom, left:right] += 1
        ends = tile.left > 0, tile.top > 0, tile.left + tile.width < width, tile.top + tile.height < height
        assert tile.inner == ends
    assert (owners == 1).all()
    for starts in (sorted({tile.left for tile in tiles}), sorted({tile.top for tile in tiles})):
        # A start is rounded to whole pixels, so a pixel may be missing.
        assert all(after - before <= size * (1 - overlap) + 1 for before, after in pairwise(starts))


def test_a_pixel_is_owned_by_the_tile_that_has_it_deepest_inside():
    tiles = Tiling(100, 0.5).tiles(100, 200)
    assert [(tile.left, tile.own) for tile in tiles] == [
        (0, (0, 0, 100, 75)),
        (50, (0, 75, 100, 125)),
        (100, (0, 125, 100, 200)),
    ]
    image = np.arange(100 * 200 * 3).reshape(100, 200, 3)
    assert np.array_equal(tiles[1].of(image), image[:, 50:150])
    assert Tile.whole(100, 200).of(image) is not None
    assert np.array_equal(Tile.whole(100, 200).of(image), image)


def test_what_cannot_be_cut_is_said():
    assert tiling_of(None) is None
    assert tiling_of(["640", "0.25"]) == Tiling(640, 0.25)
    for values, words in (
        (["31", "0"], "at least 32 pixels"),
        (["640", "0.95"], "by a share of 0 to 0.9, not by 0.95"),
        (["640", "-0.1"], "by a share of 0 to 0.9"),
        (["640", "nan"], "by a share of 0 to 0.9"),
        (["640.5", "0.2"], "--tile 640.5 0.2: SIZE is a whole number"),
        (["wide", "0.2"], "SIZE is a whole number"),
    ):
        with pytest.raises(UsageError, match=words):
            tiling_of(values)
    with pytest.raises(UsageError, match=f"the most are {MOST_TILES}"):
        Tiling(32, 0.9).tiles(2000, 2000)
