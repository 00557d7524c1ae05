"""A pinhole camera that stands in the street, and solids that it sees.

The world is in metres: x to the right, y up, z along the street.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

NEAREST = 0.4
"""Metres; what is nearer is treated as if it were this far away, so that nothing is divided by zero."""


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and how it looks.

    Attributes:
        width: of the picture in pixels.
        height: of the picture in pixels.
        x: metres to the right of the middle of the road.
        y: metres above the ground.
        yaw: radians that it looks to the right of the street's direction.
        horizon: row of the horizon in pixels.
        focal: focal length in pixels.
    """

    width: int
    height: int
    x: float
    y: float
    yaw: float
    horizon: float
    focal: float

    @cached_property
    def _turn(self) -> tuple[float, float]:
        return math.sin(self.yaw), math.cos(self.yaw)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (..., 3) are in front of the camera, (...) in metres, at least ``NEAREST``."""
        sine, cosine = self._turn
        return np.maximum((points[..., 0] - self.x) * sine + points[..., 2] * cosine, NEAREST)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return where points (..., 3) appear, (..., 2) in pixels."""
        sine, cosine = self._turn
        per_metre = self.focal / self.depth(points)
        seen = np.empty((*points.shape[:-1], 2))
        seen[..., 0] = ((points[..., 0] - self.x) * cosine - points[..., 2] * sine) * per_metre + self.width / 2
        seen[..., 1] = (self.y - points[..., 1]) * per_metre + self.horizon
        return seen

    def pixels(self, metres: float, at: np.ndarray) -> float:
        """Return how many pixels a length has at a point (3,)."""
        return float(metres * self.focal / self.depth(at))


def point(x: float, y: float, z: float) -> np.ndarray:
    """Return a point of the world, (3,) in metres."""
    return np.array([x, y, z], np.float64)


def to_world(local: np.ndarray, x: float, z: float, heading: float) -> np.ndarray:
    """Place points of a thing that stands on the ground.

    Args:
        local: (..., 3) metres forward, left and up.
        x: of the thing.
        z: of the thing.
        heading: radians from the street's direction to the right.

    Returns:
        (..., 3) points of the world.
    """
    sine, cosine = np.sin(heading), np.cos(heading)
    forward, left, up = local[..., 0], local[..., 1], local[..., 2]
    return np.stack([x + forward * sine - left * cosine, up, z + forward * cosine + left * sine], -1)


def is_facing(quad: np.ndarray) -> bool:
    """Return whether the outside of a projected face (4, 2) is seen: its corners then run clockwise on the screen."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad.tolist()
    return (x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0) > 0


def patch(face: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return a rectangle on a face.

    Args:
        face: (4, d) corners: top left, top right, bottom right, bottom left as seen from outside.
        left: fraction of the face's width, as are the others of its sides.
        top: see ``left``.
        right: see ``left``.
        bottom: see ``left``.

    Returns:
        (4, d) corners in the same order.
    """
    across = np.array([left, right, right, left])[:, None]
    down = np.array([top, top, bottom, bottom])[:, None]
    upper = face[0] * (1 - across) + face[1] * across
    lower = face[3] * (1 - across) + face[2] * across
    return upper * (1 - down) + lower * down
