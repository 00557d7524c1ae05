"""Houses along the street: facades in perspective with rows of windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.synthetic.camera import Camera, is_facing, point
from data.synthetic.canvas import Canvas, Colour
from data.synthetic.classes import BUILDING
from data.synthetic.light import Light

FRONT = 9.2
"""Metres from the middle of the road to the facades."""
_WALLS = (
    (178, 92, 74),
    (226, 206, 170),
    (206, 158, 98),
    (176, 188, 204),
    (196, 190, 182),
    (214, 164, 146),
    (150, 128, 116),
    (232, 224, 208),
)
_GLASS, _LAMP = (72, 90, 112), (255, 218, 128)
_STOREY = 3.0


@dataclass(frozen=True)
class House:
    """A block with a flat roof.

    Attributes:
        side: -1 left of the street, 1 right.
        near: metres along the street where it begins.
        far: metres along the street where it ends.
        height: in metres.
        width: metres away from the street.
        wall: RGB.
        bay: metres from window to window.
        lamps: seed of the choice of lit windows.
    """

    side: int
    near: float
    far: float
    height: float
    width: float
    wall: Colour
    bay: float
    lamps: int

    def draw(self, canvas: Canvas, camera: Camera, light: Light) -> None:
        """Draw the two walls that can be seen from the street."""
        front, back = self.side * FRONT, self.side * (FRONT + self.width)
        lamps = np.random.default_rng(self.lamps)
        gable = (point(back, 0, self.near), point(front, 0, self.near))
        street = (point(front, 0, self.near), point(front, 0, self.far))
        for wall, brightness in ((gable, 0.86), (street, 0.98 - 0.16 * self.side * light.sun)):
            # As seen from outside, walls on the left run from left to right in these orders, on the right reversed.
            start, end = wall if self.side < 0 else wall[::-1]
            self._draw_wall(canvas, camera, light, lamps, start, end, brightness)

    def _draw_wall(
        self,
        canvas: Canvas,
        camera: Camera,
        light: Light,
        lamps: np.random.Generator,
        start: np.ndarray,
        end: np.ndarray,
        brightness: float,
    ) -> None:
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length

        columns, rows = int((length - 0.6) / self.bay), int((self.height - 0.6) / _STOREY)
        middle, floor = np.meshgrid(
            (np.arange(columns) + 0.5) * (length / max(columns, 1)), np.arange(rows) * _STOREY + 1
        )
        middle, floor, half = middle.ravel(), floor.ravel(), self.bay * 0.25
        lit = lamps.random(len(middle)) < light.lit_windows
        bands = [(0, length, 0, self.height), (0, length, 0, 0.5), (0, length, self.height - 0.45, self.height)]
        frames = np.stack([middle - half - 0.12, middle + half + 0.12, floor - 0.14, floor + 1.74], axis=1)
        panes = np.stack([middle - half, middle + half, floor, floor + 1.6], axis=1)
        rectangles = np.concatenate([bands, frames, panes])
        across, up = rectangles[:, [0, 1, 1, 0], None], rectangles[:, [3, 3, 2, 2], None]
        quads = camera.project(start + across * along + up * point(0, 1, 0))
        if not is_facing(quads[0]) or quads[0, :, 0].max() < 0 or quads[0, :, 0].min() > camera.width:
            return
        depth = float(camera.depth((start + end) / 2))
        frames, panes = np.split(quads[3:], 2)
        for shapes, colour, gain in (
            (quads[:1], self.wall, brightness),
            (quads[1:2], self.wall, brightness * 0.66),
            (quads[2:3], self.wall, brightness * 0.74),
            (frames, self.wall, brightness * 1.2),
            (panes[~lit], _GLASS, brightness),
            (panes[lit], _LAMP, 1.2),
        ):
            canvas.fill(shapes, light.on(colour, gain, depth), BUILDING)


def sample_houses(rng: np.random.Generator, side: int, near: float, far: float) -> list[House]:
    """Draw a row of houses with gaps between ``near`` and ``far`` metres along the street."""
    houses, at = [], near
    while at < far - 5:
        length = min(float(rng.uniform(8, 16)), far - at)
        houses.append(
            House(
                side=side,
                near=at,
                far=at + length,
                height=float(rng.uniform(5.5, 13.5)),
                width=float(rng.uniform(8, 14)),
                wall=tuple((np.asarray(_WALLS[rng.integers(len(_WALLS))]) + rng.uniform(-10, 10, 3)).tolist()),
                bay=float(rng.uniform(2.0, 3.0)),
                lamps=int(rng.integers(2**31)),
            )
        )
        at += length + (float(rng.uniform(2, 7)) if rng.random() < 0.45 else 0.0)
    return houses
