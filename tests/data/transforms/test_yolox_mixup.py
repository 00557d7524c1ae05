from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.samples import Sample
from data.transforms.yolox_mixup import MixupDraw, draw_mixup, fit_partner
from utils.errors import ModelError

SIZE = (96, 128)
PAIRS = ((0, 1),)


def partner(size: tuple[int, int] = (48, 128)) -> Sample:
    """Return a picture of level 60 with a mark of 250 whose upper corners are a pair of keypoints."""
    height, width = size
    x1, y1, x2, y2 = width // 4, height // 4, width // 2, height // 4 * 3
    image = np.full((height, width, 3), 60, np.uint8)
    image[y1:y2, x1:x2] = 250
    mask = np.zeros(size, np.uint8)
    mask[y1:y2, x1:x2] = 7
    points = [[x1, y1, 2], [x2, y1, 1], [(x1 + x2) / 2, y2, 2]]
    return Sample(image, np.array([[x1, y1, x2, y2]], np.float32), np.array([3]), np.array([points], np.float32), mask)


draws = st.builds(MixupDraw, st.floats(0.5, 1.6), st.booleans(), st.tuples(st.floats(0, 1), st.floats(0, 1)).map(tuple))


@given(draws, st.tuples(st.integers(30, 200), st.integers(30, 200)), st.sampled_from([0, 114]))
def test_box_mask_and_keypoints_follow_the_mark(draw, size, pad):
    fitted = fit_partner(partner(size), draw, SIZE, pad, PAIRS)
    assert fitted.image.shape == (*SIZE, 3) and fitted.mask.shape == SIZE
    rows, columns = np.nonzero(fitted.image[..., 0] > 155)
    x1, y1, x2, y2 = fitted.boxes[0]
    assert 0 <= x1 <= x2 <= SIZE[1] and 0 <= y1 <= y2 <= SIZE[0]
    if x2 - x1 > 4 and y2 - y1 > 4:
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(found, fitted.boxes[0], atol=1.6)
        marked = fitted.mask == 7
        assert marked[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2].all()
        assert marked.sum() <= (x2 - x1 + 2) * (y2 - y1 + 2)
    else:
        assert len(rows) <= (x2 - x1 + 3) * (y2 - y1 + 3)
    first, second, third = fitted.keypoints[0]
    for x, y, visibility in (first, second, third):
        assert visibility == 0 or (x1 - 0.01 <= x <= x2 + 0.01 and y1 - 0.01 <= y <= y2 + 0.01)
    if first[2] and second[2]:
        assert first[0] < second[0], "of a mirrored pair the left one is on the left again"
        assert (first[2], second[2]) == ((1, 2) if draw.mirrored else (2, 1))


@pytest.mark.parametrize(("pad", "mirrored"), [(0, False), (114, False), (0, True)])
def test_beyond_the_zoomed_letterbox_lies_the_pad(pad, mirrored):
    fitted = fit_partner(partner(), MixupDraw(0.5, mirrored, (0.9, 0.9)), SIZE, pad)
    levels = fitted.image[..., 0]
    assert set(np.unique(levels[:24, :64])) >= {60, 250}, "half the size, in the upper left"
    assert (levels[24:48, :64] == 114).all(), "the letterbox's own grey"
    assert (levels[48:] == pad).all() and (levels[:, 64:] == pad).all()


def test_the_padding_of_a_mirrored_letterbox_is_on_the_left():
    fitted = fit_partner(partner((96, 40)), MixupDraw(1.0, True, (0, 0)), SIZE, 0)
    assert (fitted.image[:, :88] == 114).all() and (fitted.image[:, 88:] != 114).all()


def test_the_drawn_room_says_what_is_cut_out():
    near, far = (fit_partner(partner(), MixupDraw(1.5, False, room), SIZE, 0) for room in ((0, 0), (1, 0)))
    # Of 192 columns 128 are seen; parts of pictures begin at whole pixels.
    assert far.boxes[0, 2] == pytest.approx(near.boxes[0, 2] - 64, abs=2.5)
    assert near.boxes[0, 0] == pytest.approx(48, abs=1) and far.boxes[0, 0] == 0


@pytest.mark.parametrize("room", [(0.99, 0.3), (0.9, 0.99)])
def test_a_partner_that_is_cut_away_leaves_no_label(room):
    # Zoomed, a narrow picture is 30 columns of 192 wide; the cut begins behind it.
    fitted = fit_partner(partner((96, 20)), MixupDraw(1.5, False, room), SIZE, 0)
    assert (fitted.image[..., 0] == 114).all(), "nothing but the padding of its letterbox is seen"
    assert (fitted.boxes[:, 2] == fitted.boxes[:, 0]).all() and (fitted.keypoints == 0).all()
    assert (fitted.mask == 255).all()


def test_the_partner_itself_stays_as_it_is():
    given_sample, kept = partner(), partner()
    given_sample.image.setflags(write=False)
    fit_partner(given_sample, MixupDraw(1.0, True, (0, 0)), SIZE, 0, PAIRS)
    for name in ("image", "boxes", "keypoints", "mask"):
        np.testing.assert_array_equal(getattr(given_sample, name), getattr(kept, name))


def test_draws_lie_in_their_ranges():
    rng = np.random.default_rng(0)
    drawn = [draw_mixup({"mixup_scale": [0.8, 1.6]}, rng) for _ in range(3000)]
    zooms = np.array([draw.zoom for draw in drawn])
    assert zooms.min() >= 0.8 and zooms.max() <= 1.6 and abs(zooms.mean() - 1.2) < 0.01
    assert abs(np.mean([draw.mirrored for draw in drawn]) - 0.5) < 0.03
    room = np.array([draw.room for draw in drawn])
    assert (room >= 0).all() and (room < 1).all() and (np.abs(room.mean(0) - 0.5) < 0.02).all()


def test_a_wrong_zoom_is_refused():
    with pytest.raises(ModelError, match="smaller number first"):
        draw_mixup({"mixup_scale": [1.5, 0.5]}, np.random.default_rng(0))
