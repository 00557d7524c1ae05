"""Montages: every picture once, in order, whatever their number and size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from utils.plots.montage import montage
from utils.plots.palette import class_palette


@pytest.mark.parametrize(("count", "size"), [(1, (20, 30)), (5, (480, 640)), (8, (20, 30)), (14, (900, 300))])
def test_every_picture_is_there_in_reading_order(count: int, size: tuple[int, int]) -> None:
    colours = class_palette()[:count]
    pictures = [np.full((*size, 3), colour, np.uint8) for colour in colours]
    laid = montage(pictures, [f"head {i}" for i in range(count)], most=800)
    assert max(laid.shape) <= 800 + 8
    centres = []
    for colour in colours:
        mask = (laid == colour).all(-1).astype(np.uint8)
        number, _, stats, middles = cv2.connectedComponentsWithStats(mask)
        assert number == 2
        _, _, width, height, area = stats[1].tolist()
        assert area == width * height and width / height == pytest.approx(size[1] / size[0], rel=0.02)
        assert width >= 100 or max(laid.shape) > 700
        centres.append((round(middles[1][1]), round(middles[1][0])))
    assert centres == sorted(centres)
    rows = len({y for y, _ in centres})
    assert count <= rows * len({x for _, x in centres}) < count + rows


def test_long_captions_stay_above_their_picture() -> None:
    pictures = [np.full((90, 120, 3), 7, np.uint8)] * 2
    laid = montage(pictures, ["a caption that is far too long for a narrow picture " * 3, ""])
    plain = montage(pictures, ["", ""])
    changed = np.flatnonzero((laid != plain).any((0, 2)))
    assert len(changed) and changed.max() < laid.shape[1] // 2
