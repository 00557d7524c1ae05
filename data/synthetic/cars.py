"""Cars: a lower body, a cabin with windows, wheels and lamps, seen from any side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic.camera import Camera, is_facing, patch, point, to_world
from data.synthetic.canvas import Canvas, Colour
from data.synthetic.classes import CAR
from data.synthetic.light import Light

PAINTS: tuple[Colour, ...] = (
    (200, 38, 40),
    (36, 84, 176),
    (236, 236, 232),
    (46, 48, 54),
    (240, 190, 40),
    (44, 128, 84),
    (168, 174, 182),
    (226, 112, 36),
    (92, 168, 206),
    (118, 36, 66),
)
_GLASS, _RUBBER, _METAL = (52, 68, 86), (26, 26, 30), (184, 188, 194)


@dataclass(frozen=True)
class Shape:
    """The measures of a kind of car in metres; positions run from -0.5 (tail) to 0.5 (nose) of its length.

    Attributes:
        length: of the car.
        width: of the car.
        waist: height of the lower body's upper edge.
        height: of the roof.
        cabin: tail and nose end of the cabin at the waist.
        roof: tail and nose end of the cabin at the roof.
    """

    length: float
    width: float
    waist: float
    height: float
    cabin: tuple[float, float]
    roof: tuple[float, float]


SHAPES = (
    Shape(4.4, 1.85, 0.92, 1.5, (-0.4, 0.24), (-0.26, 0.06)),
    Shape(3.9, 1.8, 0.96, 1.58, (-0.49, 0.24), (-0.43, 0.08)),
    Shape(4.6, 1.95, 1.1, 1.95, (-0.49, 0.34), (-0.47, 0.24)),
)


@dataclass(frozen=True)
class Car:
    """A car on the ground.

    Attributes:
        x: metres to the right of the middle of the road.
        z: metres along the street.
        heading: radians from the street's direction to the right; pi comes towards the camera.
        shape: its kind.
        paint: RGB.
    """

    x: float
    z: float
    heading: float
    shape: Shape
    paint: Colour

    kind = CAR
    room = 2.6
    """Metres around it in which nothing else stands."""

    def draw(self, canvas: Canvas, camera: Camera, light: Light, owner: int) -> None:
        """Draw the car and its shadow."""
        shape, depth = self.shape, float(camera.depth(point(self.x, 0, self.z)))
        self._draw_shadow(canvas, camera, light)
        wheels = [self._wheel(camera, along, side) for along in (-0.31, 0.31) for side in (-1, 1)]
        for hull, _, _ in wheels:
            canvas.fill([hull], light.on(_RUBBER, 1.0, depth), owner)
        floor = self._block((-0.47, 0.47), (-0.48, 0.48), 0.12, 0.3, 0.06)
        for face in floor.values():
            self._draw_floor_face(canvas, camera, light, owner, face)
        body = self._block((-0.5, 0.5), (-0.47, 0.47), 0.24, shape.waist, 0.04)
        cabin = self._block(shape.cabin, shape.roof, shape.waist, shape.height, 0.16)
        for name, face in body.items():
            self._draw_body_face(canvas, camera, light, owner, name, face)
        for _, tyre, rim in wheels:
            if is_facing(tyre[::6]):
                canvas.fill([tyre], light.on(_RUBBER, 1.0, depth), owner)
                canvas.fill([rim], light.on(_METAL, 0.95, depth), owner)
        for name, face in cabin.items():
            self._draw_cabin_face(canvas, camera, light, owner, name, face)

    def _block(
        self, base: tuple[float, float], top: tuple[float, float], low: float, high: float, inset: float
    ) -> dict[str, np.ndarray]:
        """Return the faces, name -> (4, 3) world corners from the top left as seen from outside, of a tapered block."""
        length, half = self.shape.length, self.shape.width / 2
        narrow = half - inset
        (b0, b1), (t0, t1) = np.array(base) * length, np.array(top) * length
        faces = {
            "nose": [(t1, -narrow, high), (t1, narrow, high), (b1, half, low), (b1, -half, low)],
            "tail": [(t0, narrow, high), (t0, -narrow, high), (b0, -half, low), (b0, half, low)],
            "left": [(t1, narrow, high), (t0, narrow, high), (b0, half, low), (b1, half, low)],
            "right": [(t0, -narrow, high), (t1, -narrow, high), (b1, -half, low), (b0, -half, low)],
            "top": [(t1, narrow, high), (t1, -narrow, high), (t0, -narrow, high), (t0, narrow, high)],
        }
        return {name: to_world(np.array(face), self.x, self.z, self.heading) for name, face in faces.items()}

    def _wheel(self, camera: Camera, along: float, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return outlines in pixels: the whole wheel, its outer tyre (24, 2) and its rim (24, 2)."""
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False) * side  # Clockwise as seen from its own side.
        outer = self.shape.width / 2 + 0.02
        radius = 0.35
        circle = np.stack([-np.cos(angles), np.zeros(24), -np.sin(angles)], axis=1)

        def at(reach: float, size: float) -> np.ndarray:
            centre = np.array([along * self.shape.length, side * reach, radius])
            return camera.project(to_world(circle * size + centre, self.x, self.z, self.heading))

        tyre = at(outer, radius)
        both = np.concatenate([tyre, at(outer - 0.26, radius)]).astype(np.float32)
        return cv2.convexHull(both)[:, 0].astype(np.float64), tyre, at(outer, radius * 0.55)

    def _brightness(self, name: str, light: Light) -> float:
        turned = {"nose": 0.0, "tail": np.pi, "left": -np.pi / 2, "right": np.pi / 2}
        return 1.12 if name == "top" else 0.92 + 0.16 * light.sun * float(np.sin(self.heading + turned[name]))

    def _draw_shadow(self, canvas: Canvas, camera: Camera, light: Light) -> None:
        half, reach = self.shape.width / 2, self.shape.length / 2
        corners = np.array([(-reach, -half, 0), (reach, -half, 0), (reach, half, 0), (-reach, half, 0)]) * 1.06
        spot = camera.project(to_world(corners, self.x, self.z, self.heading) - light.sun * point(0.35, 0, 0))
        canvas.fill([spot], light.on((46, 46, 52), 0.9, float(camera.depth(point(self.x, 0, self.z)))), None)

    def _draw_floor_face(self, canvas: Canvas, camera: Camera, light: Light, owner: int, face: np.ndarray) -> None:
        quad = camera.project(face)
        if is_facing(quad):
            canvas.fill([quad], light.on((38, 38, 42), 0.8, float(camera.depth(face).mean())), owner)

    def _draw_body_face(
        self, canvas: Canvas, camera: Camera, light: Light, owner: int, name: str, face: np.ndarray
    ) -> None:
        quad = camera.project(face)
        if not is_facing(quad):
            return
        depth, brightness = float(camera.depth(face).mean()), self._brightness(name, light)
        canvas.fill([quad], light.on(self.paint, brightness, depth), owner)
        if name == "top":
            return
        canvas.fill([patch(quad, 0, 0.78, 1, 1)], light.on((58, 60, 66), brightness, depth), owner)
        if name in ("nose", "tail"):
            lamp = (250, 244, 206) if name == "nose" else (214, 26, 28)
            lamps = [patch(quad, 0.04, 0.16, 0.24, 0.42), patch(quad, 0.76, 0.16, 0.96, 0.42)]
            canvas.fill(lamps, light.on(lamp, 1.1, depth), owner)
            canvas.fill([patch(quad, 0.36, 0.5, 0.64, 0.72)], light.on((232, 232, 224), 1.0, depth), owner)
            if name == "nose":
                canvas.fill([patch(quad, 0.3, 0.2, 0.7, 0.4)], light.on((40, 42, 48), 1.0, depth), owner)
        else:
            canvas.fill([patch(quad, 0.03, 0.34, 0.97, 0.4)], light.on(self.paint, brightness * 0.8, depth), owner)

    def _draw_cabin_face(
        self, canvas: Canvas, camera: Camera, light: Light, owner: int, name: str, face: np.ndarray
    ) -> None:
        quad = camera.project(face)
        if not is_facing(quad):
            return
        depth, brightness = float(camera.depth(face).mean()), self._brightness(name, light)
        canvas.fill([quad], light.on(self.paint, brightness, depth), owner)
        if name == "top":
            return
        if name in ("nose", "tail"):
            panes = [patch(quad, 0.08, 0.14, 0.92, 0.92)]
        else:
            panes = [patch(quad, 0.09, 0.16, 0.46, 0.9), patch(quad, 0.53, 0.16, 0.91, 0.9)]
        canvas.fill(panes, light.on(_GLASS, brightness, depth), owner)
        shine = [patch(pane, 0.1, 0.08, 0.42, 0.42) for pane in panes]
        canvas.fill(shine, light.on((120, 144, 168), brightness, depth), owner)


def sample_car(rng: np.random.Generator, x: float, z: float, heading: float) -> Car:
    """Draw the kind and the paint of a car at a given place."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    paint = np.asarray(PAINTS[rng.integers(len(PAINTS))]) + rng.uniform(-14, 14)
    return Car(x, z, heading, shape, tuple(np.clip(paint, 8, 248).tolist()))
