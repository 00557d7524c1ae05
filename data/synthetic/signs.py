"""Traffic signs: a pole and a round, triangular or square plate that faces the traffic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.camera import Camera, point
from data.synthetic.canvas import Canvas, Colour
from data.synthetic.classes import SIGN
from data.synthetic.light import Light

THINNEST = 3.0
"""Pixels; a pole is never drawn thinner."""


@dataclass(frozen=True)
class Plate:
    """What a sign shows.

    Attributes:
        corners: of the regular polygon; many make a circle.
        turn: radians by which the first corner is turned from straight up.
        rim: RGB of the border.
        field: RGB inside.
        symbol: RGB of the bar in the middle.
    """

    corners: int
    turn: float
    rim: Colour
    field: Colour
    symbol: Colour


_RED, _WHITE, _BLUE, _YELLOW, _BLACK = (206, 24, 32), (244, 244, 240), (24, 84, 190), (248, 204, 28), (30, 30, 34)
PLATES = (
    Plate(24, 0.0, _RED, _WHITE, _BLACK),
    Plate(24, 0.0, _RED, _RED, _WHITE),
    Plate(24, 0.0, _WHITE, _BLUE, _WHITE),
    Plate(3, 0.0, _RED, _WHITE, _BLACK),
    Plate(3, np.pi, _RED, _WHITE, _WHITE),
    Plate(4, np.pi / 4, _WHITE, _BLUE, _WHITE),
    Plate(4, 0.0, _WHITE, _YELLOW, _YELLOW),
)


@dataclass(frozen=True)
class Sign:
    """A sign at the kerb.

    Attributes:
        x: metres to the right of the middle of the road.
        z: metres along the street.
        height: of the plate's middle in metres.
        radius: of the plate in metres.
        plate: what it shows.
    """

    x: float
    z: float
    height: float
    radius: float
    plate: Plate

    kind = SIGN
    room = 0.6
    """Metres around it in which nothing else stands."""

    def draw(self, canvas: Canvas, camera: Camera, light: Light, owner: int) -> None:
        """Draw pole and plate; both are the sign's own pixels."""
        foot, middle = point(self.x, 0, self.z), point(self.x, self.height, self.z)
        depth = float(camera.depth(middle))
        pole = max(THINNEST, camera.pixels(0.15, foot))
        low, high = camera.project(foot), camera.project(middle)
        sides = np.array([(-pole / 2, 0), (pole / 2, 0)])
        canvas.fill(
            [np.concatenate([high + sides, (low + sides)[::-1]])], light.on((138, 142, 148), 0.92, depth), owner
        )
        self._disc(canvas, camera, 1.0, light.on(self.plate.rim, 1.05, depth), owner)
        self._disc(canvas, camera, 0.72, light.on(self.plate.field, 1.05, depth), owner)
        radius = camera.pixels(self.radius, middle)
        bar = high + radius * np.array([(-0.36, -0.11), (0.36, -0.11), (0.36, 0.11), (-0.36, 0.11)])
        canvas.fill([bar], light.on(self.plate.symbol, 1.05, depth), owner)

    def _disc(self, canvas: Canvas, camera: Camera, share: float, colour: Colour, owner: int) -> None:
        angles = np.linspace(0, 2 * np.pi, self.plate.corners, endpoint=False) + self.plate.turn
        # Triangles and squares of the same radius are smaller than a circle; they get the same area by eye.
        size = self.radius * share * {3: 1.24, 4: 1.14}.get(self.plate.corners, 1.0)
        flat = np.stack([np.sin(angles), np.cos(angles), np.zeros_like(angles)], axis=1) * size
        canvas.fill([camera.project(flat + point(self.x, self.height, self.z))], colour, owner)


def sample_sign(rng: np.random.Generator, x: float, z: float) -> Sign:
    """Draw the plate and the size of a sign at a given place."""
    return Sign(x, z, float(rng.uniform(1.95, 2.5)), float(rng.uniform(0.5, 0.62)), PLATES[rng.integers(len(PLATES))])
