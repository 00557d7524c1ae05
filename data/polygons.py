"""Polygons around objects: parts joined into one, cut off at the edge of the picture, their extent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree


def extent(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the box (4,) x1 y1 x2 y2 around all points of polygons, each (p, 2) x y."""
    points = np.concatenate(parts)
    return np.concatenate([points.min(0), points.max(0)])


def join_polygons(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return one polygon (p, 2) for several that do not overlap, which covers what they cover.

    Each further part hangs on the first by a seam of no width between their two points that are nearest.
    """
    first, others = parts[0], parts[1:]
    if not others:
        return first
    # One tree for all parts: an area of scattered pixels has thousands.
    distances, nearest = cKDTree(first).query(np.concatenate(others))
    ends = np.cumsum([len(part) for part in others])
    seams = []
    for part, end in zip(others, ends.tolist(), strict=True):
        start = int(np.argmin(distances[end - len(part) : end]))
        seams.append((int(nearest[end - len(part) + start]), np.roll(part, -start, axis=0)))
    pieces, done = [], 0
    for seam, part in sorted(seams, key=lambda entry: entry[0]):
        pieces += [first[done : seam + 1], part, part[:1], first[seam : seam + 1]]
        done = seam + 1
    return np.concatenate([*pieces, first[done:]])


def clip_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return what of a polygon lies within a picture, (p, 2) x y in pixels; (0, 2) where nothing does.

    Parts that only the outside joins stay joined along the edge. A polygon within the picture is returned as it is.

    Args:
        points: (p, 2) x y in pixels.
        size: height and width of the picture.
    """
    height, width = size
    for axis, limit, sign in ((0, 0.0, 1.0), (0, float(width), -1.0), (1, 0.0, 1.0), (1, float(height), -1.0)):
        points = _half_plane(points, axis, limit, sign)
    return points


def _half_plane(points: np.ndarray, axis: int, limit: float, sign: float) -> np.ndarray:
    """Return what of a polygon has coordinates on that side of a limit where the sign points to."""
    depth = (points[:, axis] - limit) * sign
    inside = depth >= 0
    if inside.all() or not inside.any():
        return points if inside.all() else points[:0]
    following, next_depth = np.roll(points, -1, axis=0), np.roll(depth, -1)
    # A side that crosses the limit ends one run of points and begins another at the place where it crosses.
    crosses = inside != (next_depth >= 0)
    share = depth / np.where(crosses, depth - next_depth, 1.0)
    places = points + share[:, None] * (following - points)
    places[:, axis] = limit
    both = np.stack([points, places], axis=1).reshape(-1, 2)
    return both[np.stack([inside, crosses], axis=1).reshape(-1)]
