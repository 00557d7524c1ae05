from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.geometry import AffineDraw, similarity_matrix, warp_points
from data.transforms.yolox_mosaic import draw_origin_affine, origin_matrix, place_tile, warp_mosaic
from utils.errors import ModelError

SIZE = (96, 128)


def plain_tile(level: int, size: tuple[int, int]) -> Sample:
    """Return a tile of one grey level with a marked square, which box and keypoints (its corners) describe."""
    image = np.full((*size, 3), level, np.uint8)
    image[20:40, 10:34] = 255
    mask = np.full(size, level // 40, np.uint8)
    points = [[10, 20, 2], [34, 20, 1], [34, 40, 2], [5, 5, 0]]
    return Sample(
        image=image,
        boxes=np.array([[10, 20, 34, 40]], np.float32),
        classes=np.array([level]),
        keypoints=np.array([points], np.float32),
        mask=mask,
        id=f"{level}.png",
    )


TILES = [plain_tile(40, (96, 60)), plain_tile(80, (50, 128)), plain_tile(120, (72, 128)), plain_tile(160, (96, 128))]


@given(
    st.integers(0, 3),
    st.tuples(st.integers(0, 256), st.integers(0, 192)),
    st.tuples(st.integers(1, 96), st.integers(1, 128)),
)
def test_a_tile_touches_the_centre_and_is_cut_at_the_canvas(position, centre, tile):
    (x1, y1, x2, y2), (left, top, right, bottom) = place_tile(position, centre, tile, (192, 256))
    assert 0 <= x1 <= x2 <= 256 and 0 <= y1 <= y2 <= 192
    assert (x2 - x1, y2 - y1) == (right - left, bottom - top)
    if x2 > x1:
        assert (x2 if position % 2 == 0 else x1) == centre[0]
    if y2 > y1:
        assert (y2 if position < 2 else y1) == centre[1]
    if x2 > x1 and y2 > y1:
        assert 0 <= left < right <= tile[1] and 0 <= top < bottom <= tile[0]


def test_tiles_come_in_reading_order():
    matrix = similarity_matrix(0.5, 0.5, 0, 0)
    sample = warp_mosaic(TILES.__getitem__, (128, 96), SIZE, matrix)
    levels = [sample.image[y, x, 0] for y, x in ((44, 62), (44, 66), (50, 62), (94, 126))]
    assert levels == [40, 80, 120, 160]
    assert sample.image[0, 0].tolist() == [114] * 3, "the first tile is narrow; beside it lies grey"
    assert sample.mask[0, 0] == 255 and sample.mask[94, 126] == 4
    assert sample.id == "40.png" and sample.classes.tolist() == [40, 80, 120, 160]


@pytest.mark.parametrize("degrees", [0, 9, -8])
@pytest.mark.parametrize("zoom", [0.5, 0.8])
def test_boxes_and_keypoints_follow_the_marks(degrees, zoom):
    draw = AffineDraw(degrees=degrees, scale=zoom, shear=(1.5, -2), translate=(0.05, 0.1))
    sample = warp_mosaic(TILES.__getitem__, (120, 90), SIZE, origin_matrix(draw, SIZE))
    marked = sample.image[..., 0] > 200
    rows, columns = np.nonzero(marked)
    inside, corners = np.zeros(len(rows), bool), 0
    for (x1, y1, x2, y2), points in zip(sample.boxes, sample.keypoints, strict=True):
        near = (columns >= x1 - 1) & (columns <= x2) & (rows >= y1 - 1) & (rows <= y2)
        inside |= near
        if x1 > 0 and x2 < SIZE[1] and y1 > 0 and y2 < SIZE[0]:
            assert near.sum() > 0.5 * (x2 - x1) * (y2 - y1)
        seen = points[points[:, 2] > 0]
        assert (seen[:, :2] >= (x1 - 0.01, y1 - 0.01)).all() and (seen[:, :2] <= (x2 + 0.01, y2 + 0.01)).all()
        for x, y in seen[:, :2].round().astype(int):
            if 3 < x < SIZE[1] - 3 and 3 < y < SIZE[0] - 3:
                around = marked[y - 3 : y + 3, x - 3 : x + 3]
                assert around.any() and not around.all(), "a corner of a mark has marked and other pixels around it"
                corners += 1
    assert inside.all(), "no mark is without a box"
    assert len(rows) > 200 and corners >= 4


def test_what_lies_beyond_the_canvas_is_lost_even_where_the_result_would_show_it():
    # The fourth tile begins 20 pixels before the canvas ends, in the middle of its mark; half size shows all of that.
    sample = warp_mosaic(TILES.__getitem__, (236, 96), SIZE, similarity_matrix(0.5, 0.5, 0, 0))
    box, points = sample.boxes[3], sample.keypoints[3]
    np.testing.assert_allclose(box, np.array([246, 116, 256, 136]) / 2)
    assert points[:, 2].tolist() == [2, 0, 0, 0], "the corners to the right are beyond the canvas"


@given(st.floats(-10, 10), st.floats(0.1, 2), st.floats(-2, 2), st.floats(-0.1, 0.1))
def test_only_the_seen_window_is_made_but_nothing_seen_is_missing(degrees, zoom, shear, shift):
    draw = AffineDraw(degrees=degrees, scale=zoom, shear=(shear, -shear), translate=(shift, shift))
    matrix = origin_matrix(draw, SIZE)
    loaded = []

    def load(position: int) -> Sample:
        loaded.append(position)
        return TILES[position]

    sample = warp_mosaic(load, (100, 80), SIZE, matrix)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    source = warp_points(np.stack([columns, rows], -1).reshape(-1, 2).astype(float), np.linalg.inv(matrix))
    # Away from every edge of canvas, tile and mark a pixel has exactly its source's level.
    level = np.full(len(source), 114)
    sure = np.ones(len(source), bool)
    for position, tile in enumerate(TILES):
        place = place_tile(position, (100, 80), tile.image.shape[:2], (192, 256))
        x, y = (source - (place.canvas[0] - place.tile[0], place.canvas[1] - place.tile[1])).T
        (x1, y1, x2, y2), (left, top, right, bottom) = place.tile, (10, 20, 34, 40)
        level[(x >= x1) & (x < x2) & (y >= y1) & (y < y2)] = tile.image[0, 0, 0]
        level[(x >= left) & (x < right) & (y >= top) & (y < bottom) & (x >= x1) & (y >= y1) & (x < x2) & (y < y2)] = 255
        for value, edges in ((x, (x1, x2, left, right)), (y, (y1, y2, top, bottom))):
            for edge in edges:
                sure &= np.abs(value - edge) > 1.5
    sure &= (source > 1.5).all(1) & (source < (254, 190)).all(1)
    np.testing.assert_array_equal(sample.image.reshape(-1, 3)[sure, 0], level[sure])
    assert loaded[0] == 0 and len(loaded) == len(set(loaded))


def test_tiles_out_of_sight_are_not_loaded():
    loaded = []

    def load(position: int) -> Sample:
        loaded.append(position)
        return TILES[position]

    warp_mosaic(load, (180, 140), SIZE, similarity_matrix(2, 2, 0, 0))
    assert loaded == [0]
    warp_mosaic(load, (20, 20), SIZE, similarity_matrix(2, 2, -200, -200))
    assert loaded[1:] == [0, 3], "the first is the sample that was asked for"


def test_draws_lie_in_their_ranges():
    hyp = {"degrees": 10, "translate": 0.1, "shear": 2, "mosaic_scale": [0.1, 2.0]}
    rng = np.random.default_rng(0)
    draws = [draw_origin_affine(hyp, rng) for _ in range(3000)]
    table = np.array([[draw.degrees, draw.scale, *draw.shear, *draw.translate] for draw in draws])
    low, high = np.array([-10, 0.1, -2, -2, -0.1, -0.1]), np.array([10, 2, 2, 2, 0.1, 0.1])
    assert (table >= low).all() and (table <= high).all()
    assert (np.abs(table.mean(0) - (low + high) / 2) < 0.03 * (high - low)).all()
    np.testing.assert_allclose(table.std(0), (high - low) / np.sqrt(12), rtol=0.05)


def test_one_key_does_not_change_what_another_draws():
    one = draw_origin_affine({"degrees": 10, "translate": 0.1}, np.random.default_rng(3))
    two = draw_origin_affine({"translate": 0.1, "shear": 2, "mosaic_scale": [1, 1]}, np.random.default_rng(3))
    assert one.translate == two.translate and one.degrees != 0 and two.degrees == 0 and two.scale == 1


@pytest.mark.parametrize("wrong", [[2.0, 0.1], [0, 1], 0.5, [0.5], [0.5, "1"]])
def test_a_wrong_zoom_is_refused(wrong):
    with pytest.raises(ModelError, match="mosaic_scale"):
        draw_origin_affine({"mosaic_scale": wrong}, np.random.default_rng(0))
