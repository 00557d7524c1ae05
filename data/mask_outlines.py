"""Outlines and pixels of areas: polygons along the edges of pixels, and the pixels within polygons.

A pixel belongs to a polygon if its centre lies inside by the even-odd rule, so what ``outlines_of`` draws around an
area is filled with exactly its pixels again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from scipy.spatial import cKDTree

_CROSSINGS = 1 << 20
"""Of edges with rows of pixels, which are worked out at once."""


def outlines_of(mask: np.ndarray) -> list[np.ndarray]:
    """Draw a polygon around every connected part of an area, along the edges of its pixels.

    A part with holes is one polygon too: a slit without width leads from its border to each hole and back.

    Args:
        mask: (H, W) bool.

    Returns:
        (p, 2) float64 x y of each part, p 4 or more, whole numbers; pixels that touch at a corner are one part.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return []
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # At twice the size a contour's even places are the near edges of pixels and its odd ones the far edges.
    double = np.repeat(np.repeat(window.astype(np.uint8), 2, axis=0), 2, axis=1)
    contours, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([columns[0], rows[0]], np.float64)
    edges = [_corners((contour[:, 0] + 1) // 2) + corner for contour in contours]
    parents = tree[0, :, 3].tolist()
    holes: dict[int, list[np.ndarray]] = {i: [] for i, parent in enumerate(parents) if parent < 0}
    for edge, parent in zip(edges, parents, strict=True):
        if parent >= 0:
            holes[parent].append(edge)
    return [_with_slits(edges[i], inside) for i, inside in holes.items()]


def fill_outlines(outlines: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return the (H, W) bool pixels that lie in any of the polygons.

    Args:
        outlines: (p, 2) x y in pixels, each a closed polygon.
        size: height and width; what lies outside is left out.
    """
    mask = np.zeros(size, bool)
    for outline in outlines:
        _fill(mask, np.asarray(outline, np.float64))
    return mask


def _corners(points: np.ndarray) -> np.ndarray:
    """Return a closed polygon of whole numbers without repeated points and points on straight lines."""
    points = points[(points != np.roll(points, 1, axis=0)).any(1)].astype(np.float64)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _with_slits(border: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """Join the borders of holes to the one around them, each at a near corner."""
    if not holes:
        return border
    places = cKDTree(border).query(np.stack([hole[0] for hole in holes]))[1].tolist()
    pieces, done = [], 0
    for place, hole in sorted(zip(places, holes, strict=True), key=lambda entry: entry[0]):
        pieces += [border[done : place + 1], hole, hole[:1], border[place : place + 1]]
        done = place + 1
    return np.concatenate([*pieces, border[done:]])


def _fill(mask: np.ndarray, outline: np.ndarray) -> None:
    height, width = mask.shape
    ends = np.stack([outline, np.roll(outline, -1, axis=0)], axis=1)
    # The upper end first, whichever way an edge is walked: so both ways along a slit meet the same pixels.
    ends = np.take_along_axis(ends, ends[:, :, 1].argsort(axis=1, kind="stable")[..., None], axis=1)
    first, last = np.clip(np.ceil(ends[:, :, 1] - 0.5), 0, height).astype(np.int64).T
    crossing = last > first
    if not crossing.any():
        return
    ends, first, last = ends[crossing], first[crossing], last[crossing]
    left, right = np.clip(np.floor([outline[:, 0].min(), outline[:, 0].max() + 1]), 0, width).astype(np.int64).tolist()
    top, bottom = int(first.min()), int(last.max())
    window = mask[top:bottom, left:right]
    odd = np.zeros((bottom - top, right - left + 1), np.uint8)
    # An outline that goes up and down many times has many crossings for its pixels; some at a time take little memory.
    done = np.cumsum(last - first)
    blocks = np.searchsorted(done, np.arange(0, done[-1], max(_CROSSINGS, odd.size)))
    for start, end in pairwise([*np.unique(blocks).tolist(), len(ends)]):
        odd ^= _crossed(ends[start:end], first[start:end], last[start:end], odd.shape, (top, left))
    window |= np.bitwise_xor.accumulate(odd, axis=1)[:, :-1].view(bool)


def _crossed(
    ends: np.ndarray, first: np.ndarray, last: np.ndarray, shape: tuple[int, int], corner: tuple[int, int]
) -> np.ndarray:
    """Return (H, W + 1) uint8 of a window: 1 where an odd number of edges crosses a row just left of a pixel's centre.

    Args:
        ends: (n, 2, 2) x y of the edges, the upper end first.
        first: (n,) first row that each crosses.
        last: (n,) row behind the last one.
        shape: of the result.
        corner: row and column where the window lies.
    """
    counts = last - first
    edge = np.repeat(np.arange(len(ends)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    upper, lower = ends[edge, 0], ends[edge, 1]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    columns = np.ceil(upper[:, 0] + (rows + 0.5 - upper[:, 1]) * slope - 0.5) - corner[1]
    columns = np.clip(columns, 0, shape[1] - 1).astype(np.int64)
    crossings = np.bincount((rows - corner[0]) * shape[1] + columns, minlength=shape[0] * shape[1])
    return (crossings & 1).astype(np.uint8).reshape(shape)
