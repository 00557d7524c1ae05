"""The street without its traffic: sky, hills, houses, paved ground, verges and paint, all that stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from data.synthetic.camera import Camera
from data.synthetic.canvas import SCALE, Canvas
from data.synthetic.classes import BUILDING, GRASS, ROAD, SEGMENT_NAMES, SKY
from data.synthetic.houses import House, sample_houses
from data.synthetic.light import Light
from data.synthetic.trees import Tree, sample_tree

ROAD_HALF, PAVEMENT_EDGE = 4.0, 6.4
"""Metres from the middle of the road to the kerb and to the verge."""
CROSSING_WIDTH = 7.4
"""Metres from kerb to kerb of a street that crosses."""

_NEAR, _FAR = 1.5, 150.0
_ASPHALT, _KERB, _SLABS, _PAINT, _TURF = (
    (98, 100, 106),
    (176, 172, 166),
    (152, 148, 142),
    (232, 232, 226),
    (112, 158, 70),
)
_ROUGHNESS = {SKY: 1, ROAD: 9, GRASS: 20, BUILDING: 7}
"""How far the texture of a class goes up and down, in grey levels."""


@dataclass(frozen=True)
class Street:
    """What stands still.

    Attributes:
        crossing: metres along the street where another street begins to cross it, or None.
        zebra: metres along the street where a zebra crossing begins, or None.
        houses: on both sides.
        trees: on both verges.
        texture: seed of clouds, hills and the roughness of surfaces.
    """

    crossing: float | None
    zebra: float | None
    houses: list[House]
    trees: list[Tree]
    texture: int


def sample_street(rng: np.random.Generator, crossing: float | None, zebra: float | None) -> Street:
    """Draw houses and trees along a street."""
    houses: list[House] = []
    trees: list[Tree] = []
    for side in (-1, 1):
        if crossing is None:
            houses += sample_houses(rng, side, 4.0, 75.0)
        else:
            houses += sample_houses(rng, side, 4.0, crossing - 2.5)
            houses += sample_houses(rng, side, crossing + CROSSING_WIDTH + 2.5, 75.0)
        at = float(rng.uniform(9, 18))
        while at < 48:
            if crossing is None or not -3 < at - crossing < CROSSING_WIDTH + 3:
                trees.append(sample_tree(rng, side * float(rng.uniform(7.2, 8.2)), at))
            at += float(rng.uniform(6, 22))
    return Street(crossing, zebra, houses, trees, int(rng.integers(2**31)))


def draw_street(canvas: Canvas, camera: Camera, light: Light, street: Street) -> None:
    """Draw everything but the trees, which stand between the moving things and are drawn with them."""
    rng = np.random.default_rng(street.texture)
    _draw_sky(canvas, camera, light, rng)
    _draw_skyline(canvas, camera, light, rng)
    _draw_ground(canvas, camera, light, street)
    for house in sorted(street.houses, key=lambda house: -house.near):
        house.draw(canvas, camera, light)
    _roughen(canvas, rng)


def _draw_sky(canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator) -> None:
    rows = len(canvas.colours)
    share = np.clip(np.arange(rows) / max(camera.horizon * SCALE, 1), 0, 1)[:, None]
    gradient = np.asarray(light.sky_top) * (1 - share) + np.asarray(light.sky_low) * share
    canvas.colours[:] = np.clip(gradient + 0.5, 0, 255).astype(np.uint8)[:, None]
    canvas.owners[:] = SKY
    if not light.clouds:
        return
    top = int(np.clip(camera.horizon * SCALE, 1, rows))
    # Clouds are soft, so a quarter of the resolution is enough for them.
    layer = np.zeros((-(-top // 4), -(-canvas.width * SCALE // 4)), np.uint8)
    unit = canvas.height * SCALE / 4
    for _ in range(light.clouds):
        middle = rng.uniform((0, 0.02), (canvas.width / canvas.height, 0.8 * camera.horizon / canvas.height)) * unit
        for right, up, radius in rng.uniform((-0.11, -0.012, 0.02), (0.11, 0.012, 0.05), (7, 3)) * unit:
            centre = (int(middle[0] + right), int(middle[1] + up))
            cv2.ellipse(layer, centre, (int(radius * 1.8), int(radius * 0.8)), 0, 0, 360, 150, -1)
    layer = cv2.GaussianBlur(layer, (0, 0), canvas.height / 80 * SCALE / 4)
    layer = cv2.resize(layer, (canvas.width * SCALE, top), interpolation=cv2.INTER_LINEAR_EXACT)
    white = np.rint(np.asarray(light.sky_low) * 0.4 + 255 * 0.6).astype(np.uint16)
    alpha = layer[..., None].astype(np.uint16)
    canvas.colours[:top] = (canvas.colours[:top] * (256 - alpha) + white * alpha) >> 8


def _draw_skyline(canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator) -> None:
    """Hills and far blocks on the horizon, so that the street does not end in the sky."""
    unit = canvas.height
    xs = np.linspace(-0.1, canvas.width / unit + 0.1, 40)
    hills = (
        0.055 + 0.02 * np.sin(xs * rng.uniform(3, 6) + rng.uniform(0, 6)) + 0.01 * np.sin(xs * 11 + rng.uniform(0, 6))
    )
    ridge = np.stack([xs * unit, camera.horizon - hills * unit], axis=1)
    base = np.array([(ridge[-1, 0], camera.horizon + 2), (ridge[0, 0], camera.horizon + 2)])
    canvas.fill([np.vstack([ridge, base])], light.on((94, 132, 84), 0.95, 75), GRASS)
    left = rng.uniform(0.0, 0.15)
    while left < canvas.width / unit:
        width, height = rng.uniform((0.07, 0.07), (0.14, 0.13))
        box = np.array([(left, -height), (left + width, -height), (left + width, 0.012), (left, 0.012)]) * unit
        grey = tuple((np.array((172, 166, 164)) + rng.uniform(-16, 16)).tolist())
        canvas.fill([box + np.array((0, camera.horizon))], light.on(grey, 0.92, 75), BUILDING)
        left += width + rng.uniform(0.0, 0.2)


def _draw_ground(canvas: Canvas, camera: Camera, light: Light, street: Street) -> None:
    rows = len(canvas.colours)
    top = int(np.clip(np.ceil(camera.horizon * SCALE), 0, rows - 1))
    below = np.geomspace(1, rows - top, 16)
    depths = np.minimum(camera.focal * camera.y * SCALE / below, _FAR)
    turf = np.array([light.on(_TURF, 0.94 + 0.1 * row / below[-1], d) for row, d in zip(below, depths, strict=True)])
    at = np.arange(1, rows - top + 1)
    shades = np.stack([np.interp(at, below, channel) for channel in turf.T], axis=1)
    canvas.colours[top:] = (shades + 0.5).astype(np.uint8)[:, None]
    canvas.owners[top:] = GRASS

    def strip(left: float, right: float, near: float, far: float) -> np.ndarray:
        return camera.project(np.array([(left, 0, near), (left, 0, far), (right, 0, far), (right, 0, near)], float))

    def along(left: float, right: float, colour: tuple[float, float, float], owner: int | None) -> None:
        # In pieces, because each takes the haze of its own distance.
        edges = np.geomspace(_NEAR, _FAR, 7)
        for near, far in reversed(list(pairwise(edges))):
            canvas.fill([strip(left, right, near, far)], light.on(colour, 1.0, near), owner)

    crossing = street.crossing
    for left, right, colour in ((-PAVEMENT_EDGE, PAVEMENT_EDGE, _SLABS), (-ROAD_HALF - 0.3, ROAD_HALF + 0.3, _KERB)):
        along(left, right, colour, ROAD)
    if crossing is not None:
        end = crossing + CROSSING_WIDTH
        canvas.fill([strip(-70, 70, crossing - 2.2, end + 2.2)], light.on(_SLABS, 1.0, crossing), ROAD)
        canvas.fill([strip(-70, 70, crossing - 0.3, end + 0.3)], light.on(_KERB, 1.0, crossing), ROAD)
    along(-ROAD_HALF, ROAD_HALF, _ASPHALT, ROAD)
    if crossing is not None:
        canvas.fill([strip(-70, 70, crossing, crossing + CROSSING_WIDTH)], light.on(_ASPHALT, 1.0, crossing), ROAD)
    _draw_paint(canvas, light, street, strip)


def _draw_paint(canvas: Canvas, light: Light, street: Street, strip: Callable[..., np.ndarray]) -> None:
    def is_free(near: float, far: float) -> bool:
        blocked = [] if street.crossing is None else [(street.crossing - 0.5, street.crossing + CROSSING_WIDTH + 0.5)]
        blocked += [] if street.zebra is None else [(street.zebra - 0.6, street.zebra + 2.8)]
        return all(far < low or near > high for low, high in blocked)

    for near in np.arange(2.0, 90.0, 6.0):
        if is_free(near, near + 2.8):
            canvas.fill([strip(-0.09, 0.09, near, near + 2.8)], light.on(_PAINT, 1.0, near), None)
    for near in (2.0, 4.0, 6.0, 8.0, *np.arange(9.0, 21.0), *np.arange(21.0, 51.0, 6.0)):
        far = near + (2.0 if near < 9 else 1.0 if near < 21 else 6.0)
        if is_free(near, far):
            edges = [strip(side * 3.66 - 0.07, side * 3.66 + 0.07, near, far) for side in (-1, 1)]
            canvas.fill(edges, light.on(_PAINT, 0.94, near), None)
    if street.zebra is not None:
        bars = [strip(x, x + 0.55, street.zebra, street.zebra + 2.2) for x in np.arange(-3.6, 3.3, 1.1)]
        canvas.fill(bars, light.on(_PAINT, 1.0, street.zebra), None)
    if street.crossing is not None:
        middle = street.crossing + CROSSING_WIDTH / 2
        dashes = [strip(x, x + 2.6, middle - 0.1, middle + 0.1) for x in np.arange(-40.0, 40.0, 5.0) if not -6 < x < 4]
        canvas.fill(dashes, light.on(_PAINT, 1.0, middle), None)


def _roughen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Give each class its texture; whole numbers only, so that the bytes are the same on every machine."""
    height, width = canvas.owners.shape
    coarse = rng.integers(64, 192, (height // 16 + 2, width // 16 + 2), np.uint8)
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.int16)
    fine = rng.integers(64, 192, (height // 2 + 1, width // 2 + 1), np.uint8)
    fine = cv2.resize(fine, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int16)
    strength = np.zeros(256, np.int16)
    strength[: len(SEGMENT_NAMES)] = [_ROUGHNESS.get(index, 0) for index in range(len(SEGMENT_NAMES))]
    change = (coarse + fine - 256) * strength[canvas.owners] >> 7
    canvas.colours[:] = cv2.add(canvas.colours, cv2.merge([change] * 3), dtype=cv2.CV_8U)
